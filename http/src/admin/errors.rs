//! Errors of the site: the status and the words of an [`ApiError`](crate::error::ApiError), as a page.

use askama::Template;
use salvo::Response;
use salvo::http::StatusCode;

use super::{assets, page};

#[derive(Template)]
#[template(path = "admin/error.html")]
struct ErrorPage<'a> {
    style: &'static str,
    status: u16,
    title: &'static str,
    text: &'a str,
}

/// Puts the page into the place of whatever the response holds; its other headers stay.
pub(crate) fn render(status: StatusCode, detail: &str, res: &mut Response) {
    let (title, text) = match status {
        StatusCode::NOT_FOUND => {
            ("Nothing is here", "The page does not exist, or what it showed has been deleted.")
        }
        StatusCode::FORBIDDEN if detail.starts_with("You do not") => {
            ("Not allowed", "This request did not come from a page of this site.")
        }
        StatusCode::FORBIDDEN => ("Not done", detail),
        StatusCode::UNAUTHORIZED => ("Please log in", "Your session has ended."),
        StatusCode::METHOD_NOT_ALLOWED => ("Not done", "This page cannot be used that way."),
        StatusCode::TOO_MANY_REQUESTS => ("Too many requests", detail),
        StatusCode::INTERNAL_SERVER_ERROR => {
            ("Something went wrong", "The fault is ours, and it has been logged.")
        }
        StatusCode::SERVICE_UNAVAILABLE => ("Not available at the moment", detail),
        status => (status.canonical_reason().unwrap_or("Not done"), detail),
    };
    let page = ErrorPage { style: assets::style(), status: status.as_u16(), title, text };
    res.status_code(status);
    page::put(res, page.render().unwrap_or_else(|_| text.to_owned()));
}
