//! What tells this shop from every other: a text that the database keeps, made when somebody first asks for it.
//!
//! The nodes of one shop may know its database by different names, and two shops may share one Redis; so whatever is
//! kept outside the database is kept under this identity. Asked for once, at the start.
//!
//! Beside it stands a number that rises when somebody wrote who cannot tell the nodes of it otherwise: commands that run
//! beside them, and a node that lost its Redis while others did not. They look at it once a second. On SQLite the file
//! itself tells as much (`Db::written_by_others`).

use uuid::Uuid;

use crate::db::{Db, StoreError, read, statements, transaction};

statements! {
    KEEP: "insert into shop_identity (only_one, id) values (1, $1) on conflict (only_one) do nothing";
    FIND: "select id from shop_identity where only_one = 1";
    ANNOUNCE: "update shop_identity set untold_changes = untold_changes + 1";
    COUNT: "select untold_changes from shop_identity";
}

/// The shop's identity; whoever asks first decides it.
///
/// # Errors
/// Any [`StoreError`].
pub async fn of(db: &Db) -> Result<String, StoreError> {
    let new = Uuid::new_v4().simple().to_string();
    transaction!(db, tx => {
        sqlx::query(KEEP.on(db)).bind(&new).execute(&mut *tx).await?;
        let (id,): (String,) = sqlx::query_as(FIND.on(db)).fetch_one(tx).await?;
        Ok(id)
    })
}

/// Lets all nodes know that something was written of which they were not told.
///
/// # Errors
/// Any [`StoreError`]; then they do not know.
pub async fn announce(db: &Db) -> Result<(), StoreError> {
    let new = Uuid::new_v4().simple().to_string();
    transaction!(db, tx => {
        sqlx::query(KEEP.on(db)).bind(&new).execute(&mut *tx).await?;
        sqlx::query(ANNOUNCE.on(db)).execute(tx).await?;
        Ok(())
    })
}

/// A number that changes with every [`announce`], and on SQLite with everything that another process commits.
///
/// # Errors
/// Any [`StoreError`].
pub async fn untold_changes(db: &Db) -> Result<i64, StoreError> {
    if let Some(number) = db.written_by_others().await? {
        return Ok(number);
    }
    let row: Option<(i64,)> = read!(db, pool => sqlx::query_as(COUNT.on(db)).fetch_optional(pool).await)?;
    Ok(row.map_or(0, |(number,)| number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestDb, connect};

    #[tokio::test]
    async fn a_shop_keeps_its_identity_and_no_other_has_it() {
        let (shop, other) = (TestDb::create().await, TestDb::create().await);
        let (one, two) = tokio::join!(of(&shop.db), of(&shop.db));
        let id = one.unwrap();
        assert_eq!(id, two.unwrap());
        assert_eq!(id, of(&shop.db).await.unwrap());
        assert_ne!(id, of(&other.db).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_announced_is_noticed_by_others() {
        let shop = TestDb::create().await;
        let other = connect(shop.url()).await.unwrap();
        let before = untold_changes(&other).await.unwrap();
        assert_eq!(untold_changes(&other).await.unwrap(), before);
        announce(&shop.db).await.unwrap();
        let once = untold_changes(&other).await.unwrap();
        announce(&shop.db).await.unwrap();
        let twice = untold_changes(&other).await.unwrap();
        assert!(before != once && once != twice, "{before} {once} {twice}");
        other.close().await;
    }
}
