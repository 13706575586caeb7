//! Accounts: reading them by id.

use crate::db::{Db, StoreError, read, statements};
use crate::model::{User, UserId};

statements! {
    FIND: "select id, email, username, first_name, last_name, phone, address, date_of_birth, is_admin, is_active, \
           date_joined, last_login, bio, avatar, preferences from users where id = $1";
}

/// The account with this id.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn find(db: &Db, id: UserId) -> Result<Option<User>, StoreError> {
    Ok(read!(db, pool => sqlx::query_as(FIND.on(db)).bind(id).fetch_optional(pool).await)?)
}
