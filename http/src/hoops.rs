//! What every request passes on its way in and out, and what the route table is completed with.
//!
//! [`Front`] is the outermost hoop. It lets a request in or refuses it, puts the state into the depot, gives the request its
//! id and its span, holds it to its deadline, catches its panic, and sees to it that whatever comes out is JSON with the
//! headers that every response carries. It is one hoop because each costs a boxed future.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use salvo::compression::{Compression, CompressionLevel};
use salvo::cors::{Any, Cors, CorsHandler};
use salvo::http::uri::Scheme;
use salvo::http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use salvo::routing::{FilterInfo, FlowCtrl, filters};
use salvo::{Depot, Handler, Request, Response, Router, async_trait};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::Api;
use crate::error::ApiError;
use crate::extract::client_address;
use crate::gate::{Gate, Pace, Place};
use crate::metrics::route_of;
use crate::proxies;
use crate::rate_limit::RateLimit;
use crate::server::Life;

/// How long a request may take altogether; an actor's own deadlines are shorter.
const DEADLINE: Duration = Duration::from_secs(30);

/// The longest path with its query.
const LONGEST_TARGET: usize = 8 * 1024;

/// Smaller bodies gain nothing by compression.
pub(crate) const LEAST_COMPRESSED: usize = 1024;

/// Bodies up to this length are skipped when nobody reads them.
const LONGEST_SKIPPED: u64 = 64 * 1024;

/// Browsers that came here by HTTPS come so for a year.
const STRICT_TRANSPORT_SECURITY: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// For what says nothing stricter of itself.
const NEVER_FRAMED: HeaderValue = HeaderValue::from_static("frame-ancestors 'none'");

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost hoop.
pub(crate) struct Front {
    api: Arc<Api>,
    gate: Gate,
    refusals: Pace,
    rate_limit: Option<RateLimit>,
}

impl Front {
    pub(crate) fn new(api: Arc<Api>) -> Self {
        let rate_limit = api.settings.rate_limit.map(RateLimit::per_minute);
        let (gate, refusals) = (Gate::new(api.settings.max_requests), Pace::for_this_machine());
        Self { gate, refusals, api, rate_limit }
    }

    /// The request's place among those that are worked on, or why it gets none. Nothing was done for it by then; probes
    /// are heard when nobody else is.
    async fn admit(&self, req: &mut Request) -> Result<Place, ApiError> {
        proxies::see_through(req, &self.api.settings.trusted_proxies)?;
        let target = req.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > LONGEST_TARGET {
            return Err(ApiError::target_too_long(LONGEST_TARGET));
        }
        // None if it comes from no socket, as in tests.
        let connection = req.extensions().get::<Arc<Life>>();
        let is_probe = matches!(req.uri().path().trim_end_matches('/'), "/healthz" | "/readyz" | "/metrics");
        if !is_probe {
            if connection.is_some_and(|connection| connection.is_one_too_many) {
                return Err(ApiError::over_capacity().and_close());
            }
            if let Some(wait) = self.over_the_limit(req) {
                return Err(ApiError::throttled(wait));
            }
        }
        let Some(place) = self.gate.enter(is_probe) else {
            if let Some(connection) = connection {
                self.refusals.turn(&connection.last_refusal).await;
            }
            return Err(ApiError::over_capacity());
        };
        req.extensions_mut().insert(place.clone());
        Ok(place)
    }

    /// Tells what became of a request: to the exported span, and in the log if it was slow.
    fn tell(&self, span: &Span, req: &Request, status: StatusCode, took: Duration) {
        if self.api.settings.exports_spans {
            span.record("http.route", route_of(req, status)).record("http.status", status.as_u16());
            if status.is_server_error() {
                span.record("otel.status_code", "ERROR");
            }
        }
        // A body that did not arrive in time was slow itself, and there may be thousands of them.
        if took >= self.api.settings.slow_request && status != StatusCode::REQUEST_TIMEOUT {
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let route = route_of(req, status);
            span.in_scope(|| {
                tracing::warn!(
                    http.route = route,
                    http.status = status.as_u16(),
                    took.ms = millis,
                    "a request was slow"
                );
            });
        }
    }

