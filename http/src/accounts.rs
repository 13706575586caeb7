//! Accounts: registering, logging in, tokens, one's own profile, and the users as admins see them (contract: Accounts).
//!
//! Register and the token calls do not look at the `Authorization` header: a client whose token ran out must be able to
//! get a new one with the old still in its hand. An unknown email, a wrong password and a deactivated account get the
//! same answer after the same time.

mod operations;

use std::net::IpAddr;

use salvo::http::StatusCode;
use salvo::{Depot, Request, Router};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use souk_store::accounts::{
    self, AccountChange, Credentials, FirstLogin, NewAccount, RefreshToken, Switched, Taken, UserFilter,
};
use souk_store::cache::Key;
use souk_store::model::{Timestamp, User, UserId};
use uuid::Uuid;

pub(crate) use self::operations::{operations, schemas};
use crate::Api;
use crate::error::ApiError;
use crate::extract::{
    self, active_user, api, base_url, client_address, media_url, require_admin, require_user,
};
use crate::fields::Fields;
use crate::metrics::Login;
use crate::page::PageQuery;
use crate::passwords::{self, Owner};
use crate::query::Query;
use crate::reply::Reply;
use crate::route::route;
use crate::tokens::{BadToken, Refresh, TICKET_LIFE};

pub(crate) const MAX_EMAIL: usize = accounts::LONGEST_EMAIL;
const MAX_USERNAME: usize = 150;
const MAX_NAME: usize = 150;
const MAX_PHONE: usize = 32;
const MAX_ADDRESS: usize = 2_000;
const MAX_BIO: usize = 2_000;
const MAX_PREFERENCES: usize = 8 * 1024;

const NOT_AN_EMAIL: &str = "Enter a valid email address.";
const NOT_A_USERNAME: &str =
    "Enter a valid username. This value may contain only letters, numbers, and @/./+/-/_ characters.";
const WRONG_CREDENTIALS: &str = "No active account found with the given credentials";

/// The routes of this file, below `/auth/api/`.
pub(crate) fn routes() -> Router {
    Router::new()
        .push(
            Router::with_path("token")
                .post(route!(log_in(req, depot)))
                .push(Router::with_path("refresh").post(route!(refresh(req, depot))))
                .push(Router::with_path("verify").post(route!(verify(req, depot)))),
        )
        .push(
            Router::with_path("profile")
                .get(route!(show_profile(req, depot)))
                .put(route!(change_profile(req, depot)))
                .patch(route!(change_profile(req, depot))),
        )
        .push(Router::with_path("register").post(route!(register(req, depot))))
        .push(Router::with_path("logout").post(route!(log_out(req, depot))))
        .push(Router::with_path("password").post(route!(change_password(req, depot))))
        .push(Router::with_path("ws-ticket").post(route!(ws_ticket(req, depot))))
        .push(
            Router::with_path("users").get(route!(list_users(req, depot))).push(
                Router::with_path("{user}")
                    .get(route!(show_user(req, depot)))
                    .patch(route!(switch_user(req, depot))),
            ),
        )
}

/// A user as the owner sees it.
#[derive(Serialize)]
struct UserView<'a> {
    id: UserId,
    email: &'a str,
    username: &'a str,
    first_name: &'a str,
    last_name: &'a str,
    phone: &'a str,
    address: &'a str,
    date_of_birth: Option<chrono::NaiveDate>,
    is_admin: bool,
    date_joined: Timestamp,
    profile: ProfileView<'a>,
}

#[derive(Serialize)]
struct ProfileView<'a> {
    bio: &'a str,
    avatar: Option<String>,
    preferences: &'a RawValue,
}

/// A user as admins see it.
#[derive(Serialize)]
struct AdminUserView<'a> {
    #[serde(flatten)]
    user: UserView<'a>,
    is_active: bool,
    last_login: Option<Timestamp>,
}

/// A user who has just registered.
#[derive(Serialize)]
struct RegisteredView<'a> {
    #[serde(flatten)]
    user: UserView<'a>,
    #[serde(flatten)]
    tokens: TokenPair,
}

