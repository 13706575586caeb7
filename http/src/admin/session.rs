//! Logging in and out, and the guard before every page: who is let in, and whose forms are believed.
//!
//! A login is a row that all nodes share (`souk_store::staff`); the browser holds its token in a cookie that no script
//! sees. Passwords are judged as `POST token/` judges them, under the same throttle, and whoever is no admin gets the
//! answer of a wrong password. A form is believed if the browser does not say that it comes from elsewhere, and if it
//! carries the CSRF token of a page that was shown to this login.

use std::sync::Arc;

use askama::Template;
use salvo::http::{Method, StatusCode, header};
use salvo::routing::FlowCtrl;
use salvo::{Depot, Handler, Request, Response, Router, Writer, async_trait};
use souk_store::accounts::Credentials;
use souk_store::changes::Author;
use souk_store::model::{Timestamp, User};
use souk_store::{chain, staff};

use super::form::{Form, Sheet};
use super::page::{Flash, Page};
use super::secrets::{self, BEFORE_LOGIN, FLASH, SESSION, Token};
use super::{ROOT, assets};
use crate::Api;
use crate::accounts::{self, MAX_EMAIL};
use crate::error::{ApiError, FieldErrors};
use crate::extract::{api, client_address};
use crate::notifications::is_of_this_host;
use crate::route::route;

const LOGIN: &str = "/admin/login/";
/// The largest login form: anybody may send one.
const MAX_LOGIN: usize = 16 * 1024;
const WRONG_CREDENTIALS: &str = "Email and password do not match an active admin account.";
const OUTDATED_FORM: &str = "This form was out of date, or your browser keeps no cookies. Please try again.";

/// The routes that need no login.
pub(super) fn routes() -> Router {
    Router::with_path("login").get(route!(show_login(req, depot, res))).post(route!(log_in(req, depot, res)))
}

/// An admin who is signed in, as handlers find one.
#[derive(Clone)]
pub(super) struct Staff {
    pub(super) user: Arc<User>,
    token: Token,
    /// The message that the last page left for this one.
    pub(super) flash: Option<Flash>,
}

impl Staff {
    /// For the history.
    pub(super) fn author(&self) -> Author {
        Author::from(&*self.user)
    }

    /// The CSRF token of a form on a page for this admin.
    pub(super) fn csrf(&self) -> String {
        self.token.csrf()
    }

    /// What the cookie says that carries this message to the next page.
    pub(super) fn seal(&self, flash: &str) -> String {
        self.token.seal(flash)
    }
}

/// Who is signed in; the guard has seen to it.
pub(super) fn staff(depot: &Depot) -> &Staff {
    depot.get_typed::<Staff>().expect("the guard puts it there")
}

/// The form that was sent; the guard has read it.
pub(super) fn form(depot: &Depot) -> &Form {
    depot.get_typed::<Form>().expect("the guard puts it there with every unsafe method")
}

/// The guard. Behind it there is a [`Staff`], and with unsafe methods the [`Form`].
pub(super) struct Guard {
    /// Whether a script asks, by itself: that keeps no login alive, and an end is told by a status.
    is_polled: bool,
}

impl Guard {
    /// Before pages and what their forms do.
    pub(super) fn of_pages() -> Self {
        Self { is_polled: false }
    }

    /// Before what pages ask for by themselves.
    pub(super) fn of_polls() -> Self {
        Self { is_polled: true }
    }

    async fn admit(&self, req: &mut Request, depot: &mut Depot) -> Result<Option<Page>, ApiError> {
        let api = Arc::clone(api(depot));
        if req.uri().path().len() < ROOT.len() {
            // Here the browser would not show its cookies.
            return Ok(Some(Page::moved_to(ROOT)));
        }
        let is_safe = matches!(*req.method(), Method::GET | Method::HEAD);
        if !is_safe && !comes_from_here(req) {
            return Err(ApiError::forbidden());
        }
        let now = Timestamp::now();
        let Some((token, login)) = login_of(req, &api, now).await? else {
            if self.is_polled {
                return Err(ApiError::not_authenticated());
            }
            let next = if is_safe { req.uri().path_and_query().map(|path| path.as_str()) } else { None };
            return Ok(Some(Page::see(&login_path(next.unwrap_or(ROOT)))));
        };
        if !self.is_polled && login.is_to_be_touched(now) {
            // If it cannot be written, the login ends earlier; what is asked for can be shown all the same.
            if let Err(error) = staff::touch(&api.db, &token.digest(), now).await {
                tracing::warn!(error = chain(&error), "a login of the administration site was not prolonged");
            }
        }
        if !is_safe {
            let form = Form::read(req, &api, login.user.id).await?;
            if !token.made(form.text("csrf")) {
                return Err(ApiError::new(StatusCode::FORBIDDEN, OUTDATED_FORM));
            }
            depot.insert_typed(form);
        }
        let flash = secrets::cookie(req, FLASH).and_then(|sealed| Flash::read(&token.unseal(sealed)?));
        depot.insert_typed(Staff { user: Arc::new(login.user), token, flash });
        Ok(None)
    }
}

#[async_trait]
impl Handler for Guard {
    async fn handle(&self, req: &mut Request, depot: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        match self.admit(req, depot).await {
            Ok(None) => {}
            Ok(Some(page)) => {
                ctrl.skip_rest();
                return page.write(req, depot, res).await;
            }
            Err(error) => {
                ctrl.skip_rest();
                return error.write(req, depot, res).await;
            }
        }
        ctrl.call_next(req, depot, res).await;
    }
}

