//! The API's documents for people and programs: OpenAPI 3.1 at `/api/schema/`, Swagger UI at `/api/docs/`, and the page at
//! `/` that says what this is.
//!
//! The document is put together from what each resource says of itself (`operations.rs` beside its handlers), once. Swagger
//! UI is that of `salvo-oapi`, part of the binary; its page is ours, since theirs needs a script in the page, which the
//! content security policy forbids here.

use std::sync::LazyLock;

use bytes::Bytes;
use salvo::http::{HeaderValue, StatusCode, header};
use salvo::{Request, Response, Router, handler};
use salvo_oapi::swagger_ui;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::ApiError;
use crate::openapi::{Operation, errors, headers, shared_schemas};
use crate::rendered::is_known;
use crate::{accounts, cart, catalogue, categories, notifications, ops, orders};

/// What a page may load: its own files, and drawings within Swagger UI's style, which also sets styles by script.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The tags in the order in which they are shown, and what is below them.
const TAGS: [(&str, &str); 8] = [
    (
        "Accounts",
        "Register, sign in, and your own data. The token of an answer here signs you in on this page.",
    ),
    ("Products", "What there is to buy."),
    ("Categories", "What it is sorted into."),
    ("Cart", "What you are about to buy."),
    ("Orders", "What you bought."),
    ("Notifications", "What became of it, as it happens."),
    ("Users", "Who there is; for admins."),
    ("Operations", "Whether all is well."),
];

const ABOUT: &str = "Accounts, a searchable catalogue, carts, orders, and notifications over WebSocket.\n\n\
    **To try it here:** open *Accounts → Register*, execute it, and you are signed in; put a product into the cart and \
    order.\n\n\
    Paths end in `/`, and are served without it as well. Money is a decimal text with two places. Every answer carries \
    `X-Request-Id`. What is sent beyond the fields named here is ignored.";

/// The routes below `/api/`.
pub(crate) fn routes() -> Router {
    Router::new()
        .push(Router::with_path("schema").get(show_schema))
        .push(Router::with_path("docs").get(show_docs).push(Router::with_path("{file}").get(show_file)))
}

/// Every operation of the API.
pub(crate) fn operations() -> Vec<Operation> {
    [
        accounts::operations(),
        catalogue::operations::operations(),
        categories::operations(),
        cart::operations(),
        orders::operations(),
        notifications::operations(),
        ops::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The whole document.
#[must_use]
pub fn openapi() -> Value {
    let schemas = [
        shared_schemas(),
        accounts::schemas(),
        catalogue::operations::schemas(),
        categories::schemas(),
        cart::schemas(),
        orders::schemas(),
        notifications::schemas(),
        ops::schemas(),
    ];
    let schemas: Map<_, _> =
        schemas.into_iter().flatten().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let mut paths = Map::new();
    for operation in operations() {
        let (method, path) = (operation.method, operation.path);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[method] = operation.into_document();
    }
    let tags = TAGS.map(|(name, description)| json!({"name": name, "description": description}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Souk",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A shop as a service",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": errors(),
            "headers": headers(),
            "securitySchemes": {"bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "The `access` token of `register/`, `token/` or `token/refresh/`.",
            }},
        },
    })
}

/// Something that is made once and sent often.
struct Page {
    media_type: &'static str,
    content: Bytes,
    etag: HeaderValue,
}

impl Page {
    fn new(media_type: &'static str, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        // Weak: what is compressed on its way is another text of the same meaning.
        let etag = format!("W/\"{:016x}\"", xxh3_64(&content));
        let etag = HeaderValue::from_str(&etag).expect("hexadecimal digits");
        Self { media_type, content, etag }
    }

    /// Asked for again it is sent again only if it has changed, which it does with the binary.
    fn answer(&self, req: &Request, res: &mut Response) {
        let headers = res.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
        if is_known(req, &self.etag) {
            res.status_code(StatusCode::NOT_MODIFIED);
            return;
        }
        res.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        res.status_code(StatusCode::OK);
        res.body(self.content.clone());
    }
}

static SCHEMA: LazyLock<Page> = LazyLock::new(|| Page::new("application/json", openapi().to_string()));
static HOME: LazyLock<Page> = LazyLock::new(|| {
    Page::new(HTML, include_str!("../assets/docs/home.html").replace("{version}", env!("CARGO_PKG_VERSION")))
});
static DOCS: LazyLock<Page> = LazyLock::new(|| Page::new(HTML, include_str!("../assets/docs/docs.html")));

/// The files that the pages load, by their names.
static FILES: LazyLock<Vec<(&str, Page)>> = LazyLock::new(|| {
    let of_swagger_ui = |name: &'static str, media_type| {
        let file = swagger_ui::serve(name, "", "", "", &swagger_ui::Config::default()).ok().flatten();
        let content = file.map(|file| file.bytes.into_owned()).unwrap_or_default();
        (name, Page::new(media_type, content))
    };
    vec![
        of_swagger_ui("swagger-ui-bundle.js", SCRIPT),
        of_swagger_ui("swagger-ui.css", CSS),
        ("docs.js", Page::new(SCRIPT, include_str!("../assets/docs/docs.js"))),
        ("pages.css", Page::new(CSS, include_str!("../assets/docs/pages.css"))),
        ("icon.svg", Page::new("image/svg+xml", include_str!("../assets/docs/icon.svg"))),
    ]
});

/// What this is, with links.
#[handler]
pub(crate) fn home(req: &mut Request, res: &mut Response) {
    HOME.answer(req, res);
}

#[handler]
fn show_schema(req: &mut Request, res: &mut Response) {
    SCHEMA.answer(req, res);
}

#[handler]
fn show_docs(req: &mut Request, res: &mut Response) {
    DOCS.answer(req, res);
}

#[handler]
fn show_file(req: &mut Request, res: &mut Response) -> Result<(), ApiError> {
    let wanted = req.params().get("file").cloned().unwrap_or_default();
    let (_, page) = FILES.iter().find(|(name, _)| *name == wanted).ok_or_else(ApiError::not_found)?;
    page.answer(req, res);
    Ok(())
}

#[cfg(test)]
mod tests;