#[derive(Serialize)]
struct TokenPair {
    access: String,
    refresh: String,
}

impl<'a> UserView<'a> {
    fn of(user: &'a User, req: &Request) -> Self {
        Self {
            id: user.id,
            email: &user.email,
            username: &user.username,
            first_name: &user.first_name,
            last_name: &user.last_name,
            phone: &user.phone,
            address: &user.address,
            date_of_birth: user.date_of_birth,
            is_admin: user.is_admin,
            date_joined: user.date_joined,
            profile: ProfileView {
                bio: &user.bio,
                avatar: media_url(&base_url(req), user.avatar.as_deref()),
                // Only valid JSON is stored, so it need not be taken apart again.
                preferences: serde_json::from_str(&user.preferences).unwrap_or(RawValue::NULL),
            },
        }
    }
}

impl<'a> AdminUserView<'a> {
    fn of(user: &'a User, req: &Request) -> Self {
        Self { user: UserView::of(user, req), is_active: user.is_active, last_login: user.last_login }
    }
}

impl From<BadToken> for ApiError {
    fn from(reason: BadToken) -> Self {
        Self::invalid_token(&reason.to_string())
    }
}

/// The fields that an owner may write, and whether both names are good and free. Without an owner yet they must be there.
async fn writable_fields(
    api: &Api,
    fields: &mut Fields,
    owner: Option<UserId>,
) -> Result<AccountChange, ApiError> {
    let required = owner.is_none();
    let change = AccountChange {
        email: fields.text("email").max(MAX_EMAIL).required_if(required),
        username: fields.text("username").max(MAX_USERNAME).required_if(required),
        first_name: fields.text("first_name").blank().max(MAX_NAME).optional(),
        last_name: fields.text("last_name").blank().max(MAX_NAME).optional(),
        phone: fields.text("phone").blank().max(MAX_PHONE).optional(),
        address: fields.text("address").blank().max(MAX_ADDRESS).optional(),
        date_of_birth: fields.date("date_of_birth").nullable(),
        ..AccountChange::default()
    };
    if change.email.as_deref().is_some_and(|email| !is_email(email)) {
        fields.error("email", NOT_AN_EMAIL);
    }
    if change.username.as_deref().is_some_and(|username| !is_username(username)) {
        fields.error("username", NOT_A_USERNAME);
    }
    if change.email.is_some() || change.username.is_some() {
        let (email, username) = (change.email.as_deref(), change.username.as_deref());
        let taken =
            accounts::taken(&api.db, email.unwrap_or_default(), username.unwrap_or_default(), owner).await?;
        tell_taken(fields, taken);
    }
    Ok(change)
}

/// What is wrong with the names and the password of a new account, field by field, whether they are taken or not: the
/// rules of registering for the command line, which has no form to fill in.
#[must_use]
pub fn objections(email: &str, username: &str, password: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let fields = [
        ("email", email, MAX_EMAIL, is_email(email), NOT_AN_EMAIL),
        ("username", username, MAX_USERNAME, is_username(username), NOT_A_USERNAME),
    ];
    for (field, value, most, is_good, message) in fields {
        if value.is_empty() {
            found.push((field, "This field may not be blank.".to_owned()));
        } else if value.chars().count() > most {
            found.push((field, format!("Ensure this field has no more than {most} characters.")));
        } else if !is_good || value.contains('\0') {
            found.push((field, message.to_owned()));
        }
    }
    let about_password = passwords::objections(password, Owner { email, username });
    found.extend(about_password.into_iter().map(|why| ("password", why)));
    found
}

fn tell_taken(fields: &mut Fields, taken: Taken) {
    if taken.email {
        fields.error("email", "user with this email already exists.");
    }
    if taken.username {
        fields.error("username", "A user with that username already exists.");
    }
}

/// The answer when a name was taken between the check and the write.
fn already_taken(taken: Taken) -> ApiError {
    let mut fields = Fields::default();
    tell_taken(&mut fields, taken);
    fields.finish().err().unwrap_or_else(|| ApiError::conflict("The email or the username is taken."))
}

