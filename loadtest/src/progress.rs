//! The line that moves while a run is counted. On a terminal only: a log would be full of it.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;

use crate::tally::Tally;

/// Shows how far a run is. Dropping it takes the line away.
pub(crate) struct Progress {
    bar: ProgressBar,
    _looking: JoinSet<()>,
}

impl Progress {
    /// Of a run that takes about so many seconds.
    pub(crate) fn of(what: &str, seconds: f64, tally: &Arc<Tally>) -> Self {
        let style = ProgressStyle::with_template("{prefix} {bar:20} {elapsed:>4} of {len} s  {msg}");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a handful of seconds")]
        let bar = ProgressBar::new(seconds.ceil() as u64)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_prefix(what.to_owned());
        let (mut looking, line, tally) = (JoinSet::new(), bar.clone(), Arc::clone(tally));
        looking.spawn(async move {
            loop {
                line.set_position(line.elapsed().as_secs());
                line.set_message(tally.line());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self { bar, _looking: looking }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
