//! Accounts and their logins as rows: who there is, what their password hashes to, which refresh tokens live.
//!
//! Called by the HTTP crate and the command line. Emails and usernames are unique without regard to case; that one is
//! taken is an answer ([`Taken`]), also when two take it at once. Whoever changes an account forgets
//! [`crate::cache::Key::User`] after the call and before answering.
//!
//! A login is a *family* of refresh tokens, of which the newest alone lives; see [`rotate`].

use chrono::NaiveDate;
use uuid::Uuid;

use crate::changes::{self, Action, Author, Draft};
use crate::db::{Db, StoreError, read, statements, transaction};
use crate::model::{Timestamp, User, UserId, fold};

/// The most characters of an email address.
pub const LONGEST_EMAIL: usize = 254;

/// The columns of [`User`].
macro_rules! user_columns {
    () => {
        "id, email, username, first_name, last_name, phone, address, date_of_birth, is_admin, is_active, \
         date_joined, last_login, bio, avatar, preferences, login_generation"
    };
}

/// Which users a list holds: `$1` and `$2` as in [`UserFilter`], `$3` the words as a JSON array.
macro_rules! user_filter {
    (sqlite) => {
        "where ($1 is null or is_active = $1) and ($2 is null or is_admin = $2) and not exists ( \
             select 1 from json_each($3) as word where instr(email_folded || ' ' || username_folded || ' ' || \
                 lower(first_name) || ' ' || lower(last_name), word.value) = 0)"
    };
    (postgres) => {
        "where ($1::boolean is null or is_active = $1) and ($2::boolean is null or is_admin = $2) and not exists ( \
             select 1 from jsonb_array_elements_text($3::jsonb) as word where strpos(email_folded || ' ' || \
                 username_folded || ' ' || lower(first_name) || ' ' || lower(last_name), word) = 0)"
    };
}

statements! {
    FIND: concat!("select ", user_columns!(), " from users where id = $1");
    FIND_BY_EMAIL: concat!("select ", user_columns!(), ", password_hash from users where email_folded = $1");
    FIND_PASSWORD: "select password_hash from users where id = $1";
    TAKEN: "select coalesce(max(case when email_folded = $1 then 1 else 0 end), 0) = 1 as email, \
            coalesce(max(case when username_folded = $2 then 1 else 0 end), 0) = 1 as username \
            from users where (email_folded = $1 or username_folded = $2) and id <> $3";
    CREATE: concat!(
        "insert into users (email, email_folded, username, username_folded, password_hash, first_name, last_name, \
             phone, address, date_of_birth, is_admin, date_joined) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing returning ",
        user_columns!()
    );
    CHANGE: concat!(
        "update users set email = coalesce($2, email), email_folded = coalesce($3, email_folded), \
             username = coalesce($4, username), username_folded = coalesce($5, username_folded), \
             first_name = coalesce($6, first_name), last_name = coalesce($7, last_name), phone = coalesce($8, phone), \
             address = coalesce($9, address), date_of_birth = case when $10 then $11 else date_of_birth end, \
             bio = coalesce($12, bio), preferences = coalesce($13, preferences), \
             avatar = case when $14 then $15 else avatar end \
         where id = $1 and not exists (select 1 from users as other \
             where other.id <> $1 and (other.email_folded = $3 or other.username_folded = $5)) returning ",
        user_columns!()
    );
    SET_PASSWORD: "update users set password_hash = $2, login_generation = login_generation + $3 where id = $1";
    LIST:
        sqlite concat!("select ", user_columns!(), " from users ", user_filter!(sqlite), " order by id limit $4 offset $5"),
        postgres
            concat!("select ", user_columns!(), " from users ", user_filter!(postgres), " order by id limit $4 offset $5");
    AFTER:
        sqlite concat!("select ", user_columns!(), " from users ", user_filter!(sqlite), " and id > $4 order by id limit $5"),
        postgres
            concat!("select ", user_columns!(), " from users ", user_filter!(postgres), " and id > $4 order by id limit $5");
    COUNT:
        sqlite concat!("select count(*) from users ", user_filter!(sqlite)),
        postgres concat!("select count(*) from users ", user_filter!(postgres));
    /// The rows that make up the rule that one active admin must stay; locked, so that two changes at once queue here.
    ACTIVE_ADMINS: "select id from users where is_admin and is_active order by id", locking " for update";
    SWITCH: concat!(
        "update users set is_active = coalesce($2, is_active), is_admin = coalesce($3, is_admin) where id = $1 returning ",
        user_columns!()
    );
    /// Makes nothing for an account that was deactivated, or got another password, a moment ago: whoever is about to do
    /// that has the row locked, and ends the logins that he sees.
    CREATE_FAMILY: "insert into refresh_families (id, user_id, current_token, expires_at) \
                    select $1, id, $3, $4 from users where id = $2 and is_active \
                    and password_hash = coalesce(cast($5 as text), password_hash)",
        locking " for no key update";
    LOGGED_IN: "update users set last_login = $2 where id = $1";
    /// The condition stands twice: on Postgres the inner one is not asked again for a login that is renewed just as it
    /// runs out.
    DROP_EXPIRED: "delete from refresh_families where expires_at < $1 and id in \
                   (select id from refresh_families where expires_at < $1 order by expires_at limit 64)";
    ROTATE: "update refresh_families set current_token = $4, expires_at = $5 \
             where id = $1 and user_id = $2 and current_token = $3 and revoked_at is null \
             and exists (select 1 from users where users.id = refresh_families.user_id and users.is_active) \
             returning (select login_generation from users where users.id = refresh_families.user_id)";
    REVOKE: "update refresh_families set revoked_at = $3 where id = $1 and user_id = $2 and revoked_at is null";
    /// For the history: how a user was before.
    LOCK: concat!("select ", user_columns!(), " from users where id = $1"), locking " for no key update";
    END_ADMIN_LOGINS: "delete from admin_sessions where user_id = $1";
    REVOKE_ALL: "update refresh_families set revoked_at = $2 where user_id = $1 and revoked_at is null";
    IS_CURRENT: "select 1 from refresh_families join users on users.id = refresh_families.user_id \
                 where refresh_families.id = $1 and user_id = $2 and current_token = $3 and revoked_at is null and is_active";
}

