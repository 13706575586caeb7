//! The site's style, scripts and drawings, which are part of the binary. A digest of the content is in the name, so that
//! browsers may keep them for ever.

use std::sync::LazyLock;

use salvo::http::{HeaderValue, header};
use salvo::{Request, Response, Router, handler};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::ApiError;

struct Asset {
    path: String,
    media_type: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(name: &str, extension: &str, media_type: &'static str, content: &'static str) -> Self {
        let path = format!("/admin/assets/{name}-{:016x}.{extension}", xxh3_64(content.as_bytes()));
        Self { path, media_type, content }
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("admin", "css", "text/css; charset=utf-8", include_str!("../../assets/admin/admin.css"))
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("admin", "js", "text/javascript; charset=utf-8", include_str!("../../assets/admin/admin.js"))
});

/// Where the style is.
pub(super) fn style() -> &'static str {
    &STYLE.path
}

/// Where the script is.
pub(super) fn script() -> &'static str {
    &SCRIPT.path
}

/// The routes of this file.
pub(super) fn routes() -> Router {
    Router::with_path("assets").push(Router::with_path("{name}").get(show))
}

#[handler]
fn show(req: &mut Request, res: &mut Response) -> Result<(), ApiError> {
    let path = req.uri().path().trim_end_matches('/');
    let asset = [&*STYLE, &*SCRIPT].into_iter().find(|asset| asset.path == path);
    let asset = asset.ok_or_else(ApiError::not_found)?;
    let headers = res.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    res.body(asset.content);
    Ok(())
}
