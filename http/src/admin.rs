//! The administration site at `/admin/`: pages for the shop's staff, made by the server.
//!
//! The same actors and rules as behind the API stand behind it: there is no second way to write. A handler gives a
//! [`Page`](page::Page); an [`ApiError`](crate::error::ApiError) becomes a page of its own (`errors`). Everything but
//! the login and the assets is behind [`Guard`], which lets in who is signed in as an admin and, of forms, only those
//! that come from a page of this site; so no handler can forget it. All of it works without scripts.
//!
//! | file | owns |
//! | --- | --- |
//! | `session` | logging in and out; the guard at the door |
//! | `secrets` | cookies, and what is derived from the token in one |
//! | `form` | forms: reading one, and showing it again with what is wrong |
//! | `page`, `list`, `view` | pages, lists with filters, how values are shown |
//! | `errors`, `assets` | what is not a page of the site; style and scripts |
//! | the others | one subject each |

mod assets;
mod categories;
mod dashboard;
pub(crate) mod errors;
mod export;
mod form;
mod history;
mod import;
mod list;
mod orders;
mod page;
mod products;
mod secrets;
mod session;
mod users;
mod view;

use salvo::{Request, Router, handler};

pub(crate) use self::dashboard::Dashboard;
use self::session::Guard;
use crate::error::ApiError;
use crate::route::route;

/// Where the site is; with the slash, since the cookies are kept for what is below it.
const ROOT: &str = "/admin/";

/// The routes of the site.
pub(crate) fn routes() -> Router {
    let pages = Router::new()
        .hoop(Guard::of_pages())
        .get(route!(dashboard::show(depot)))
        .push(orders::routes())
        .push(products::routes())
        .push(categories::routes())
        .push(users::routes())
        .push(Router::with_path("history").get(route!(history::list(req, depot))))
        .push(Router::with_path("logout").post(route!(session::log_out(depot, res))));
    let polled = Router::with_path("live").hoop(Guard::of_polls()).get(route!(dashboard::show_live(depot)));
    Router::with_path("admin")
        .push(assets::routes())
        .push(session::routes())
        .push(polled)
        .push(pages)
        .push(Router::with_path("{**rest}").goal(nothing))
}

/// Whether a request is for this site, whose errors are pages.
pub(crate) fn serves(req: &Request) -> bool {
    let path = req.uri().path();
    path.starts_with(ROOT) || path == ROOT.trim_end_matches('/')
}

#[handler]
fn nothing() -> Result<(), ApiError> {
    Err(ApiError::not_found())
}
