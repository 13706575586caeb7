//! The log: to stderr, for people or, in JSON, for machines; and the spans of requests, to a collector if there is one.
//! Started once, before anything else may log.
//!
//! Without a collector no span is made but that of the request, whose id each line carries. With one, spans go out by a
//! thread of their own in batches; what it cannot send in time is dropped, and the log says so.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use souk::config::Config;
use souk_store::TRACES;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
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
        .with_filter(souk);
    let log: Box<dyn Layer<Registry> + Send + Sync> = lines(config);
    tracing_subscriber::registry().with(log.with_filter(filter)).with(exported).init();
    Ok(Log { spans: Some(spans) })
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
