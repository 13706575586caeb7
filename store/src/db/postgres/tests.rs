//! What can be said of Postgres with any server, and what only a real one shows: those tests do nothing on SQLite.

use std::collections::BTreeSet;

use super::*;
use crate::db::{Db, read, transaction};
use crate::testing::{TestDb, connect};

#[test]
fn a_server_before_postgres_15_is_too_old() {
    for version in [150_000, 150_014, 160_003, 180_001] {
        assert_eq!(is_new_enough(version), Ok(()));
    }
    for (version, name) in [(90_624, "9.6"), (140_003, "14.3"), (130_022, "13.22")] {
        let reason = is_new_enough(version).unwrap_err();
        assert!(reason.ends_with(name) && reason.contains("15 or newer"), "{reason}");
    }
}

#[test]
fn names_are_quoted_as_sql_wants_them() {
    assert_eq!(quoted("souk"), "\"souk\"");
    assert_eq!(quoted("a \"b\""), "\"a \"\"b\"\"\"");
}

/// A database of its own, and its pool; none on SQLite.
async fn on_postgres() -> Option<(TestDb, PostgresPool)> {
    let test = TestDb::create().await;
    let Db::Postgres(pool) = test.db.clone() else { return None };
    Some((test, pool))
}

async fn number(db: &Db, statement: &'static str) -> Result<i64, StoreError> {
    let (number,): (i64,) = read!(db, pool => query_as(statement).fetch_one(pool).await)?;
    Ok(number)
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_given_up_and_does_no_harm() {
    let Some((test, pool)) = on_postgres().await else { return };
    let began = Instant::now();
    let slow = number(&test.db, "select 1::bigint from pg_sleep(60)").await;
    assert!(matches!(slow, Err(StoreError::Unavailable(_))), "{slow:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(number(&test.db, "select 2::bigint").await.unwrap(), 2);
    assert!(pool.health.trusts(Duration::MAX), "the server answered, so nothing was lost");
}

#[tokio::test]
async fn a_transaction_that_is_left_half_way_is_rolled_back_and_its_connection_closed() {
    let Some((test, pool)) = on_postgres().await else { return };
    let insert = "insert into ledger_commits (id, created_at) values (gen_random_uuid(), now())";
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query(insert).execute(&mut *transaction).await.unwrap();
    let used = pool.in_use().connections;
    drop(transaction);
    let closed = async {
        while pool.in_use().connections == used {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), closed).await.unwrap();
    assert_eq!(number(&test.db, "select count(*) from ledger_commits").await.unwrap(), 0);
    // As when the caller ran out of time: the future is dropped in the middle of a statement.
    let endless = async {
        transaction!(&test.db, tx => {
            sqlx::query(insert).execute(&mut *tx).await?;
            sqlx::query("select pg_sleep(60)").execute(&mut *tx).await?;
            Ok(())
        })
    };
    assert!(timeout(Duration::from_millis(300), endless).await.is_err());
    assert_eq!(number(&test.db, "select count(*) from ledger_commits").await.unwrap(), 0);
}

#[tokio::test]
async fn one_lost_connection_is_enough_to_replace_them_all() {
    let Some((test, _)) = on_postgres().await else { return };
    let together = || async {
        let slowly = || number(&test.db, "select 1::bigint from pg_sleep(0.2)");
        tokio::join!(slowly(), slowly(), slowly(), slowly())
    };
    let (a, b, c, d) = together().await;
    assert!([a, b, c, d].iter().all(Result::is_ok));
    let mut other = PgConnection::connect(test.url()).await.unwrap();
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
        .execute(&mut other)
        .await
        .unwrap();
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(number(&test.db, "select 1::bigint").await.is_err());
    }
    assert!(refused <= 1, "{refused} of 20 met a dead connection");
}

#[tokio::test]
async fn rights_that_are_missing_are_told_with_what_to_run() {
    let Some((test, _)) = on_postgres().await else { return };
    let mut boss = PgConnection::connect(test.url()).await.unwrap();
    let role = format!("clerk_{}", uuid::Uuid::new_v4().simple());
    let run = async |boss: &mut PgConnection, statement: String| {
        raw_sql(sqlx::AssertSqlSafe(statement)).execute(boss).await.unwrap();
    };
    run(&mut boss, format!("create role {role} login password 'hunter2-hunter2'")).await;
    run(
        &mut boss,
        "drop schema public cascade; create schema public; grant usage on schema public to public".to_owned(),
    )
    .await;
    let (_, rest) = test.url().split_once('@').unwrap();
    let url = format!("postgres://{role}:hunter2-hunter2@{rest}");
    let clerk = connect(&url).await.unwrap();
    let refused = async || match clerk.migrate().await {
        Err(StoreError::Unusable(reason)) => {
            assert!(!reason.contains("hunter2") && !reason.contains('\n'), "{reason}");
            reason
        }
        other => panic!("{other:?}"),
    };
    let grant = format!("grant create, usage on schema public to \"{role}\";");
    let reason = refused().await;
    assert!(reason.contains("create extension pg_trgm;") && reason.contains(&grant), "{reason}");
    run(&mut boss, grant.clone()).await;
    let reason = refused().await;
    assert!(reason.contains("create extension pg_trgm;") && !reason.contains(&grant), "{reason}");
    // As it says.
    run(&mut boss, "create extension pg_trgm".to_owned()).await;
    clerk.migrate().await.unwrap();
    clerk.close().await;
    run(&mut boss, format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_told_in_a_line_without_the_password() {
    let Some((test, _)) = on_postgres().await else { return };
    let (scheme_and_user, place) = test.url().split_once('@').unwrap();
    let (user, password) = scheme_and_user.trim_start_matches("postgres://").split_once(':').unwrap();
    let (address, _) = place.split_once('/').unwrap();
    for (url, reason) in [
        (format!("postgres://{user}:hunter2@{place}"), "with this password"),
        (format!("postgres://nobody:{password}@{place}"), "no user \"nobody\""),
        (format!("{scheme_and_user}@{address}/nowhere"), "no database \"nowhere\""),
        // A port that nobody listens on.
        (format!("{scheme_and_user}@127.0.0.1:1/souk"), "127.0.0.1:1 cannot be reached"),
        (
            format!("{scheme_and_user}@no-such-host.invalid:5432/souk"),
            "no-such-host.invalid:5432 cannot be reached",
        ),
    ] {
        let told = connect(&url).await.unwrap_err();
        assert!(matches!(told, StoreError::Unusable(_)), "{told:?}");
        let told = told.to_string();
        assert!(told.contains(reason) && !told.contains('\n'), "{told}");
        assert!(!told.contains("hunter2") && !told.contains(password), "{told}");
    }
}

/// A schema in words: what both engines can say of it, so that the two can be compared.
type Schema = BTreeSet<String>;

/// What one engine needs and the other does not, each with its reason.
const ONLY_ONE: [&str; 9] = [
    // On Postgres triggers look after the far side, and the ledger's locks after this one.
    "reference orders.user_id to users.id on delete no action",
    "reference order_items.order_id to orders.id on delete cascade",
    "reference stock_movements.product_id to products.id on delete cascade",
    "reference inboxes.user_id to users.id on delete cascade",
    "reference events.user_id to users.id on delete cascade",
    "reference idempotency_keys.user_id to users.id on delete cascade",
    // Finds by trigrams; on SQLite a virtual table of that name does.
    "index product_search on products (search_text)",
    // For lists by trigrams, which Postgres puts together by bitmaps.
    "index products_prices on products (id, price)",
    // Postgres reads the rows, which it must look at anyway.
    "index products_sold_out on products (id, is_active, category_id, featured, price)",
];

const SQLITE_SCHEMA: [&str; 5] = [
    "select 'column ' || t.name || '.' || c.name || ' ' || case lower(c.type) when 'integer' then 'bigint' \
         when 'blob' then 'bytes' when 'datetime' then 'time' else lower(c.type) end \
         || case when c.\"notnull\" or c.pk then ' not null' else '' end || coalesce(' default ' || c.dflt_value, '') \
     from tables t, pragma_table_xinfo(t.name) c where c.hidden = 0",
    "select 'unique ' || t.name || ' (' || \
         (select group_concat(k.name, ', ' order by k.seqno) from pragma_index_info(i.name) k) || ')' \
     from tables t, pragma_index_list(t.name) i where i.\"unique\"",
    "select 'unique ' || t.name || ' (' || c.name || ')' from tables t, pragma_table_info(t.name) c \
     where c.pk and lower(c.type) = 'integer' and not exists \
         (select 1 from pragma_index_list(t.name) i where i.origin = 'pk')",
    "select 'index ' || i.name || ' on ' || t.name || ' (' || \
         (select group_concat(k.name, ', ' order by k.seqno) from pragma_index_info(i.name) k) || ')' \
     from tables t, pragma_index_list(t.name) i where i.origin = 'c'",
    "select 'reference ' || t.name || '.' || f.\"from\" || ' to ' || f.\"table\" || '.' || f.\"to\" \
         || ' on delete ' || lower(f.on_delete) from tables t, pragma_foreign_key_list(t.name) f",
];

const SQLITE_TABLES: &str = "with tables as (select name from sqlite_master where type = 'table' \
    and name not like 'sqlite_%' and name not like '\\_%' escape '\\' and name not like 'product\\_%' escape '\\') ";

const POSTGRES_SCHEMA: [&str; 4] = [
    "select 'column ' || table_name || '.' || column_name || ' ' || case data_type when 'uuid' then 'bytes' \
         when 'bytea' then 'bytes' when 'timestamp with time zone' then 'time' else data_type end \
         || case when is_nullable = 'NO' then ' not null' else '' end \
         || coalesce(' default ' || replace(column_default, '::text', ''), '') \
     from information_schema.columns where table_schema = 'public' and table_name not like '\\_%'",
    "select 'unique ' || i.indrelid::regclass || ' (' || columns || ')' from indexes i where i.indisunique",
    "select 'index ' || i.indexrelid::regclass || ' on ' || i.indrelid::regclass || ' (' || columns || ')' \
     from indexes i where not i.indisunique",
    "select 'reference ' || c.conrelid::regclass || '.' || a.attname || ' to ' || c.confrelid::regclass || '.' \
         || b.attname || ' on delete ' || case c.confdeltype when 'c' then 'cascade' when 'a' then 'no action' \
         else c.confdeltype::text end \
     from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1] \
     join pg_attribute b on b.attrelid = c.confrelid and b.attnum = c.confkey[1] where c.contype = 'f'",
];

/// The columns that are only included are named as well: on SQLite they are columns like the others.
const POSTGRES_INDEXES: &str = "with indexes as (select i.*, (select string_agg(a.attname, ', ' order by k.place) \
    from unnest(i.indkey::int2[]) with ordinality k (number, place) \
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number) as columns \
    from pg_index i join pg_class c on c.oid = i.indrelid \
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname not like '\\_%') ";

#[tokio::test]
async fn the_two_schemas_agree() {
    let Some((test, pool)) = on_postgres().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let sqlite = connect(&format!("sqlite://{}/souk.db", folder.path().display())).await.unwrap();
    sqlite.migrate().await.unwrap();
    let Db::Sqlite(pools) = &sqlite else { unreachable!() };
    let (mut on_sqlite, mut on_postgres) = (Schema::new(), Schema::new());
    for part in SQLITE_SCHEMA {
        let text = sqlx::AssertSqlSafe(format!("{SQLITE_TABLES}{part}"));
        let rows: Vec<(String,)> = query_as(text).fetch_all(&pools.readers).await.unwrap();
        on_sqlite.extend(rows.into_iter().map(|row| row.0));
    }
    for part in POSTGRES_SCHEMA {
        let text = sqlx::AssertSqlSafe(format!("{POSTGRES_INDEXES}{part}"));
        let rows: Vec<(String,)> = query_as(text).fetch_all(&pool).await.unwrap();
        on_postgres.extend(rows.into_iter().map(|row| row.0));
    }
    assert!(on_sqlite.len() > 100, "the schema was not understood: {on_sqlite:#?}");
    let differences: BTreeSet<&str> =
        on_sqlite.symmetric_difference(&on_postgres).map(String::as_str).collect();
    assert_eq!(differences, BTreeSet::from(ONLY_ONE), "said by one engine only");
    drop(test);
    sqlite.close().await;
}