/// Django's idea of an email address, without its quoted forms: a dotted name, `@`, and a host with a dot in it.
fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.rsplit_once('@') else { return false };
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let name_is_good = name.split('.').all(|part| !part.is_empty() && part.chars().all(is_in_name));
    let mut labels = host.split('.');
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let top_level_is_good = labels.next_back().is_some_and(|top| {
        label_is_good(top) && top.chars().count() >= 2 && !top.chars().all(|c| c.is_ascii_digit())
    });
    name_is_good && top_level_is_good && labels.clone().next().is_some() && labels.all(label_is_good)
}

fn is_username(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "@.+-_".contains(c))
}

/// Reads a new password, twice, and tells what is wrong with it for this owner.
pub(crate) fn new_password(fields: &mut Fields, owner: Owner<'_>) -> String {
    let password = fields.text("password").untrimmed().required();
    let confirmation = fields.text("password_confirm").untrimmed().required();
    if !fields.refused("password") {
        for objection in passwords::objections(&password, owner) {
            fields.error("password", objection);
        }
    }
    if !fields.refused("password") && !fields.refused("password_confirm") && password != confirmation {
        fields.non_field_error("The two password fields didn't match.");
    }
    password
}

async fn register(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let mut fields = extract::fields(req).await?;
    let account = writable_fields(api, &mut fields, None).await?;
    let (email, username) = (account.email.unwrap_or_default(), account.username.unwrap_or_default());
    let password = new_password(&mut fields, Owner { email: &email, username: &username });
    fields.finish()?;
    let new = NewAccount {
        email,
        username,
        password_hash: api.passwords.hash(password).await?,
        first_name: account.first_name.unwrap_or_default(),
        last_name: account.last_name.unwrap_or_default(),
        phone: account.phone.unwrap_or_default(),
        address: account.address.unwrap_or_default(),
        date_of_birth: account.date_of_birth.flatten(),
        is_admin: false,
    };
    let now = Timestamp::now();
    let (family, token) = (Uuid::now_v7(), Uuid::new_v4());
    let login = FirstLogin { family, token, expires_at: api.tokens.refresh_expiry(now) };
    let user = accounts::register(&api.db, &new, login).await?.map_err(already_taken)?;
    let token = RefreshToken { user: user.id, family, id: token };
    let tokens = token_pair(api, token, user.login_generation, now);
    Reply::created(&RegisteredView { user: UserView::of(&user, req), tokens })
}

async fn log_in(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let mut fields = extract::fields(req).await?;
    let email = fields.text("email").max(MAX_EMAIL).required();
    let password = fields.text("password").untrimmed().required();
    fields.finish()?;
    let begin = async |credentials| begin_login(api, &credentials).await;
    match judge(api, &email, password, client_address(req), begin).await? {
        Some(tokens) => Reply::ok(&tokens),
        None => Err(ApiError::not_authenticated_because(WRONG_CREDENTIALS)),
    }
}

/// Judges a try to log in, and counts it. What `begin` makes of the right password of an active account; None for any
/// other, after the same time, and if `begin` gives none.
pub(crate) async fn judge<T>(
    api: &Api,
    email: &str,
    password: String,
    address: Option<IpAddr>,
    begin: impl AsyncFnOnce(Credentials) -> Result<Option<T>, ApiError>,
) -> Result<Option<T>, ApiError> {
    let outcome = judge_uncounted(api, email, password, address, begin).await;
    api.metrics.logins.count(match &outcome {
        Ok(Some(_)) => Login::Succeeded,
        Ok(None) => Login::Refused,
        Err(error) if error.status() == StatusCode::TOO_MANY_REQUESTS => Login::Throttled,
        Err(_) => Login::Failed,
    });
    outcome
}