/// An account to be made.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the contract's user")]
pub struct NewAccount {
    pub email: String,
    pub username: String,
    /// The password's hash, as PHC text.
    pub password_hash: String,
    pub first_name: String,
    pub last_name: String,
    pub phone: String,
    pub address: String,
    pub date_of_birth: Option<NaiveDate>,
    pub is_admin: bool,
}

/// A change of an account by its owner: None leaves a field as it is.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the contract's user")]
pub struct AccountChange {
    pub email: Option<String>,
    pub username: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub phone: Option<String>,
    pub address: Option<String>,
    /// `Some(None)` clears it.
    pub date_of_birth: Option<Option<NaiveDate>>,
    pub bio: Option<String>,
    pub preferences: Option<String>,
    /// `Some(None)` clears it.
    pub avatar: Option<Option<String>>,
}

/// Which of an account's unique names another one has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields are the names")]
pub struct Taken {
    pub email: bool,
    pub username: bool,
}

impl Taken {
    /// Whether either is.
    #[must_use]
    pub fn any(self) -> bool {
        self.email || self.username
    }
}

/// An account with its password's hash.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Credentials {
    /// The account.
    #[sqlx(flatten)]
    pub user: User,
    /// The password's hash, as PHC text.
    pub password_hash: String,
}

/// Which users a list holds.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// Every blank-separated word occurs in the email, the username or a name. Names are compared without regard to the
    /// case of ASCII letters only.
    pub search: Option<String>,
    /// Only those who are, or are not.
    pub is_active: Option<bool>,
    /// Only those who are, or are not.
    pub is_admin: Option<bool>,
}

/// What became of an admin's change of someone's switches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switched {
    /// It is done; this is the account now.
    Done(Box<User>),
    /// Nothing was done: no active admin would be left.
    LastAdmin,
    /// There is no such account.
    NotThere,
}

/// A refresh token as the store knows it: which login it descends from, and its own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// Whose it is.
    pub user: UserId,
    /// The login.
    pub family: Uuid,
    /// The token.
    pub id: Uuid,
}

/// The account with this id.
///
/// # Errors
/// If the database does not answer.
pub async fn find(db: &Db, id: UserId) -> Result<Option<User>, StoreError> {
    Ok(read!(db, pool => sqlx::query_as(FIND.on(db)).bind(id).fetch_optional(pool).await)?)
}

