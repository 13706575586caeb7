//! Which files of uploaded images there are, and whether anything names them. The files themselves are the HTTP crate's.
//!
//! A row is stored before its file is written ([`begin`]) and deleted after the file ([`forget`]), so no crash leaves a
//! file that no row knows. That a product, category or user names a file, or does so no more, is noted by triggers of
//! the schema, in the transaction that changes them. So a file may be removed if and only if its row says `dropped`, and
//! what waits too long to be used becomes that ([`sweepable`]): whoever names it afterwards is refused by the database.

use crate::db::{Db, StoreError, read, statements, transaction};
use crate::model::Timestamp;

/// How long a file may wait to be used, in seconds: far longer than any request lives that could name it.
const PENDING_LIFE_SECONDS: i64 = 15 * 60;

/// How many files one look finds at most.
const SWEPT_AT_ONCE: i64 = 200;

statements! {
    BEGIN: "insert into media_files (name, created_at) values ($1, $2)";
    /// Only while it waits: once something names it, it stays.
    ABANDON: "update media_files set state = 'dropped' where name = $1 and state = 'pending'";
    ABANDON_OLD: "update media_files set state = 'dropped' where name in (select name from media_files \
                  where state = 'pending' and created_at < $1 order by created_at limit 1000) and state = 'pending'";
    OLD: "select count(*) from media_files where state = 'pending' and created_at < $1";
    DROPPED: "select name from media_files where state = 'dropped' order by created_at limit $1";
    FORGET: "delete from media_files where name = $1 and state = 'dropped'";
}

/// Notes that a file of this name will be written; before it is.
///
/// # Errors
/// Any [`StoreError`].
pub async fn begin(db: &Db, name: &str) -> Result<(), StoreError> {
    transaction!(db, tx => {
        sqlx::query(BEGIN.on(db)).bind(name).bind(Timestamp::now()).execute(tx).await?;
        Ok(())
    })
}

/// Gives up a file that nothing names yet; does nothing to one that is named.
///
/// # Errors
/// Any [`StoreError`]; then it is found when it has waited too long.
pub async fn abandon(db: &Db, name: &str) -> Result<(), StoreError> {
    transaction!(db, tx => {
        sqlx::query(ABANDON.on(db)).bind(name).execute(tx).await?;
        Ok(())
    })
}

/// Some files that nothing names and nothing will, to be removed.
///
/// # Errors
/// Any [`StoreError`].
pub async fn sweepable(db: &Db) -> Result<Vec<String>, StoreError> {
    let limit = Timestamp::now().plus_seconds(-PENDING_LIFE_SECONDS);
    let (old,): (i64,) = read!(db, pool => sqlx::query_as(OLD.on(db)).bind(limit).fetch_one(pool).await)?;
    if old > 0 {
        transaction!(db, tx => {
            sqlx::query(ABANDON_OLD.on(db)).bind(limit).execute(tx).await?;
            Ok(())
        })?;
    }
    let rows: Vec<(String,)> =
        read!(db, pool => sqlx::query_as(DROPPED.on(db)).bind(SWEPT_AT_ONCE).fetch_all(pool).await)?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Forgets a file that has been removed.
///
/// # Errors
/// Any [`StoreError`]; then it is found again.
pub async fn forget(db: &Db, name: &str) -> Result<(), StoreError> {
    transaction!(db, tx => {
        sqlx::query(FORGET.on(db)).bind(name).execute(tx).await?;
        Ok(())
    })
}

#[cfg(test)]
mod tests;
