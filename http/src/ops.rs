//! What operators and explorers ask: is it alive, is it ready, what is there.

mod operations;

use std::time::Duration;

use salvo::{Depot, Request, Router, handler};
use serde_json::{Map, Value, json};

use souk_store::chain;

pub(crate) use self::operations::{operations, schemas};
use crate::error::ApiError;
use crate::extract::{api, base_url};
use crate::reply::Reply;
use crate::route::route;

/// How long the database may take to answer before the server calls itself not ready.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// The entry points that the index names.
const INDEX: &[(&str, &str)] = &[
    ("categories", "/api/categories/"),
    ("products", "/api/products/"),
    ("featured-products", "/api/products/featured/"),
    ("cart", "/api/cart/"),
    ("orders", "/api/orders/"),
    ("notifications", "/api/notifications/"),
    ("register", "/auth/api/register/"),
    ("token", "/auth/api/token/"),
    ("token-refresh", "/auth/api/token/refresh/"),
    ("token-verify", "/auth/api/token/verify/"),
    ("logout", "/auth/api/logout/"),
    ("profile", "/auth/api/profile/"),
    ("password", "/auth/api/password/"),
    ("own-orders", "/auth/api/orders/"),
    ("users", "/auth/api/users/"),
    ("ws-ticket", "/auth/api/ws-ticket/"),
];

/// The routes of this file.
pub(crate) fn routes() -> Router {
    Router::new()
        .push(Router::with_path("healthz").get(healthz))
        .push(Router::with_path("readyz").get(route!(readyz(depot))))
}

/// An index of the API's entry points by name.
#[handler]
pub(crate) fn index(req: &mut Request) -> Result<Reply, ApiError> {
    let base = base_url(req);
    let entries = INDEX.iter().map(|(name, path)| ((*name).to_owned(), Value::from(format!("{base}{path}"))));
    Reply::ok(&entries.collect::<Map<_, _>>())
}

/// 200 while the process lives.
#[handler]
fn healthz() -> Result<Reply, ApiError> {
    Reply::ok(&json!({"status": "ok"}))
}

/// 200 only while the database answers, the ledger runs, and no shutdown has begun.
async fn readyz(depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    if api.is_closing() {
        return Err(ApiError::shutting_down());
    }
    if !api.handles.ledger.is_running() {
        return Err(ApiError::unavailable("The stock ledger is being started."));
    }
    match tokio::time::timeout(PING_DEADLINE, api.db.ping()).await {
        Ok(Ok(())) => Reply::ok(&json!({"status": "ok"})),
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "not ready: the database does not answer");
            Err(ApiError::unavailable("The database is not available."))
        }
        Err(_) => {
            tracing::warn!("not ready: the database does not answer in time");
            Err(ApiError::unavailable("The database is not available."))
        }
    }
}