/// The account with this email, in any case, with its password's hash.
///
/// # Errors
/// If the database does not answer.
pub async fn find_by_email(db: &Db, email: &str) -> Result<Option<Credentials>, StoreError> {
    Ok(read!(db, pool => sqlx::query_as(FIND_BY_EMAIL.on(db)).bind(fold(email)).fetch_optional(pool).await)?)
}

/// The hash of a user's password.
///
/// # Errors
/// If the database does not answer.
pub async fn password_hash(db: &Db, id: UserId) -> Result<Option<String>, StoreError> {
    let row: Option<(String,)> =
        read!(db, pool => sqlx::query_as(FIND_PASSWORD.on(db)).bind(id).fetch_optional(pool).await)?;
    Ok(row.map(|row| row.0))
}

/// Which of these names an account other than `except` has.
///
/// # Errors
/// If the database does not answer.
pub async fn taken(
    db: &Db,
    email: &str,
    username: &str,
    except: Option<UserId>,
) -> Result<Taken, StoreError> {
    let nobody = UserId(0);
    Ok(read!(db, pool => sqlx::query_as(TAKEN.on(db))
        .bind(fold(email))
        .bind(fold(username))
        .bind(except.unwrap_or(nobody))
        .fetch_one(pool)
        .await)?)
}

/// Makes an account.
///
/// # Errors
/// Any [`StoreError`]; [`Taken`] inside `Ok`.
pub async fn create(db: &Db, new: &NewAccount) -> Result<Result<User, Taken>, StoreError> {
    create_with(db, new, None).await
}

/// Makes an account and begins its first login, both or neither.
///
/// # Errors
/// Any [`StoreError`]; [`Taken`] inside `Ok`.
pub async fn register(
    db: &Db,
    new: &NewAccount,
    login: FirstLogin,
) -> Result<Result<User, Taken>, StoreError> {
    create_with(db, new, Some(login)).await
}

async fn create_with(
    db: &Db,
    new: &NewAccount,
    login: Option<FirstLogin>,
) -> Result<Result<User, Taken>, StoreError> {
    let created: Option<User> = transaction!(db, tx => {
        let user: Option<User> = sqlx::query_as(CREATE.on(db))
            .bind(&new.email)
            .bind(fold(&new.email))
            .bind(&new.username)
            .bind(fold(&new.username))
            .bind(&new.password_hash)
            .bind(&new.first_name)
            .bind(&new.last_name)
            .bind(&new.phone)
            .bind(&new.address)
            .bind(new.date_of_birth)
            .bind(new.is_admin)
            .bind(Timestamp::now())
            .fetch_optional(&mut *tx)
            .await?;
        if let (Some(user), Some(login)) = (&user, login) {
            sqlx::query(CREATE_FAMILY.on(db))
                .bind(login.family)
                .bind(user.id)
                .bind(login.token)
                .bind(login.expires_at)
                .bind(None::<&str>)
                .execute(&mut *tx)
                .await?;
        }
        Ok(user)
    })?;
    match created {
        Some(user) => Ok(Ok(user)),
        None => Ok(Err(taken(db, &new.email, &new.username, None).await?)),
    }
}

/// Changes an account. None if there is no such account.
///
/// # Errors
/// Any [`StoreError`]; [`Taken`] inside `Ok`.
pub async fn change(
    db: &Db,
    id: UserId,
    change: &AccountChange,
) -> Result<Result<Option<User>, Taken>, StoreError> {
    let changed: Result<Option<User>, StoreError> = transaction!(db, tx => {
        Ok(sqlx::query_as(CHANGE.on(db))
            .bind(id)
            .bind(&change.email)
            .bind(change.email.as_deref().map(fold))
            .bind(&change.username)
            .bind(change.username.as_deref().map(fold))
            .bind(&change.first_name)
            .bind(&change.last_name)
            .bind(&change.phone)
            .bind(&change.address)
            .bind(change.date_of_birth.is_some())
            .bind(change.date_of_birth.flatten())
            .bind(&change.bio)
            .bind(&change.preferences)
            .bind(change.avatar.is_some())
            .bind(change.avatar.as_ref().and_then(Option::as_deref))
            .fetch_optional(&mut *tx)
            .await?)
    });
    match changed {
        Ok(Some(user)) => return Ok(Ok(Some(user))),
        // Taken by another connection between the check and the write, which Postgres allows.
        Ok(None) | Err(StoreError::Duplicate(_)) => {}
        Err(error) => return Err(error),
    }
    // Nobody has an empty name, so what is not changed is not found taken.
    let (email, username) = (change.email.as_deref(), change.username.as_deref());
    let taken = taken(db, email.unwrap_or_default(), username.unwrap_or_default(), Some(id)).await?;
    Ok(if taken.any() { Err(taken) } else { Ok(None) })
}