    /// Whole seconds after which this client is heard again, if it asked too often.
    fn over_the_limit(&self, req: &Request) -> Option<u64> {
        let wait = self.rate_limit.as_ref()?.check(client_address(req)?).err();
        wait.map(|wait| wait.as_secs() + 1)
    }
}

#[async_trait]
impl Handler for Front {
    async fn handle(&self, req: &mut Request, depot: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        let under_way = self.api.metrics.begin();
        let request_id = request_id(req);
        let place = match self.admit(req).await {
            Ok(place) => place,
            // There may be very many: they get no span.
            Err(error) => {
                ctrl.skip_rest();
                error.render(req, res);
                finish(req, res, request_id);
                under_way.answered(req, res.status_code.unwrap_or(StatusCode::OK));
                return;
            }
        };
        depot.insert_typed(self.api.clone());
        // The query is left out: it may hold a token.
        let span = tracing::info_span!(
            "request",
            request.id = request_id.to_str().unwrap_or_default(),
            http.method = req.method().as_str(),
            url.path = req.uri().path(),
            // For those to whom spans are exported.
            otel.name = Empty,
            otel.kind = Empty,
            otel.status_code = Empty,
            http.route = Empty,
            http.status = Empty,
        );
        if self.api.settings.exports_spans {
            // It has a name once it is entered.
            let name = format!("{} {}", req.method(), route_of(req, StatusCode::NOT_FOUND));
            span.record("otel.name", name).record("otel.kind", "server");
        }
        async {
            let work = AssertUnwindSafe(ctrl.call_next(req, depot, res)).catch_unwind();
            match tokio::time::timeout(DEADLINE, work).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => {
                    tracing::error!("a handler panicked");
                    ApiError::internal().render(req, res);
                }
                Err(_) => {
                    tracing::warn!("a request passed its deadline");
                    ApiError::deadline_passed().render(req, res);
                }
            }
            place.leave();
            tracing::debug!(http.status = res.status_code.map(|status| status.as_u16()), "answered");
        }
        .instrument(span.clone())
        .await;
        finish(req, res, request_id);
        let status = res.status_code.unwrap_or(StatusCode::OK);
        let took = under_way.answered(req, status);
        self.tell(&span, req, status, took);
    }
}

/// The client's request id if it is a sane one, or a new one.
fn request_id(req: &Request) -> HeaderValue {
    let is_sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    req.headers().get(&X_REQUEST_ID).filter(is_sane).cloned().unwrap_or_else(|| {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let mut buffer = uuid::Uuid::encode_buffer();
        HeaderValue::from_str(id.simple().encode_lower(&mut buffer)).expect("hexadecimal digits")
    })
}

