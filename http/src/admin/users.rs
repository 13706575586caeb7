//! Users: the list with its search, one with what an admin may do to the account, and their orders.
//!
//! The rules are those of the API: the last active admin stays one, and whoever is deactivated is out at once. A new
//! password ends every login of its user, and voids his access tokens.

use askama::Template;
use salvo::http::StatusCode;
use salvo::{Depot, Request, Router};
use souk_store::accounts::{self, Switched, UserFilter};
use souk_store::cache::Key;
use souk_store::changes::Kind;
use souk_store::model::{User, UserId};
use souk_store::orders::{self, OrderQuery};

use super::export;
use super::form::Sheet;
use super::history::{self, Entry};
use super::list::{Choice, Pager, Paging, filters, link};
use super::orders::{Row, rows};
use super::page::{Flash, Layout, Page};
use super::session::{form, staff};
use super::view::{amount, count, status, when};
use crate::accounts::new_password;
use crate::error::ApiError;
use crate::extract::{api, id};
use crate::passwords::Owner;
use crate::route::route;

pub(super) const LIST: &str = "/admin/users/";

/// How many orders a user's page shows.
const ORDERS: i64 = 10;

/// The routes of this file.
pub(super) fn routes() -> Router {
    Router::with_path("users")
        .get(route!(list(req, depot)))
        .push(Router::with_path("export").get(route!(export::of_users(req, depot, res))))
        .push(
            Router::with_path("{user}")
                .get(route!(show(req, depot)))
                .push(Router::with_path("switch").post(route!(switch(req, depot))))
                .push(Router::with_path("password").post(route!(set_password(req, depot)))),
        )
}

/// Reads the filters of a list; what is wrong with one is said beside it, and it filters nothing.
pub(super) fn read_filter(req: &Request) -> (UserFilter, Sheet) {
    let form = filters(req);
    let mut fields = form.fields();
    let filter = UserFilter {
        search: fields.text("search").max(255).optional(),
        is_active: fields.boolean("is_active").optional(),
        is_admin: fields.boolean("is_admin").optional(),
    };
    (filter, Sheet::refused(form, fields.into_errors()))
}

#[derive(Template)]
#[template(path = "admin/users.html")]
struct ListPage {
    layout: Layout,
    sheet: Sheet,
    activity: [Choice; 3],
    roles: [Choice; 3],
    users: Vec<User>,
    is_filtered: bool,
    pager: Pager,
    /// The list's query.
    back: String,
}

async fn list(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let (filter, sheet) = read_filter(req);
    let paging = Paging::of(req);
    let (users, total) = accounts::list(&api(depot).db, &filter, paging.limit(), paging.offset()).await?;
    if let Some(elsewhere) = paging.beyond(req, total) {
        return Ok(elsewhere);
    }
    Page::ok(&ListPage {
        layout: Layout::new(staff(depot), "users", "Users"),
        is_filtered: sheet.has_any(&["search", "is_active", "is_admin"]),
        sheet,
        activity: Choice::of_filter("Any", "Active", "Not active"),
        roles: Choice::of_filter("Everybody", "Admins", "Customers"),
        users,
        pager: paging.pager(req, total),
        back: link(req, &[("page", "")]),
    })
}

#[derive(Template)]
#[template(path = "admin/user.html")]
struct UserPage {
    layout: Layout,
    user: User,
    rows: Vec<Row>,
    orders: i64,
    sheet: Sheet,
    is_self: bool,
    changes: Vec<Entry>,
}

async fn user_page(depot: &Depot, id: UserId, status: StatusCode, sheet: Sheet) -> Result<Page, ApiError> {
    let (api, staff) = (api(depot), staff(depot));
    let user = accounts::find(&api.db, id).await?.ok_or_else(ApiError::not_found)?;
    let query = OrderQuery { user: Some(id), ..OrderQuery::default() };
    let (found, orders) = orders::list(&api.db, &query, ORDERS, 0).await?;
    let page = UserPage {
        layout: Layout::new(staff, "users", user.email.as_str()),
        rows: rows(api, found).await?,
        orders,
        sheet,
        is_self: staff.user.id == id,
        changes: history::of(api, Kind::User, id.0).await?,
        user,
    };
    Page::html(status, &page)
}

async fn show(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    user_page(depot, id(req, "user")?, StatusCode::OK, Sheet::default()).await
}

async fn switch(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff, form) = (api(depot), staff(depot), form(depot));
    let id: UserId = id(req, "user")?;
    let mut fields = form.fields();
    let is_active = fields.boolean("is_active").optional();
    let is_admin = fields.boolean("is_admin").optional();
    if !fields.are_good() || (is_active, is_admin) == (None, None) {
        return Err(ApiError::bad_request("This is nothing that can be done to an account."));
    }
    let (db, author) = (api.db.clone(), staff.author());
    let write = async move { accounts::switch(&db, id, is_active, is_admin, Some(&author)).await };
    let flash = match api.handles.invalidator.write(vec![Key::User(id)], write).await? {
        Switched::Done(user) => {
            let mut is = Vec::new();
            is.extend(is_active.map(|_| if user.is_active { "active" } else { "deactivated" }));
            is.extend(is_admin.map(|_| if user.is_admin { "an admin" } else { "no admin" }));
            Flash::done(format!("{} is {} now.", user.email, is.join(" and ")))
        }
        Switched::LastAdmin => Flash::warning(
            "Nothing was changed: this is the last active admin, and without one nobody could manage the shop.",
        ),
        Switched::NotThere => return Err(ApiError::not_found()),
    };
    Ok(Page::see_with(&format!("{LIST}{id}/"), staff, &flash))
}

async fn set_password(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff) = (api(depot), staff(depot));
    let id: UserId = id(req, "user")?;
    let user = accounts::find(&api.db, id).await?.ok_or_else(ApiError::not_found)?;
    let mut fields = form(depot).fields();
    let owner = Owner { email: &user.email, username: &user.username };
    let password = new_password(&mut fields, owner);
    let errors = fields.into_errors();
    if !errors.is_empty() {
        // Both are typed again.
        let sheet = Sheet::refused(super::form::Form::default(), errors);
        return user_page(depot, id, StatusCode::BAD_REQUEST, sheet).await;
    }
    let hash = api.passwords.hash(password).await?;
    let (db, author) = (api.db.clone(), staff.author());
    let write = async move { accounts::set_password(&db, id, &hash, Some(&author)).await };
    if !api.handles.invalidator.write(vec![Key::User(id)], write).await? {
        return Err(ApiError::not_found());
    }
    let flash = Flash::done(format!("{} has a new password, and is logged out everywhere.", user.email));
    Ok(Page::see_with(&format!("{LIST}{id}/"), staff, &flash))
}
