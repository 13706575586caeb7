//! The log: to stderr, for people or, in JSON, for machines. Started once, before anything else may log.

use std::io::IsTerminal;

use souk::config::Config;
use tracing_subscriber::EnvFilter;

/// Libraries that say at every start what Souk says better, unless they are asked for.
const QUIETER: [&str; 2] = ["salvo_core", "sqlx::postgres::notice"];

pub(crate) fn start(config: &Config) {
    let mut filter = config.log_filter.clone();
    for target in QUIETER.iter().filter(|target| !config.log_filter.contains(*target)) {
        filter += &format!(",{target}=warn");
    }
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr);
    if config.debug {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        log.with_ansi(colours).init();
    } else {
        log.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
    }
}
