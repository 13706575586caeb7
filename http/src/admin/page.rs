//! Pages: what every page of the site has around it and in its headers, and the message that one leaves for the next.

use askama::Template;
use bytes::Bytes;
use salvo::http::{HeaderValue, StatusCode, header};
use salvo::{Depot, Request, Response, Writer, async_trait};
use serde::{Deserialize, Serialize};

use super::secrets::{self, FLASH};
use super::session::Staff;
use super::{ROOT, assets};
use crate::error::ApiError;

/// Nothing but what this server itself serves, and no script or style within a page: what slips into one does nothing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The most characters of a message's details: a cookie holds 4 KiB.
const MOST_DETAILS: usize = 1_800;

/// The parts of the site: name, path, and the words for it.
const SECTIONS: [(&str, &str, &str); 6] = [
    ("dashboard", "/admin/", "Dashboard"),
    ("orders", "/admin/orders/", "Orders"),
    ("products", "/admin/products/", "Products"),
    ("categories", "/admin/categories/", "Categories"),
    ("users", "/admin/users/", "Users"),
    ("history", "/admin/history/", "History"),
];

/// What a page has around its content.
pub(super) struct Layout {
    pub(super) title: String,
    pub(super) parts: Vec<Part>,
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    pub(super) email: String,
    pub(super) csrf: String,
    pub(super) flash: Option<Flash>,
}

/// A part of the site in the navigation.
pub(super) struct Part {
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) is_current: bool,
}

impl Layout {
    /// Around a page of this part of the site.
    pub(super) fn new(staff: &Staff, section: &'static str, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            parts: SECTIONS
                .iter()
                .map(|(known, path, name)| Part { path, name, is_current: *known == section })
                .collect(),
            style: assets::style(),
            script: assets::script(),
            email: staff.user.email.clone(),
            csrf: staff.csrf(),
            flash: staff.flash.clone(),
        }
    }
}

/// What became of what was asked for, for the next page to show.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Flash {
    pub(super) is_warning: bool,
    pub(super) text: String,
    pub(super) details: Vec<String>,
}

impl Flash {
    /// All went as asked.
    pub(super) fn done(text: impl Into<String>) -> Self {
        Self { is_warning: false, text: text.into(), details: Vec::new() }
    }

    /// Something did not.
    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self { is_warning: true, text: text.into(), details: Vec::new() }
    }

    /// With a line for each thing; as many as there is room for.
    #[must_use]
    pub(super) fn with(mut self, details: Vec<String>) -> Self {
        let mut room = MOST_DETAILS;
        let all = details.len();
        for detail in details {
            let Some(left) = room.checked_sub(detail.len()) else { break };
            room = left;
            self.details.push(detail);
        }
        if self.details.len() < all {
            self.details.push(format!("… and {} more", all - self.details.len()));
        }
        self
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// An answer of the site.
#[derive(Debug)]
pub(super) struct Page {
    status: StatusCode,
    body: Bytes,
    location: Option<String>,
    flash: Option<String>,
    /// Whether it is a part of a page, which shows no message.
    is_part: bool,
}

impl Page {
    /// A page.
    pub(super) fn html(status: StatusCode, template: &impl Template) -> Result<Self, ApiError> {
        let body = template.render().map_err(|error| {
            tracing::error!(error = error.to_string(), "a page could not be made");
            ApiError::internal()
        })?;
        Ok(Self { status, body: body.into(), location: None, flash: None, is_part: false })
    }

    /// A page, as asked for.
    pub(super) fn ok(template: &impl Template) -> Result<Self, ApiError> {
        Self::html(StatusCode::OK, template)
    }

    /// A part of a page, which a script asked for.
    pub(super) fn part(template: &impl Template) -> Result<Self, ApiError> {
        Ok(Self { is_part: true, ..Self::ok(template)? })
    }

    /// Look there next.
    pub(super) fn see(path: &str) -> Self {
        let location = Some(path.to_owned());
        Self { status: StatusCode::SEE_OTHER, body: Bytes::new(), location, flash: None, is_part: false }
    }

    /// It is always there.
    pub(super) fn moved_to(path: &str) -> Self {
        Self { status: StatusCode::PERMANENT_REDIRECT, ..Self::see(path) }
    }

    /// Look there next, where this will be said.
    pub(super) fn see_with(path: &str, staff: &Staff, flash: &Flash) -> Self {
        let flash = serde_json::to_string(flash).map(|flash| staff.seal(&flash)).ok();
        Self { flash, ..Self::see(path) }
    }
}

#[async_trait]
impl Writer for Page {
    async fn write(self, req: &mut Request, depot: &mut Depot, res: &mut Response) {
        res.status_code(self.status);
        if let Some(path) = self.location {
            let location = HeaderValue::from_str(&path).unwrap_or(HeaderValue::from_static(ROOT));
            res.headers_mut().insert(header::LOCATION, location);
        } else if !self.is_part && depot.get_typed::<Staff>().is_ok_and(|staff| staff.flash.is_some()) {
            // It has been shown.
            secrets::remove_cookie(res, FLASH);
        }
        if let Some(flash) = self.flash {
            secrets::set_cookie(req, res, FLASH, &flash);
        }
        put(res, self.body);
    }
}

/// Puts a page into a response, with the headers of all pages.
pub(super) fn put(res: &mut Response, body: impl Into<Bytes>) {
    let headers = res.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    res.body(body.into());
}
