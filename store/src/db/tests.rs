use sqlx::{Executor, SqlStr};

use super::*;
use crate::model::Timestamp;
use crate::testing::{TestDb, connect};

/// A file's statements are listed here when it is made.
const STATEMENTS: &[&[Statement]] = &[
    crate::accounts::STATEMENTS,
    crate::audit::STATEMENTS,
    crate::carts::STATEMENTS,
    crate::catalogue::STATEMENTS,
    crate::events::STATEMENTS,
    crate::identity::STATEMENTS,
    crate::ledger::STATEMENTS,
    crate::media::STATEMENTS,
    crate::orders::STATEMENTS,
    crate::reports::STATEMENTS,
    crate::staff::STATEMENTS,
    crate::testing::load::STATEMENTS,
];

#[tokio::test]
async fn a_url_of_another_kind_is_refused_without_quoting_it() {
    for url in
        ["mysql://root:secret@db/x", "sqlite://", "sqlite://:memory:", "postgres://u:secret@h:notaport/x"]
    {
        let error = connect(url).await.unwrap_err();
        assert!(matches!(error, StoreError::Url(_)), "{url}: {error:?}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_time_that_a_batch_shares_is_stored_as_any_other() {
    let test = TestDb::create().await;
    let Db::Sqlite(pools) = &test.db else { return };
    for text in ["2026-11-22T13:00:00Z", "2026-11-22T13:00:00.120Z", "2026-11-22T13:00:00.123456Z"] {
        let time = Timestamp::from(text.parse::<chrono::DateTime<chrono::Utc>>().unwrap());
        let (stored,): (String,) =
            sqlx::query_as("select cast($1 as text)").bind(time).fetch_one(&pools.readers).await.unwrap();
        assert_eq!(time.as_sqlite(), stored);
    }
}

#[tokio::test]
async fn a_file_is_made_with_its_folder_migrated_twice_and_synced_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/a/b/souk.db", folder.path().display());
    assert!(Db::connect_existing(&url).await.is_err());
    let db = connect(&url).await.unwrap();
    db.migrate().await.unwrap();
    db.migrate().await.unwrap();
    db.ping().await.unwrap();
    let Db::Sqlite(pools) = &db else { unreachable!() };
    let mode: (String,) = sqlx::query_as("pragma journal_mode").fetch_one(&pools.readers).await.unwrap();
    let level: (i64,) = sqlx::query_as("pragma synchronous").fetch_one(&pools.writer).await.unwrap();
    assert_eq!((mode.0.as_str(), level.0), ("wal", 2));
    db.close().await;
}

#[tokio::test]
async fn writes_of_others_are_told_from_ones_own() {
    let test = TestDb::create().await;
    let Some(before) = test.db.written_by_others().await.unwrap() else { return };
    test.category("Lamps").await;
    assert_eq!(test.db.written_by_others().await.unwrap(), Some(before));
    let other = connect(test.url()).await.unwrap();
    let category = crate::sample::SampleCategory {
        name: "Rugs".to_owned(),
        description: String::new(),
        created_at: crate::model::Timestamp::now(),
    };
    crate::sample::add_categories(&other, &[category]).await.unwrap();
    assert_ne!(test.db.written_by_others().await.unwrap(), Some(before));
}

#[tokio::test]
async fn a_disk_that_was_full_for_a_while_wedges_nothing() {
    let test = TestDb::create().await;
    let Db::Sqlite(pools) = &test.db else { return };
    // The limit is the connection's own: it stands for a disk that is full for one commit.
    sqlx::query("pragma max_page_count = 1").execute(&pools.writer).await.unwrap();
    let write = async || {
        transaction!(&test.db, tx => {
            // A table without triggers: where there are some, SQLite undoes the statement alone, and nothing wedges.
            let id = [&uuid::Uuid::new_v4().into_bytes()[..], &[0; 1 << 20]].concat();
            sqlx::query("insert into ledger_commits (id, created_at) values ($1, '')")
                .bind(id)
                .execute(tx)
                .await?;
            Ok(())
        })
    };
    let refused = write().await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_) | StoreError::Uncertain(_))), "{refused:?}");
    write().await.unwrap();
}

#[tokio::test]
async fn every_statement_is_understood_by_the_engine() {
    let test = TestDb::create().await;
    for statement in STATEMENTS.iter().copied().flatten() {
        let text = statement.on(&test.db);
        let outcome = read!(&test.db, pool => pool.prepare(SqlStr::from_static(text)).await.map(drop));
        assert!(outcome.is_ok(), "{}: {outcome:?}", statement.name);
    }
}

/// The migrations that have landed, each with the beginning of the digest by which a shop remembers it: on SQLite, on
/// Postgres. A new one gets its line when it lands; a line that stands is never changed.
const LANDED: &[(i64, &str, &str)] = &[
    (1, "4c75bf980df4bcc4e7e5d3b74da65c80", "f5479a52fc05ba77abeff9b8dcbf1090"),
    (2, "fcd6319b0849103f86b31d40d38568bd", "d53c9507ce99690a746b3148a36ae60a"),
    (3, "2a72af844809f26068235b7c7365b3ad", "a4ab36e69bc17ec863e5af53e84e7d1c"),
    (4, "6906b21e344334423d27b11dfc5b617f", "f7bd5dc77c1c25041ba9481c37841038"),
    (5, "cc6304fe95fc02f731c6c1a8954db512", "23ac10581a5e2783d58040b0232a05a1"),
];

#[test]
fn a_migration_that_has_landed_is_never_edited() {
    let digests = |migrations: &Migrator| -> Vec<(i64, String)> {
        let digest = |bytes: &[u8]| bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        migrations.iter().map(|migration| (migration.version, digest(&migration.checksum))).collect()
    };
    let landed = |of: fn(&(i64, &str, &str)) -> (i64, String)| -> Vec<_> { LANDED.iter().map(of).collect() };
    assert_eq!(
        digests(&SQLITE_MIGRATIONS),
        landed(|(version, sqlite, _)| (*version, (*sqlite).to_owned())),
        "on SQLite: a shop that was made with another text would refuse to start"
    );
    assert_eq!(
        digests(&postgres::MIGRATIONS),
        landed(|(version, _, postgres)| (*version, (*postgres).to_owned())),
        "on Postgres: a shop that was made with another text would refuse to start"
    );
}
