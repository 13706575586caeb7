//! What the actors, the cache, Redis and the database count themselves, read when somebody asks for the metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use souk_actors::{Handles, Load};
use souk_store::db::Engine;
use souk_store::{Cache, Db, Redis};

use crate::rendered::Answers;

/// Where it is read.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) db: Db,
    pub(super) cache: Cache,
    pub(super) handles: Handles,
    pub(super) answers: Arc<Answers>,
}

impl Collector for Inside {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder: &mut encoder };
        let engine = match self.db.engine() {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgres",
        };
        let version = env!("CARGO_PKG_VERSION");
        page.encoder
            .encode_descriptor("souk_build_info", "What runs here; always 1", None, MetricType::Gauge)?
            .encode_family(&[("version", version), ("database", engine)])?
            .encode_gauge(&1_i64)?;
        ledger(&mut page, &self.handles.ledger.load())?;
        let (waiting, most) = self.handles.carts.waiting();
        page.gauge("souk_carts_alive", "Carts in memory", self.handles.carts.alive())?;
        page.gauge("souk_cart_requests", "Requests that wait for carts or are under way there", waiting)?;
        page.gauge("souk_cart_requests_max", "The most that there may be; more are refused", most)?;
        let help = "Requests that carts, or the ledger behind them, refused, by the reason";
        page.counters("souk_cart_requests_refused", help, "reason", &self.handles.carts.refused())?;
        self.sockets(&mut page)?;
        let failures = self.handles.failures();
        page.counters("souk_actor_failures", "Actors that ended and had to start again", "actor", &failures)?;
        self.reads(&mut page)?;
        if let Some(redis) = self.cache.redis() {
            of_redis(&mut page, redis)?;
        }
        self.pools(&mut page)
    }
}

fn ledger(page: &mut Page<'_, '_>, load: &Load) -> fmt::Result {
    page.gauge("souk_ledger_works", "Works that wait for the ledger or are under way", load.admitted)?;
    page.gauge("souk_ledger_works_max", "The most that there may be; more are refused", load.most)?;
    page.counters(
        "souk_ledger_works_done",
        "Works that the ledger did, by what was done",
        "what",
        &load.done,
    )?;
    let help = "Works that the ledger refused, by the reason";
    page.counters("souk_ledger_works_refused", help, "reason", &load.refused)?;
    page.doubling_histogram(
        "souk_ledger_batch_size_works",
        "Works of each committed batch",
        1.0,
        &load.batch_sizes,
        float(load.works),
    )?;
    page.doubling_histogram(
        "souk_ledger_transaction_duration_seconds",
        "How long each of the ledger's transactions took, those included that were rolled back",
        0.000_5,
        &load.commit_times,
        load.commit_seconds,
    )
}

impl Inside {
    fn sockets(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let counts = self.handles.sessions.counts();
        page.gauge("souk_sockets", "WebSockets that are open", counts.sockets)?;
        page.gauge("souk_sockets_max", "The most that there may be; more are refused", counts.most)?;
        page.gauge("souk_sessions", "Users whose events WebSockets are on", counts.sessions)?;
        page.counter("souk_sockets_opened", "WebSockets that were opened", counts.opened)?;
        let help = "WebSockets closed because they did not read";
        page.counter("souk_sockets_too_slow", help, counts.too_slow)?;
        page.counters(
            "souk_events_sent",
            "Events given to WebSockets: live, or replayed from the database",
            "source",
            &[("live", counts.sent_live), ("replay", counts.replayed)],
        )
    }

    fn reads(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let stats = self.cache.stats();
        // The counts are not taken at one moment.
        let loaded = stats.misses.saturating_sub(stats.shared_hits);
        page.counters(
            "souk_cache_reads",
            "Reads by where the answer was: ready to be sent, in memory, in Redis, or only in the database",
            "level",
            &[
                ("answers", self.answers.hits()),
                ("memory", stats.hits),
                ("redis", stats.shared_hits),
                ("database", loaded),
            ],
        )
    }

    fn pools(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let pools = self.db.pool_use();
        let most: Vec<_> = pools.iter().map(|pool| (pool.name, pool.most)).collect();
        let open: Vec<_> = pools.iter().map(|pool| (pool.name, pool.connections)).collect();
        let used: Vec<_> =
            pools.iter().map(|pool| (pool.name, pool.connections.saturating_sub(pool.idle))).collect();
        page.gauges("souk_db_connections", "Open connections to the database", "pool", &open)?;
        page.gauges("souk_db_connections_in_use", "Those of them that are in use", "pool", &used)?;
        page.gauges("souk_db_connections_max", "The most that are opened", "pool", &most)
    }
}

fn of_redis(page: &mut Page<'_, '_>, redis: &Redis) -> fmt::Result {
    let counts = redis.counts();
    let (connected, in_use) = (usize::from(redis.is_connected()), usize::from(redis.is_quick()));
    page.gauge("souk_redis_connected", "Whether this node hears the others", connected)?;
    page.gauge("souk_redis_in_use", "Whether readers ask Redis: it is connected and quick", in_use)?;
    let help = "How often callers began to pass Redis by because it was slow or failed";
    page.counter("souk_redis_breaker_opened", help, counts.passed_by)?;
    let help = "How often a connection that was in use was lost";
    page.counter("souk_redis_connections_lost", help, counts.losses)
}

/// Writes metrics, each name once.
struct Page<'e, 'a> {
    encoder: &'e mut DescriptorEncoder<'a>,
}

impl Page<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(whole(value)).encode(metric)
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, usize)]) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value_of, value) in values {
            family.encode_family(&[(label, *value_of)])?.encode_gauge(&whole(*value))?;
        }
        Ok(())
    }

    /// The encoder adds `_total` to the name.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value_of, value) in values {
            let value_of = value_of.replace(' ', "_");
            family
                .encode_family(&[(label, value_of.as_str())])?
                .encode_counter::<NoLabelSet, u64, u64>(value, None)?;
        }
        Ok(())
    }

    /// Buckets each of which reaches twice as far as the one before; the last reaches for ever.
    fn doubling_histogram(
        &mut self,
        name: &str,
        help: &str,
        first_bound: f64,
        counts: &[u64],
        sum: f64,
    ) -> fmt::Result {
        let mut bound = first_bound / 2.0;
        let mut buckets: Vec<(f64, u64)> = counts
            .iter()
            .map(|count| {
                bound *= 2.0;
                (bound, *count)
            })
            .collect();
        if let Some(last) = buckets.last_mut() {
            last.0 = f64::INFINITY;
        }
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }
}

fn whole(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a count of works stays far below 2^53")]
fn float(works: u64) -> f64 {
    works as f64
}