/// Stores the hash of a new password and ends every login of the user, on the administration site too.
///
/// False if there is no such user. With an admin, who is noted in the history; then access tokens are void as well, since
/// it is not their owner who has one in hand.
///
/// # Errors
/// Any [`StoreError`].
pub async fn set_password(
    db: &Db,
    id: UserId,
    password_hash: &str,
    by: Option<&Author>,
) -> Result<bool, StoreError> {
    let now = Timestamp::now();
    transaction!(db, tx => {
        let user: Option<User> = sqlx::query_as(LOCK.on(db)).bind(id).fetch_optional(&mut *tx).await?;
        let Some(user) = user else { return Ok(false) };
        sqlx::query(SET_PASSWORD.on(db)).bind(id).bind(password_hash).bind(i64::from(by.is_some())).execute(&mut *tx).await?;
        sqlx::query(REVOKE_ALL.on(db)).bind(id).bind(now).execute(&mut *tx).await?;
        sqlx::query(END_ADMIN_LOGINS.on(db)).bind(id).execute(&mut *tx).await?;
        let fields = changes::Fields::default().is("password", &"set anew");
        changes::note(tx, by, now, noted(&user, fields)).await?;
        Ok(true)
    })
}

/// A change of an account, for the history.
fn noted(user: &User, fields: changes::Fields) -> Draft {
    let label = user.email.clone();
    Draft { kind: changes::Kind::User, object_id: user.id.0, label, action: Action::Changed, fields }
}

/// One page of the users that `filter` lets through, by id, and how many there are in all.
///
/// # Errors
/// If the database does not answer.
pub async fn list(
    db: &Db,
    filter: &UserFilter,
    limit: i64,
    offset: i64,
) -> Result<(Vec<User>, i64), StoreError> {
    let words = words_of(filter);
    let (count,): (i64,) = read!(db, pool => sqlx::query_as(COUNT.on(db))
        .bind(filter.is_active)
        .bind(filter.is_admin)
        .bind(&words)
        .fetch_one(pool)
        .await)?;
    let users = read!(db, pool => sqlx::query_as(LIST.on(db))
        .bind(filter.is_active)
        .bind(filter.is_admin)
        .bind(&words)
        .bind(limit)
        .bind(offset)
        .fetch_all(pool)
        .await)?;
    Ok((users, count))
}

/// The words of a search, as the statements take them.
fn words_of(filter: &UserFilter) -> String {
    let folded = fold(filter.search.as_deref().unwrap_or_default());
    let words: Vec<_> = folded.split_whitespace().collect();
    serde_json::to_string(&words).unwrap_or_else(|_| "[]".to_owned())
}

/// The next users by id that `filter` lets through, for those who go through them all.
///
/// # Errors
/// If the database does not answer.
pub async fn after(db: &Db, filter: &UserFilter, last: UserId, limit: i64) -> Result<Vec<User>, StoreError> {
    let words = words_of(filter);
    Ok(read!(db, pool => sqlx::query_as(AFTER.on(db))
        .bind(filter.is_active)
        .bind(filter.is_admin)
        .bind(&words)
        .bind(last)
        .bind(limit)
        .fetch_all(pool)
        .await)?)
}

