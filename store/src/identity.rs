//! What tells this shop from every other: a text that the database keeps, made when a node first asks for it.
//!
//! The nodes of one shop may know its database by different names, and two shops may share one Redis; so whatever is
//! kept outside the database is kept under this. Asked for once, at the start.

use uuid::Uuid;

use crate::db::{Db, StoreError, statements, transaction};

statements! {
    KEEP: "insert into shop_identity (only_one, id) values (1, $1) on conflict (only_one) do nothing";
    FIND: "select id from shop_identity where only_one = 1";
}

/// The shop's identity; whichever node asks first decides it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;

    #[tokio::test]
    async fn a_shop_keeps_its_identity_and_no_other_has_it() {
        let (shop, other) = (TestDb::create().await, TestDb::create().await);
        let (one, two) = tokio::join!(of(&shop.db), of(&shop.db));
        let id = one.unwrap();
        assert_eq!(id, two.unwrap());
        assert_eq!(id, of(&shop.db).await.unwrap());
        assert_ne!(id, of(&other.db).await.unwrap());
    }
}
