//! The log: to stderr, for people or, in JSON, for machines; and the spans of requests, to a collector if there is one.
//! Started once, before anything else may log.
//!
//! Without a collector no span is made but that of the request, whose id each line carries, and of what an open WebSocket
//! asks for now and then, with its user. With one, spans go out by a thread of their own in batches; what it cannot send in
//! time is dropped, and the log says so.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use souk::config::Config;
use souk_store::TRACES;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Libraries that say at every start what Souk says better, unless they are asked for.
const QUIETER: [&str; 2] = ["salvo_core", "sqlx::postgres::notice"];

/// How long the last spans may take on their way out.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// The log, for as long as anything is logged.
pub(crate) struct Log {
    spans: Option<SdkTracerProvider>,
}

/// Starts the log, and with `exports` the way to the collector of the settings.
pub(crate) fn start(config: &Config, exports: bool) -> anyhow::Result<Log> {
    let mut filter = config.log_filter.clone();
    for target in QUIETER.iter().filter(|target| !config.log_filter.contains(*target)) {
        filter += &format!(",{target}=warn");
    }
    if !config.log_filter.contains(TRACES) {
        // They would stand in the place of the request's span, and its id.
        filter += &format!(",{TRACES}=off");
    }
    let filter = EnvFilter::new(filter);
    let Some(collector) = config.collector.as_ref().filter(|_| exports) else {
        tracing_subscriber::registry().with(filter).with(lines(config)).init();
        return Ok(Log { spans: None });
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{collector}/v1/traces"))
        .build()
        .context("spans cannot be exported")?;
    let spans = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(config.service_name.clone()).build())
        .build();
    // Of Souk's own crates, whatever the log shows.
    let souk = Targets::new().with_target("souk", LevelFilter::INFO).with_target(TRACES, LevelFilter::DEBUG);
    let exported = tracing_opentelemetry::layer()
        .with_tracer(spans.tracer("souk"))
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Always(souk));
    let log: Box<dyn Layer<Registry> + Send + Sync> = lines(config);
    tracing_subscriber::registry().with(log.with_filter(Always(filter))).with(exported).init();
    Ok(Log { spans: Some(spans) })
}

/// A filter that is asked about every span and line, whatever it said of others from the same place.
///
/// The two filters note what they think in memory of the thread, and what is logged reads it there. Where a library asks
/// whether something would be logged, and then logs nothing, as sqlx does for each statement, the note is left behind:
/// what comes next from a place that both filters always let pass, for which nobody asks again, would be lost.
struct Always<F>(F);

impl<S, F: Filter<S>> Filter<S> for Always<F> {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        self.0.enabled(metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = self.0.callsite_enabled(metadata);
        if interest.is_always() { Interest::sometimes() } else { interest }
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        self.0.event_enabled(event, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.on_close(id, context);
    }
}

/// What writes the lines.
fn lines<S>(config: &Config) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if config.debug {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        lines.with_ansi(colours).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    }
}

impl Log {
    /// Sends the last spans on their way, and waits for them.
    pub(crate) async fn close(self) {
        let Some(spans) = self.spans else { return };
        // It waits for a thread.
        let closing = tokio::task::spawn_blocking(move || spans.shutdown_with_timeout(LAST_SPANS));
        if let Ok(Err(error)) = closing.await {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
