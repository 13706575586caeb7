//! `/metrics` in Prometheus's text format (contract: Pages and operations).
//!
//! Requests, logins and uploads are counted here as they end; what the actors, the cache, the pools and the process do
//! is read from them when somebody asks (`metrics/inside.rs`, `metrics/process.rs`). Labels take only values of fixed
//! sets (route patterns, not paths), so that no client can fill memory. Names follow Prometheus's conventions, and stand
//! in full wherever they are given, so that they can be searched for; `deploy/grafana.json` shows them.

mod inside;
mod process;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use salvo::http::{HeaderValue, StatusCode, header};
use salvo::{Depot, Request, Response, Router, handler};
use souk_actors::Handles;
use souk_store::{Cache, Db};
use tokio::time::Instant;

use self::inside::Inside;
use self::process::Process;
use crate::error::ApiError;
use crate::extract::api;
use crate::rendered::Answers;

/// Upper bounds of the latency buckets, in seconds.
const LATENCY_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// The route of this file.
pub(crate) fn routes() -> Router {
    Router::with_path("metrics").get(metrics)
}

/// What is counted, and where the rest is read.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    abandoned: Counter,
    /// What became of tries to log in.
    pub(crate) logins: Outcomes<Login>,
    /// What became of images that were sent.
    pub(crate) uploads: Outcomes<Decoded>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

/// Counts of one thing by how it ended. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes<O> {
    counts: Family<OutcomeLabels, Counter>,
    of: PhantomData<fn(O)>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// How something ended.
pub(crate) trait Outcome: Copy + 'static {
    /// All that there are: each is shown from the start, so that its first rise is seen.
    const ALL: &'static [Self];

    fn name(self) -> &'static str;
}

/// How a try to log in ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Login {
    Succeeded,
    /// Another password, no such account, or a deactivated one.
    Refused,
    /// Too many were refused before.
    Throttled,
    /// The database was away, or too many passwords waited.
    Failed,
}

impl Outcome for Login {
    const ALL: &'static [Self] = &[Self::Succeeded, Self::Refused, Self::Throttled, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
        }
    }
}

/// What an image that was sent turned out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decoded {
    Image,
    NotAnImage,
    /// Nobody looked: too many waited.
    Busy,
}

impl Outcome for Decoded {
    const ALL: &'static [Self] = &[Self::Image, Self::NotAnImage, Self::Busy];

    fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::NotAnImage => "not_an_image",
            Self::Busy => "busy",
        }
    }
}

impl<O: Outcome> Outcomes<O> {
    fn new() -> Self {
        let counts = Family::default();
        for outcome in O::ALL {
            let _made = counts.get_or_create(&OutcomeLabels { outcome: outcome.name() });
        }
        Self { counts, of: PhantomData }
    }

    pub(crate) fn count(&self, outcome: O) {
        self.counts.get_or_create(&OutcomeLabels { outcome: outcome.name() }).inc();
    }
}

impl Metrics {
    pub(crate) fn new(db: &Db, cache: &Cache, handles: &Handles, answers: &Arc<Answers>) -> Self {
        let mut registry = Registry::default();
        let make: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        let requests = Family::new_with_constructor(make);
        let (in_flight, abandoned) = (Gauge::default(), Counter::default());
        let (logins, uploads) = (Outcomes::new(), Outcomes::new());
        registry.register(
            "souk_http_request_duration_seconds",
            "Requests answered and how long that took, by method, route and status",
            requests.clone(),
        );
        registry.register("souk_http_requests_in_flight", "Requests under way", in_flight.clone());
        registry.register(
            "souk_http_requests_abandoned",
            "Requests whose client left before the answer",
            abandoned.clone(),
        );
        registry.register("souk_logins", "Tries to log in, by what became of them", logins.counts.clone());
        registry.register("souk_uploads", "Images that were sent, by what they were", uploads.counts.clone());
        registry.register_collector(Box::new(Inside {
            db: db.clone(),
            cache: cache.clone(),
            handles: handles.clone(),
            answers: Arc::clone(answers),
        }));
        registry.register_collector(Box::new(Process::new()));
        Self { registry, requests, in_flight, abandoned, logins, uploads }
    }

    /// A request begins.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.in_flight.inc();
        UnderWay { metrics: self, began: Instant::now(), is_answered: false }
    }

    fn count(&self, req: &Request, status: StatusCode, took: Duration) {
        let route = route_of(req, status);
        // Methods are the client's to choose; those that no route knows count as one.
        let method = match req.method().as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            _ => "other",
        };
        let labels = RequestLabels { method, route, status: status.as_u16() };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// The pattern that the request's path matched.
pub(crate) fn route_of(req: &Request, status: StatusCode) -> String {
    if status == StatusCode::NOT_FOUND && req.matched_path().is_empty() {
        "unmatched".to_owned()
    } else {
        format!("/{}", req.matched_path().trim_matches('/'))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A request that is not answered yet. Its handler is dropped with it if the client leaves.
pub(crate) struct UnderWay<'m> {
    metrics: &'m Metrics,
    began: Instant,
    is_answered: bool,
}

impl UnderWay<'_> {
    /// Counts the answer, and gives how long it took.
    pub(crate) fn answered(mut self, req: &Request, status: StatusCode) -> Duration {
        self.is_answered = true;
        let took = self.began.elapsed();
        self.metrics.count(req, status, took);
        took
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        if !self.is_answered {
            self.metrics.abandoned.inc();
        }
    }
}

/// What goes on inside.
#[handler]
fn metrics(depot: &mut Depot, res: &mut Response) -> Result<(), ApiError> {
    let api: &Arc<_> = api(depot);
    let mut page = String::new();
    text::encode(&mut page, &api.metrics.registry).map_err(|_| ApiError::internal())?;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    res.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    res.body(page);
    Ok(())
}
