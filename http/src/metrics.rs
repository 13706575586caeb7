//! `/metrics` in Prometheus's text format (contract: Pages and operations).
//!
//! Requests are counted as they are answered; what the actors, the cache and the pools do is read from them when
//! somebody asks. Labels take only values of fixed sets (route patterns, not paths), so that no client can fill memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use salvo::http::{HeaderValue, StatusCode, header};
use salvo::{Depot, Request, Response, Router, handler};
use souk_actors::Handles;
use souk_store::{Cache, Db};

use crate::error::ApiError;
use crate::extract::api;

/// Upper bounds of the latency buckets, in seconds.
const LATENCY_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The route of this file.
pub(crate) fn routes() -> Router {
    Router::with_path("metrics").get(metrics)
}

/// What is counted, and where the rest is read.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

impl Metrics {
    pub(crate) fn new(db: &Db, cache: &Cache, handles: &Handles) -> Self {
        let mut registry = Registry::with_prefix("souk");
        let make: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        let requests = Family::new_with_constructor(make);
        registry.register(
            "http_request_duration_seconds",
            "Requests answered and how long they took, by method, route and status",
            requests.clone(),
        );
        let inside = Inside { db: db.clone(), cache: cache.clone(), handles: handles.clone() };
        registry.register_collector(Box::new(inside));
        Self { registry, requests }
    }

    /// Counts one answer.
    pub(crate) fn count(&self, req: &Request, status: StatusCode, took: Duration) {
        let route = if status == StatusCode::NOT_FOUND && req.matched_path().is_empty() {
            "unmatched".to_owned()
        } else {
            format!("/{}", req.matched_path().trim_matches('/'))
        };
        // Methods are the client's to choose; those that no route knows count as one.
        let method = match req.method().as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "other",
        };
        let labels = RequestLabels { method: method.to_owned(), route, status: status.as_u16() };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Reads what the rest of the process counts itself.
#[derive(Debug)]
struct Inside {
    db: Db,
    cache: Cache,
    handles: Handles,
}

impl Collector for Inside {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder: &mut encoder };
        let ledger = self.handles.ledger.load();
        page.gauge("ledger_admitted", "Works that wait for the ledger or are under way", ledger.admitted)?;
        page.gauge("ledger_admissions", "The most works that may wait or be under way", ledger.most)?;
        page.counter("ledger_busy", "Works refused because the ledger was full", ledger.busy)?;
        let mut bound = 0.5;
        let sizes: Vec<(f64, u64)> = ledger
            .batch_sizes
            .iter()
            .map(|count| {
                bound *= 2.0;
                (bound, *count)
            })
            .collect();
        page.encoder
            .encode_descriptor(
                "ledger_batch_works",
                "Works of each committed batch",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(works_sum(ledger.works), ledger.batches, &sizes, None)?;
        page.counter_seconds(
            "ledger_commit_seconds",
            "Time spent in the ledger's transactions",
            ledger.commit_seconds,
        )?;
        page.gauge("carts_alive", "Carts in memory", self.handles.carts.alive())?;
        let sessions = self.handles.sessions.counts();
        page.gauge("sockets", "WebSockets that are open", sessions.sockets)?;
        page.gauge("sessions_alive", "Users who hold a WebSocket", sessions.sessions)?;
        page.counter("sockets_too_slow", "WebSockets closed because they did not read", sessions.too_slow)?;
        let cache = self.cache.stats();
        page.counter("cache_hits", "Reads answered from memory", cache.hits)?;
        page.counter("cache_misses", "Reads that memory could not answer", cache.misses)?;
        if let Some(redis) = self.cache.redis() {
            let help = "Reads that found in Redis what a node had loaded";
            page.counter("cache_shared_hits", help, cache.shared_hits)?;
            page.gauge(
                "redis_connected",
                "Whether this node hears the others",
                usize::from(redis.is_connected()),
            )?;
            page.gauge(
                "redis_in_use",
                "Whether readers ask Redis: it is connected and quick",
                usize::from(redis.is_quick()),
            )?;
        }
        for pool in self.db.pool_use() {
            let used = pool.connections.saturating_sub(pool.idle);
            page.gauge(
                &format!("db_{}_connections", pool.name),
                "Open connections of the pool",
                pool.connections,
            )?;
            page.gauge(&format!("db_{}_connections_in_use", pool.name), "Connections in use", used)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of works stays far below 2^53")]
fn works_sum(works: u64) -> f64 {
    works as f64
}

struct Page<'e, 'a> {
    encoder: &'e mut DescriptorEncoder<'a>,
}

impl Page<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Counter,
        )?)
    }

    fn counter_seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstCounter::new(value).encode(self.encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Counter,
        )?)
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
