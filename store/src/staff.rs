//! Logins of the administration site: who is signed in there, since when, and until when.
//!
//! A row belongs to all nodes and outlives a restart. It is found only while its user is an active admin, and goes with
//! the password that it began with: whoever changes a password, deactivates or demotes somebody deletes the rows in the
//! same transaction (`accounts`). Only the site's `session` calls this.

use crate::db::{Db, StoreError, read, statements, transaction};
use crate::model::{Timestamp, User, UserId};

/// How long a login may be idle, in seconds.
pub const IDLE_SECONDS: i64 = 30 * 60;

/// How long a login lasts at most, in seconds.
pub const LIFE_SECONDS: i64 = 12 * 60 * 60;

/// How old the row's time may grow before it is written anew, in seconds.
const TOUCH_AFTER_SECONDS: i64 = 60;

/// What tells a login: the SHA-256 digest of its cookie's token.
pub type Digest = [u8; 32];

statements! {
    /// Makes nothing for who has ceased to be an active admin, or has got another password, a moment ago.
    BEGIN: "insert into admin_sessions (token_digest, user_id, begun_at, seen_at) \
            select $1, id, $4, $4 from users where id = $2 and is_active and is_admin and password_hash = $3",
        locking " for no key update";
    LOGGED_IN: "update users set last_login = $2 where id = $1";
    DROP_OLD: "delete from admin_sessions where seen_at <= $1 and token_digest in \
               (select token_digest from admin_sessions where seen_at <= $1 order by seen_at limit 64)";
    FIND: "select u.id, u.email, u.username, u.first_name, u.last_name, u.phone, u.address, u.date_of_birth, \
               u.is_admin, u.is_active, u.date_joined, u.last_login, u.bio, u.avatar, u.preferences, \
               u.login_generation, s.seen_at, s.begun_at \
           from admin_sessions s join users u on u.id = s.user_id \
           where s.token_digest = $1 and s.seen_at > $2 and s.begun_at > $3 and u.is_active and u.is_admin";
    TOUCH: "update admin_sessions set seen_at = $2 where token_digest = $1 and seen_at < $2";
    END: "delete from admin_sessions where token_digest = $1";
}

/// A login that holds.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Login {
    /// Who is signed in: an active admin.
    #[sqlx(flatten)]
    pub user: User,
    /// When it was last written down that they did something.
    pub seen_at: Timestamp,
    /// When they signed in.
    pub begun_at: Timestamp,
}

impl Login {
    /// Whether it is time for [`touch`].
    #[must_use]
    pub fn is_to_be_touched(&self, now: Timestamp) -> bool {
        self.seen_at.plus_seconds(TOUCH_AFTER_SECONDS) <= now
    }
}

/// Begins a login. False if the user is no active admin any more, or the password is not the one that was compared.
///
/// # Errors
/// Any [`StoreError`].
pub async fn begin(
    db: &Db,
    token: &Digest,
    user: UserId,
    password_hash: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    transaction!(db, tx => {
        let begun = sqlx::query(BEGIN.on(db))
            .bind(&token[..])
            .bind(user)
            .bind(password_hash)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        if begun.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(LOGGED_IN.on(db)).bind(user).bind(now).execute(&mut *tx).await?;
        // Each login takes some of what ran out with it, so that the table does not grow for ever.
        sqlx::query(DROP_OLD.on(db)).bind(now.plus_seconds(-IDLE_SECONDS)).execute(&mut *tx).await?;
        Ok(true)
    })
}

/// The login with this token, if it holds.
///
/// # Errors
/// If the database does not answer.
pub async fn find(db: &Db, token: &Digest, now: Timestamp) -> Result<Option<Login>, StoreError> {
    Ok(read!(db, pool => sqlx::query_as(FIND.on(db))
        .bind(&token[..])
        .bind(now.plus_seconds(-IDLE_SECONDS))
        .bind(now.plus_seconds(-LIFE_SECONDS))
        .fetch_optional(pool)
        .await)?)
}

/// Writes down that the user of this login did something.
///
/// # Errors
/// Any [`StoreError`].
pub async fn touch(db: &Db, token: &Digest, now: Timestamp) -> Result<(), StoreError> {
    transaction!(db, tx => {
        sqlx::query(TOUCH.on(db)).bind(&token[..]).bind(now).execute(tx).await?;
        Ok(())
    })
}

/// Ends a login.
///
/// # Errors
/// Any [`StoreError`].
pub async fn end(db: &Db, token: &Digest) -> Result<(), StoreError> {
    transaction!(db, tx => {
        sqlx::query(END.on(db)).bind(&token[..]).execute(tx).await?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{self, NewAccount};
    use crate::testing::TestDb;

    async fn admin(db: &Db) -> User {
        for name in ["anna", "second"] {
            let new = NewAccount {
                email: format!("{name}@example.com"),
                username: name.to_owned(),
                password_hash: "hash".to_owned(),
                is_admin: true,
                ..NewAccount::default()
            };
            accounts::create(db, &new).await.unwrap().unwrap();
        }
        accounts::find_by_email(db, "anna@example.com").await.unwrap().unwrap().user
    }

    #[tokio::test]
    async fn a_login_ends_when_it_is_idle_and_after_half_a_day() {
        let test = TestDb::create().await;
        let (db, anna, now) = (&test.db, admin(&test.db).await, Timestamp::now());
        let token = [7; 32];
        assert!(!begin(db, &token, anna.id, "another hash", now).await.unwrap());
        assert!(begin(db, &token, anna.id, "hash", now).await.unwrap());
        let found = async |after: i64| find(db, &token, now.plus_seconds(after)).await.unwrap();
        assert_eq!(found(0).await.unwrap().user.id, anna.id);
        assert!(found(IDLE_SECONDS - 1).await.is_some());
        assert!(found(IDLE_SECONDS).await.is_none());
        assert!(!found(59).await.unwrap().is_to_be_touched(now.plus_seconds(59)));
        for minute in (1..12 * 60).step_by(20) {
            assert!(found(minute * 60).await.unwrap().is_to_be_touched(now.plus_seconds(minute * 60)));
            touch(db, &token, now.plus_seconds(minute * 60)).await.unwrap();
        }
        assert!(found(LIFE_SECONDS - 1).await.is_some());
        assert!(found(LIFE_SECONDS).await.is_none());
        end(db, &token).await.unwrap();
        assert!(found(0).await.is_none());
    }

    #[tokio::test]
    async fn a_login_goes_with_the_rights_and_the_password_it_began_with() {
        let test = TestDb::create().await;
        let (db, anna, now) = (&test.db, admin(&test.db).await, Timestamp::now());
        for (number, is_active, is_admin) in [(1, Some(false), None), (2, None, Some(false))] {
            assert!(begin(db, &[number; 32], anna.id, "hash", now).await.unwrap());
            accounts::switch(db, anna.id, is_active, is_admin, None).await.unwrap();
            assert!(!begin(db, &[9; 32], anna.id, "hash", now).await.unwrap());
            accounts::switch(db, anna.id, Some(true), Some(true), None).await.unwrap();
            assert!(find(db, &[number; 32], now).await.unwrap().is_none(), "it does not come back to life");
        }
        assert!(begin(db, &[3; 32], anna.id, "hash", now).await.unwrap());
        accounts::set_password(db, anna.id, "another hash", None).await.unwrap();
        assert!(find(db, &[3; 32], now).await.unwrap().is_none());
    }
}
