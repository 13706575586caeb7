//! Souk's HTTP face: routes, what a request passes on its way, tokens and passwords.
//!
//! [`Api`] is the one state that handlers share; [`service`] makes the salvo service from it. One resource is one file:
//! its routes, what it reads and writes, its handlers. Everything else is a tool of those files:
//!
//! | file | gives handlers |
//! | --- | --- |
//! | `extract` | the state, the caller, ids of the path, the body |
//! | `form` | forms with files |
//! | `fields`, `query` | the fields of a body, filters; every bad one at once |
//! | `media` | images that were uploaded |
//! | `page` | pages of lists with their links |
//! | `route` | their place: an `async fn` becomes a route |
//! | `reply`, `error` | answers that were asked for, and the others |
//! | `rendered` | answers that are written once and sent often |
//! | `openapi` | what their operations look like in the document that `docs` serves |
//! | `admin` | a site of its own, beside the resources |
//! | `hoops` | nothing: they surround every handler |

#![warn(missing_docs)]

pub mod accounts;
mod admin;
mod cart;
mod catalogue;
mod categories;
mod docs;
mod error;
mod extract;
mod fields;
mod form;
#[cfg(test)]
mod fuzz;
mod gate;
mod hoops;
pub mod media;
mod metrics;
mod notifications;
mod openapi;
mod ops;
mod orders;
mod page;
pub mod passwords;
pub mod proxies;
mod query;
mod rate_limit;
mod rendered;
mod reply;
mod route;
mod server;
#[cfg(test)]
mod testing;
mod throttle;
pub mod tls;
pub mod tokens;
mod workers;

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use salvo::{Router, Service};
use souk_actors::Handles;
use souk_store::Db;
use souk_store::cache::Cache;

pub use crate::docs::openapi;
pub use crate::server::{Server, ServerLimits};

use crate::media::Media;
use crate::metrics::Metrics;
use crate::passwords::Passwords;
use crate::proxies::Network;
use crate::rendered::Answers;
use crate::throttle::LoginThrottle;
use crate::tokens::{Tickets, Tokens};
use crate::workers::Size;

/// What the operator may choose about this crate.
#[derive(Clone)]
pub struct Settings {
    /// Signs tokens; 32 bytes or more.
    pub secret_key: Vec<u8>,
    /// How long an access token lives.
    pub access_token_life: Duration,
    /// How long a refresh token lives.
    pub refresh_token_life: Duration,
    /// Origins other than the server's own whose scripts may call, and whose pages may open WebSockets.
    pub cors_allowed_origins: Vec<String>,
    /// Requests a minute for one client address.
    pub rate_limit: Option<NonZeroU32>,
    /// Whose `X-Forwarded-` headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// How many requests are worked on at one time.
    pub max_requests: usize,
    /// Where uploaded images are kept.
    pub media_root: PathBuf,
    /// From here on a request is warned about as a slow one.
    pub slow_request: Duration,
    /// Whether spans go to somebody who wants them told what became of the request.
    pub exports_spans: bool,
}

impl fmt::Debug for Settings {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("access_token_life", &self.access_token_life)
            .field("refresh_token_life", &self.refresh_token_life)
            .field("cors_allowed_origins", &self.cors_allowed_origins)
            .field("media_root", &self.media_root)
            .field("slow_request", &self.slow_request)
            .finish_non_exhaustive()
    }
}

/// What every handler works with.
#[derive(Debug)]
pub struct Api {
    pub(crate) db: Db,
    pub(crate) cache: Cache,
    pub(crate) handles: Handles,
    pub(crate) tokens: Tokens,
    pub(crate) tickets: Tickets,
    pub(crate) passwords: Passwords,
    pub(crate) media: Media,
    pub(crate) throttle: LoginThrottle,
    pub(crate) answers: Arc<Answers>,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) dashboard: admin::Dashboard,
    closing: AtomicBool,
}

impl Api {
    /// The state over an open database, the cache in front of it, and the running actors. Within a runtime.
    #[must_use]
    pub fn new(db: Db, cache: Cache, handles: Handles, settings: Settings) -> Self {
        let tokens =
            Tokens::new(&settings.secret_key, settings.access_token_life, settings.refresh_token_life);
        let answers = Arc::new(Answers::default());
        let metrics = Metrics::new(&db, &cache, &handles, &answers);
        let redis = cache.redis().cloned();
        let decoders = Size::for_this_machine(media::QUEUE);
        let media = Media::start(&db, settings.media_root.clone(), decoders, metrics.uploads.clone());
        let throttle = LoginThrottle::new(&settings.secret_key, redis.clone());
        Self {
            db,
            cache,
            handles,
            tokens,
            tickets: Tickets::new(redis),
            passwords: Passwords::start(Size::for_this_machine(passwords::QUEUE)),
            media,
            throttle,
            answers,
            settings,
            metrics,
            dashboard: admin::Dashboard::default(),
            closing: AtomicBool::new(false),
        }
    }

    /// From now on `/readyz` says no, so that load balancers send nobody any more. The first step down.
    pub fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Ends what runs besides the requests: hashes that are asked for are still computed. After the server has stopped.
    pub async fn close(&self) {
        self.passwords.close().await;
        self.media.close().await;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

/// The service: every route, and what surrounds them.
#[must_use]
pub fn service(api: &Arc<Api>) -> Service {
    let service = Service::new(hoops::complete(routes())).hoop(hoops::Front::new(api.clone()));
    match hoops::cors(&api.settings.cors_allowed_origins) {
        Some(cors) => service.hoop(cors).hoop(hoops::compression()),
        None => service.hoop(hoops::compression()),
    }
}

/// Every route. Nested by area, hot ones first: the forty-first sibling costs microseconds.
fn routes() -> Router {
    Router::new()
        .get(docs::home)
        .push(
            Router::with_path("api")
                .get(ops::index)
                .push(catalogue::routes())
                .push(categories::routes())
                .push(cart::routes())
                .push(orders::routes())
                .push(notifications::routes())
                .push(docs::routes()),
        )
        .push(Router::with_path("auth/api").push(accounts::routes()).push(orders::own_routes()))
        .push(media::routes())
        .push(notifications::socket_route())
        .push(admin::routes())
        .push(ops::routes())
        .push(metrics::routes())
}