fn finish(req: &Request, res: &mut Response, request_id: HeaderValue) {
    let status = res.status_code.unwrap_or(StatusCode::OK);
    let is_error = status.is_client_error() || status.is_server_error();
    if is_error && (res.body.is_none() || res.body.is_error()) {
        ApiError::of_status(status).render(req, res);
    }
    if req.method() == Method::HEAD
        && !res.headers().contains_key(header::CONTENT_LENGTH)
        && let Some(length) = res.body.size().filter(|_| !res.body.is_none())
    {
        res.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    let headers = res.headers_mut();
    if req.version() >= Version::HTTP_2 {
        // There one request's end is not the connection's.
        headers.remove(header::CONNECTION);
    } else if leaves_much_unread(req) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(X_REQUEST_ID, request_id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if *req.scheme() == Scheme::HTTPS {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT_SECURITY);
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NEVER_FRAMED);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
}

/// Whether a body was refused unread that is too long to be skipped: hyper then closes the connection, and a client that
/// is not told would send its next request into it.
fn leaves_much_unread(req: &Request) -> bool {
    use salvo::http::Body as _;
    req.body().size_hint().lower() > LONGEST_SKIPPED
}

/// Compresses what is large enough and not compressed yet. At any other level than the fastest the library takes a
/// blocking thread for each response, however small.
pub(crate) fn compression() -> Compression {
    Compression::new()
        .disable_all()
        .enable_zstd(CompressionLevel::Fastest)
        .enable_brotli(CompressionLevel::Fastest)
        .enable_gzip(CompressionLevel::Fastest)
        .min_length(LEAST_COMPRESSED)
}

/// Lets scripts of these origins call; `*` is any. None without origins, when browsers refuse by themselves.
pub(crate) fn cors(origins: &[String]) -> Option<CorsHandler> {
    if origins.is_empty() {
        return None;
    }
    let cors = Cors::new()
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers(vec![
            "authorization",
            "content-type",
            "idempotency-key",
            "if-match",
            "if-none-match",
            "x-request-id",
        ])
        .expose_headers(vec![
            "etag",
            "idempotent-replayed",
            "retry-after",
            "www-authenticate",
            "x-request-id",
        ])
        .max_age(Duration::from_hours(1));
    let cors = if origins.iter().any(|origin| origin == "*") {
        cors.allow_origin(Any)
    } else {
        cors.allow_origin(origins.iter().map(String::as_str).collect::<Vec<_>>())
    };
    Some(cors.into_handler())
}

/// Completes the route table: at every path with methods, `HEAD` where there is `GET`, `OPTIONS`, and for every other
/// method 405 with `Allow`. All methods of a path must be children of the same router.
pub(crate) fn complete(mut router: Router) -> Router {
    let served: Vec<Method> = router.routers.iter().filter_map(method_of).collect();
    router.routers = router.routers.into_iter().map(complete).collect();
    if served.is_empty() {
        return router;
    }
    let mut allow = served.clone();
    if served.contains(&Method::GET) && !served.contains(&Method::HEAD) {
        let get = router.routers.iter().find(|child| method_of(child) == Some(Method::GET));
        let (goal, hoops) = get.map_or_else(Default::default, |get| (get.goal.clone(), get.hoops.clone()));
        let mut head = Router::with_filter(filters::head());
        (head.goal, head.hoops) = (goal, hoops);
        router = router.push(head);
        allow.push(Method::HEAD);
    }
    allow.push(Method::OPTIONS);
    let allow: Vec<_> = allow.iter().map(Method::as_str).collect();
    let allow = HeaderValue::from_str(&allow.join(", ")).expect("names of methods");
    router.options(Options { allow: allow.clone() }).push(Router::new().goal(NotAllowed { allow }))
}

/// The method of a router that is nothing but one method of its parent's path.
fn method_of(router: &Router) -> Option<Method> {
    match router.filters.as_slice() {
        [filter] if router.goal.is_some() => match filter.info() {
            FilterInfo::Method(method) => Some(method),
            _ => None,
        },
        _ => None,
    }
}

struct Options {
    allow: HeaderValue,
}

#[async_trait]
impl Handler for Options {
    async fn handle(&self, _req: &mut Request, _depot: &mut Depot, res: &mut Response, _ctrl: &mut FlowCtrl) {
        res.headers_mut().insert(header::ALLOW, self.allow.clone());
        res.status_code(StatusCode::NO_CONTENT);
    }
}

struct NotAllowed {
    allow: HeaderValue,
}

#[async_trait]
impl Handler for NotAllowed {
    async fn handle(&self, req: &mut Request, _depot: &mut Depot, res: &mut Response, _ctrl: &mut FlowCtrl) {
        ApiError::method_not_allowed(req.method().as_str(), self.allow.clone()).render(req, res);
    }
}

#[cfg(test)]
mod tests;