/// Whether a request that changes something comes from a page of this site, as far as the browser says.
fn comes_from_here(req: &Request) -> bool {
    let fetch_site = req.headers().get("sec-fetch-site").map(|site| site.as_bytes());
    fetch_site.is_none_or(|site| matches!(site, b"same-origin" | b"none")) && is_of_this_host(req)
}

/// The login of the session's cookie, if it holds.
async fn login_of(
    req: &Request,
    api: &Api,
    now: Timestamp,
) -> Result<Option<(Token, staff::Login)>, ApiError> {
    let Some(token) = Token::in_cookie(req, SESSION) else { return Ok(None) };
    let login = staff::find(&api.db, &token.digest(), now).await?;
    Ok(login.map(|login| (token, login)))
}

fn login_path(next: &str) -> String {
    let mut path = LOGIN.to_owned();
    if next != ROOT {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
        path.push('?');
        path.push_str(&query);
    }
    path
}

/// Where to go after the login: a path of this site, or its root.
fn local(next: &str) -> &str {
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if next.starts_with(ROOT) && is_plain && !next.contains("//") && !next.contains("/../") {
        next
    } else {
        ROOT
    }
}

#[derive(Template)]
#[template(path = "admin/login.html")]
struct LoginPage {
    style: &'static str,
    csrf: String,
    next: String,
    goes_on: bool,
    sheet: Sheet,
}

/// The login form, with a token for it in a cookie.
fn login_page(
    req: &Request,
    res: &mut Response,
    status: StatusCode,
    next: &str,
    sheet: Sheet,
) -> Result<Page, ApiError> {
    let token = Token::in_cookie(req, BEFORE_LOGIN).unwrap_or_else(Token::new);
    secrets::set_cookie(req, res, BEFORE_LOGIN, token.as_str());
    let next = local(next).to_owned();
    let goes_on = next != ROOT && !sheet.has_errors();
    Page::html(status, &LoginPage { style: assets::style(), csrf: token.csrf(), next, goes_on, sheet })
}

async fn show_login(req: &mut Request, depot: &mut Depot, res: &mut Response) -> Result<Page, ApiError> {
    let next = req.queries().get("next").map_or(ROOT, |next| local(next)).to_owned();
    if login_of(req, api(depot), Timestamp::now()).await?.is_some() {
        return Ok(Page::see(&next));
    }
    login_page(req, res, StatusCode::OK, &next, Sheet::default())
}

async fn log_in(req: &mut Request, depot: &mut Depot, res: &mut Response) -> Result<Page, ApiError> {
    let api = api(depot);
    if !comes_from_here(req) {
        return Err(ApiError::forbidden());
    }
    let form = Form::read_text(req, MAX_LOGIN).await?;
    let next = local(form.text("next")).to_owned();
    let refused = |req: &Request, res: &mut Response, status, errors| {
        // The password is typed again.
        let form = Form::of([("email", form.text("email").to_owned())]);
        login_page(req, res, status, &next, Sheet::refused(form, errors))
    };
    if !Token::in_cookie(req, BEFORE_LOGIN).is_some_and(|token| token.made(form.text("csrf"))) {
        return refused(req, res, StatusCode::FORBIDDEN, FieldErrors::of_all(OUTDATED_FORM));
    }
    let mut fields = form.fields();
    let email = fields.text("email").max(MAX_EMAIL).required();
    let password = fields.text("password").untrimmed().required();
    let errors = fields.into_errors();
    if !errors.is_empty() {
        return refused(req, res, StatusCode::BAD_REQUEST, errors);
    }
    let token = Token::new();
    let digest = token.digest();
    let begin = async |of: Credentials| {
        let begun = staff::begin(&api.db, &digest, of.user.id, &of.password_hash, Timestamp::now()).await?;
        Ok(begun.then_some(()))
    };
    let outcome = accounts::judge(api, &email, password, client_address(req), begin).await;
    match outcome {
        Ok(Some(())) => {}
        Ok(None) => return refused(req, res, StatusCode::FORBIDDEN, FieldErrors::of_all(WRONG_CREDENTIALS)),
        Err(error) if error.status() == StatusCode::TOO_MANY_REQUESTS => {
            if let Some(after) = error.retry_after() {
                res.headers_mut().insert(header::RETRY_AFTER, after.clone());
            }
            return refused(req, res, error.status(), FieldErrors::of_all(error.detail()));
        }
        Err(error) => return Err(error),
    }
    if let Some(old) = Token::in_cookie(req, SESSION) {
        staff::end(&api.db, &old.digest()).await?;
    }
    secrets::set_cookie(req, res, SESSION, token.as_str());
    secrets::remove_cookie(res, BEFORE_LOGIN);
    Ok(Page::see(&next))
}

pub(super) async fn log_out(depot: &mut Depot, res: &mut Response) -> Result<Page, ApiError> {
    staff::end(&api(depot).db, &staff(depot).token.digest()).await?;
    secrets::remove_cookie(res, SESSION);
    Ok(Page::see(LOGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_nowhere_but_to_a_page_of_this_site() {
        for next in ["/admin/", "/admin/orders/?status=pending&page=2", "/admin/products/7/"] {
            assert_eq!(local(next), next);
        }
        for next in [
            "",
            "orders/",
            "//evil.example/",
            "https://evil.example/admin/",
            "/admin//evil.example",
            "/adminx/",
            "/admin/../api/",
            "/admin/\\evil",
            "/admin/\r\nSet-Cookie: a=b",
        ] {
            assert_eq!(local(next), ROOT, "{next}");
        }
    }
}