/// Switches an account on or off, or its rights.
///
/// Whoever is switched off loses all refresh tokens, and whoever is no active admin any more all logins of the
/// administration site. The last active admin stays one, also when two admins are at it at once. With an admin, who is
/// noted in the history.
///
/// # Errors
/// Any [`StoreError`].
pub async fn switch(
    db: &Db,
    id: UserId,
    is_active: Option<bool>,
    is_admin: Option<bool>,
    by: Option<&Author>,
) -> Result<Switched, StoreError> {
    let now = Timestamp::now();
    transaction!(db, tx => {
        let admins: Vec<(UserId,)> = sqlx::query_as(ACTIVE_ADMINS.on(db)).fetch_all(&mut *tx).await?;
        let is_one = admins.iter().any(|admin| admin.0 == id);
        let ceases = is_active == Some(false) || is_admin == Some(false);
        if is_one && ceases && admins.len() == 1 {
            return Ok(Switched::LastAdmin);
        }
        let before: Option<User> = sqlx::query_as(LOCK.on(db)).bind(id).fetch_optional(&mut *tx).await?;
        let Some(before) = before else { return Ok(Switched::NotThere) };
        let user: Option<User> = sqlx::query_as(SWITCH.on(db))
            .bind(id)
            .bind(is_active)
            .bind(is_admin)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(user) = user else { return Ok(Switched::NotThere) };
        if is_active == Some(false) {
            sqlx::query(REVOKE_ALL.on(db)).bind(id).bind(now).execute(&mut *tx).await?;
        }
        if ceases {
            sqlx::query(END_ADMIN_LOGINS.on(db)).bind(id).execute(&mut *tx).await?;
        }
        let fields = changes::Fields::default()
            .differ("is_active", &before.is_active, &user.is_active)
            .differ("is_admin", &before.is_admin, &user.is_admin);
        changes::note(tx, by, now, noted(&user, fields)).await?;
        Ok(Switched::Done(Box::new(user)))
    })
}

/// The login that comes with a new account.
#[derive(Clone, Copy, Debug)]
pub struct FirstLogin {
    /// The family of refresh tokens that it begins.
    pub family: Uuid,
    /// The id of the family's first token.
    pub token: Uuid,
    /// When that runs out.
    pub expires_at: Timestamp,
}

/// Begins a login: `token` is the first of its family, `password_hash` what the password was compared with.
///
/// False if the account was deactivated, or got another password, a moment ago.
///
/// # Errors
/// Any [`StoreError`].
pub async fn log_in(
    db: &Db,
    token: RefreshToken,
    password_hash: &str,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    transaction!(db, tx => {
        let created = sqlx::query(CREATE_FAMILY.on(db))
            .bind(token.family)
            .bind(token.user)
            .bind(token.id)
            .bind(expires_at)
            .bind(password_hash)
            .execute(&mut *tx)
            .await?;
        if created.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(LOGGED_IN.on(db)).bind(token.user).bind(now).execute(&mut *tx).await?;
        // Each login takes some of what ran out with it, so that the table does not grow for ever.
        sqlx::query(DROP_EXPIRED.on(db)).bind(now).execute(&mut *tx).await?;
        Ok(true)
    })
}

/// Puts `next` in the place of `token`, which is used up by it, and gives the generation of the user's logins.
///
/// None if `token` is not the current one of a living family: then somebody has a copy of it, and the family dies.
///
/// # Errors
/// Any [`StoreError`].
pub async fn rotate(
    db: &Db,
    token: RefreshToken,
    next: Uuid,
    expires_at: Timestamp,
) -> Result<Option<i64>, StoreError> {
    transaction!(db, tx => {
        let rotated: Option<(i64,)> = sqlx::query_as(ROTATE.on(db))
            .bind(token.family)
            .bind(token.user)
            .bind(token.id)
            .bind(next)
            .bind(expires_at)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some((generation,)) = rotated {
            return Ok(Some(generation));
        }
        sqlx::query(REVOKE.on(db))
            .bind(token.family)
            .bind(token.user)
            .bind(Timestamp::now())
            .execute(&mut *tx)
            .await?;
        Ok(None)
    })
}

/// Kills the family of a refresh token. False if it was dead already.
///
/// # Errors
/// Any [`StoreError`].
pub async fn revoke(db: &Db, token: RefreshToken) -> Result<bool, StoreError> {
    transaction!(db, tx => {
        let revoked = sqlx::query(REVOKE.on(db))
            .bind(token.family)
            .bind(token.user)
            .bind(Timestamp::now())
            .execute(&mut *tx)
            .await?;
        Ok(revoked.rows_affected() > 0)
    })
}

/// Whether this refresh token could be used now.
///
/// # Errors
/// If the database does not answer.
pub async fn is_current(db: &Db, token: RefreshToken) -> Result<bool, StoreError> {
    let row = read!(db, pool => sqlx::query(IS_CURRENT.on(db))
        .bind(token.family)
        .bind(token.user)
        .bind(token.id)
        .fetch_optional(pool)
        .await
        .map(|row| row.is_some()))?;
    Ok(row)
}

#[cfg(test)]
mod tests;