async fn judge_uncounted<T>(
    api: &Api,
    email: &str,
    password: String,
    address: Option<IpAddr>,
    begin: impl AsyncFnOnce(Credentials) -> Result<Option<T>, ApiError>,
) -> Result<Option<T>, ApiError> {
    let login = api.throttle.login(email, address);
    api.throttle.check(login).await.map_err(ApiError::throttled)?;
    let credentials = accounts::find_by_email(&api.db, email).await?;
    let hash = credentials.as_ref().map(|credentials| credentials.password_hash.clone());
    let is_right = api.passwords.verify(password, hash).await?;
    // Once more: of many tries at once no more than ten may learn whether they were right.
    api.throttle.check(login).await.map_err(ApiError::throttled)?;
    if let Some(credentials) = credentials
        && is_right
        && credentials.user.is_active
        && let Some(begun) = begin(credentials).await?
    {
        api.throttle.succeeded(login).await;
        return Ok(Some(begun));
    }
    api.throttle.failed(login).await;
    Ok(None)
}

/// The first tokens of a login; None if the account was deactivated or got another password a moment ago.
async fn begin_login(api: &Api, of: &Credentials) -> Result<Option<TokenPair>, ApiError> {
    let now = Timestamp::now();
    let token = RefreshToken { user: of.user.id, family: Uuid::now_v7(), id: Uuid::new_v4() };
    let begun =
        accounts::log_in(&api.db, token, &of.password_hash, api.tokens.refresh_expiry(now), now).await?;
    Ok(begun.then(|| token_pair(api, token, of.user.login_generation, now)))
}

fn token_pair(api: &Api, token: RefreshToken, generation: i64, now: Timestamp) -> TokenPair {
    TokenPair {
        access: api.tokens.access(token.user, generation, now),
        refresh: api.tokens.refresh(token.user, token.family, token.id, now),
    }
}

impl From<Refresh> for RefreshToken {
    fn from(token: Refresh) -> Self {
        Self { user: token.user, family: token.family, id: token.id }
    }
}

/// Rotation: the token is used up, its successor is the family's only living one.
async fn refresh(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let mut fields = extract::fields(req).await?;
    let token = fields.text("refresh").required();
    fields.finish()?;
    let now = Timestamp::now();
    let used = RefreshToken::from(api.tokens.read_refresh(&token, now)?);
    let next = RefreshToken { id: Uuid::new_v4(), ..used };
    match accounts::rotate(&api.db, used, next.id, api.tokens.refresh_expiry(now)).await? {
        Some(generation) => Reply::ok(&token_pair(api, next, generation, now)),
        None => Err(BadToken::Invalid.into()),
    }
}

/// Whether a token of either kind could be used now.
async fn verify(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let mut fields = extract::fields(req).await?;
    let token = fields.text("token").required();
    fields.finish()?;
    let now = Timestamp::now();
    match api.tokens.read_access(&token, now) {
        Ok(access) => {
            active_user(api, access).await.map_err(|error| {
                if error.status() == StatusCode::UNAUTHORIZED { BadToken::Invalid.into() } else { error }
            })?;
        }
        Err(BadToken::Expired) => return Err(BadToken::Expired.into()),
        Err(BadToken::Invalid) => {
            let token = api.tokens.read_refresh(&token, now)?;
            if !accounts::is_current(&api.db, token.into()).await? {
                return Err(BadToken::Invalid.into());
            }
        }
    }
    Reply::ok(&json!({}))
}

async fn log_out(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let mut fields = extract::fields(req).await?;
    let token = fields.text("refresh").required();
    fields.finish()?;
    let token = api.tokens.read_refresh(&token, Timestamp::now())?;
    if token.user == caller.user.id && accounts::revoke(&api.db, token.into()).await? {
        Ok(Reply::no_content())
    } else {
        Err(BadToken::Invalid.into())
    }
}

async fn ws_ticket(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let ticket = api.tickets.issue(caller.access).await.ok_or_else(ApiError::over_capacity)?;
    Reply::created(&json!({"ticket": ticket, "expires_in": TICKET_LIFE.as_secs()}))
}

async fn show_profile(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let caller = require_user(req, api(depot)).await?;
    Reply::ok(&UserView::of(&caller.user, req))
}

/// PUT and PATCH alike: fields that are left out stay as they are. A form may call the avatar `profile.avatar`, as
/// nested fields are called in forms, or `avatar`, as people do.
async fn change_profile(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let mut fields = extract::form(req, api, &caller).await?;
    let mut change = writable_fields(api, &mut fields, Some(caller.user.id)).await?;
    let mut sent = fields.image("avatar").nullable();
    fields.nested("profile", |profile| {
        change.bio = profile.text("bio").blank().max(MAX_BIO).optional();
        change.preferences = profile.object("preferences", MAX_PREFERENCES).optional();
        if let Some(within) = profile.image("avatar").nullable() {
            sent = Some(within);
        }
    });
    let refuse = |message| fields.error_within("profile", "avatar", message);
    let avatar = api.media.develop(sent, refuse).await?;
    fields.finish()?;
    let (db, id) = (api.db.clone(), caller.user.id);
    let write = async |avatar| {
        let change = AccountChange { avatar, ..change };
        let write = async move { accounts::change(&db, id, &change).await };
        let changed =
            api.handles.invalidator.write(vec![Key::User(id)], write).await?.map_err(already_taken)?;
        changed.ok_or_else(ApiError::not_found)
    };
    let user = api.media.keep(avatar, write).await?;
    Reply::ok(&UserView::of(&user, req))
}

async fn change_password(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let owner = Owner { email: &caller.user.email, username: &caller.user.username };
    let mut fields = extract::fields(req).await?;
    let current = fields.text("current_password").untrimmed().required();
    let password = new_password(&mut fields, owner);
    // What is wrong in form costs no hash, and is no guess.
    fields.finish()?;
    // A stolen access token must not become a way to guess the password.
    let tries = api.throttle.current_password(caller.user.id, client_address(req));
    api.throttle.check(tries).await.map_err(ApiError::throttled)?;
    let hash = accounts::password_hash(&api.db, caller.user.id).await?;
    let is_right = api.passwords.verify(current, hash).await?;
    api.throttle.check(tries).await.map_err(ApiError::throttled)?;
    if !is_right {
        api.throttle.failed(tries).await;
        let message = "Your current password was entered incorrectly. Please enter it again.";
        return Err(ApiError::field("current_password", message));
    }
    let hash = api.passwords.hash(password).await?;
    accounts::set_password(&api.db, caller.user.id, &hash, None).await?;
    api.throttle.succeeded(tries).await;
    Ok(Reply::no_content())
}

async fn list_users(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    require_admin(req, api).await?;
    let mut query = Query::of(req);
    let filter = UserFilter {
        search: query.text("search").map(str::to_owned),
        is_active: query.flag("is_active"),
        is_admin: query.flag("is_admin"),
    };
    query.finish()?;
    let page = PageQuery::of(req)?;
    let (users, count) = accounts::list(&api.db, &filter, page.limit(), page.offset()).await?;
    let views = users.iter().map(|user| AdminUserView::of(user, req)).collect();
    Reply::ok(&page.page(req, count, views)?)
}

async fn show_user(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    require_admin(req, api).await?;
    let user = accounts::find(&api.db, extract::id(req, "user")?).await?.ok_or_else(ApiError::not_found)?;
    Reply::ok(&AdminUserView::of(&user, req))
}

async fn switch_user(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    require_admin(req, api).await?;
    let id = extract::id(req, "user")?;
    if accounts::find(&api.db, id).await?.is_none() {
        return Err(ApiError::not_found());
    }
    let mut fields = extract::fields(req).await?;
    let is_active = fields.boolean("is_active").optional();
    let is_admin = fields.boolean("is_admin").optional();
    fields.finish()?;
    let db = api.db.clone();
    let write = async move { accounts::switch(&db, id, is_active, is_admin, None).await };
    match api.handles.invalidator.write(vec![Key::User(id)], write).await? {
        Switched::Done(user) => Reply::ok(&AdminUserView::of(&user, req)),
        Switched::LastAdmin => {
            Err(ApiError::conflict("The last active admin must stay active and an admin."))
        }
        Switched::NotThere => Err(ApiError::not_found()),
    }
}

#[cfg(test)]
mod tests;
