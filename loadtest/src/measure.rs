//! Rounds of clients that ask one after the other, medians, and tables.
//!
//! A scenario that compares sides does it within one run: a round of each side in turn, again and again, so that whatever
//! else the machine does hits all of them. What counts is the median of the rounds' ratios; absolute figures belong to
//! one machine and one hour.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One of the clients that work side by side, each on one job at a time.
pub(crate) trait Client: Send + 'static {
    /// Does one job; an error ends the whole scenario.
    fn work(&mut self, job: usize) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What a round took.
#[derive(Debug)]
pub(crate) struct Round {
    jobs: usize,
    elapsed: Duration,
    /// From the shortest to the longest.
    latencies: Vec<Duration>,
}

impl Round {
    /// Jobs a second.
    pub(crate) fn rate(&self) -> f64 {
        self.jobs as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this many of a thousand jobs stayed within.
    pub(crate) fn latency(&self, permille: usize) -> Duration {
        let rank = (self.latencies.len() * permille).div_ceil(1000);
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// Lets the clients do the jobs `0..jobs`, each taking the next one when it is done with its last. Gives the clients
/// back for what they have noted.
pub(crate) async fn round<C: Client>(clients: Vec<C>, jobs: usize) -> anyhow::Result<(Round, Vec<C>)> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut working = JoinSet::new();
    let started = Instant::now();
    for mut client in clients {
        let next = Arc::clone(&next);
        working.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let job = next.fetch_add(1, Ordering::Relaxed);
                if job >= jobs {
                    return anyhow::Ok((client, latencies));
                }
                let asked = Instant::now();
                client.work(job).await?;
                latencies.push(asked.elapsed());
            }
        });
    }
    let (mut clients, mut latencies) = (Vec::new(), Vec::new());
    while let Some(ended) = working.join_next().await {
        let (client, mut own) = ended??;
        clients.push(client);
        latencies.append(&mut own);
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    Ok((Round { jobs, elapsed, latencies }, clients))
}

/// The jobs a second of each round.
pub(crate) fn rates(rounds: &[Round]) -> Vec<f64> {
    rounds.iter().map(Round::rate).collect()
}

/// Of the latencies that this many of a thousand jobs stayed within, the middle one of the rounds; in milliseconds.
pub(crate) fn median_latency(rounds: &[Round], permille: usize) -> String {
    let mut latencies: Vec<_> = rounds.iter().map(|round| round.latency(permille)).collect();
    latencies.sort_unstable();
    milliseconds(latencies.get(latencies.len() / 2).copied().unwrap_or_default())
}

/// Figures of several rounds: the one in the middle, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Not a number of no figures at all.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let middle = |rank: usize| figures.get(rank).copied().unwrap_or(f64::NAN);
        let (low, high) = (figures.len().saturating_sub(1) / 2, figures.len() / 2);
        Self {
            least: middle(0),
            median: f64::midpoint(middle(low), middle(high)),
            most: middle(figures.len().saturating_sub(1)),
        }
    }

    /// How the first side compares with the second, round by round.
    pub(crate) fn of_ratios(firsts: &[f64], seconds: &[f64]) -> Self {
        Self::of(firsts.iter().zip(seconds).map(|(first, second)| first / second))
    }

    /// `12.3 (11.8–13.0)`.
    pub(crate) fn as_ratio(&self, places: usize) -> String {
        format!("{:.places$} ({:.places$}–{:.places$})", self.median, self.least, self.most)
    }
}

/// The order in which the sides of a round take their turns: every other round the other way round.
pub(crate) fn turns(sides: usize, round: usize) -> Vec<usize> {
    let forth = 0..sides;
    if round.is_multiple_of(2) { forth.collect() } else { forth.rev().collect() }
}

/// `12,345`.
pub(crate) fn whole(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `12.3 ms`.
pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// A table in Markdown, with columns as wide as what they hold.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// A list of objects, each a row.
    pub(crate) fn as_json(&self) -> Value {
        let mut rows = self.rows.iter();
        let heads = rows.next().map(Vec::as_slice).unwrap_or_default();
        // A head that stands twice, as `p99` of two sides, is told apart by its column.
        let name = |column: usize| match heads[..column].contains(&heads[column]) {
            true => format!("{} ({})", heads[column], column + 1),
            false => heads[column].clone(),
        };
        let named = |cells: &Vec<String>| {
            let cells =
                cells.iter().enumerate().map(|(column, cell)| (name(column), Value::from(cell.as_str())));
            Value::Object(cells.collect::<Map<_, _>>())
        };
        rows.map(named).collect()
    }

    pub(crate) fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
            if index == 0 {
                let rules = widths.iter().map(|&width| "-".repeat(width.max(3)));
                text += &format!("| {} |\n", rules.collect::<Vec<_>>().join(" | "));
            }
        }
        text
    }
}

/// One line on what the figures were measured on. How busy the machine was before says how far to trust them.
pub(crate) fn machine(folder: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    let build =
        if cfg!(debug_assertions) { "debug build: the figures mean nothing" } else { "release build" };
    format!("{cores} cores, load before {load}, {}, {build}", file_system(folder))
}

/// The kind of file system that a folder lies on: `tmpfs` would make every commit a lie.
fn file_system(folder: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_default();
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(point, _)| folder.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    mount.map_or("unknown file system", |(_, kind)| kind).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Noting(Vec<usize>);

    impl Client for Noting {
        async fn work(&mut self, job: usize) -> anyhow::Result<()> {
            anyhow::ensure!(job != 99, "job 99 is not to be had");
            self.0.push(job);
            tokio::task::yield_now().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_job_of_a_round_is_done_once_and_an_error_ends_it() {
        let clients = || (0..4).map(|_| Noting(Vec::new())).collect();
        let (round, clients_after) = round(clients(), 50).await.unwrap();
        let mut done: Vec<usize> = clients_after.into_iter().flat_map(|client| client.0).collect();
        done.sort_unstable();
        assert_eq!(done, (0..50).collect::<Vec<_>>());
        assert_eq!((round.jobs, round.latencies.len()), (50, 50));
        assert!(super::round(clients(), 100).await.is_err());
    }

    #[test]
    fn a_latency_is_the_one_that_so_many_stayed_within() {
        let latencies = (1..=200).map(Duration::from_millis).collect();
        let round = Round { jobs: 200, elapsed: Duration::from_secs(4), latencies };
        assert_eq!(round.latency(500), Duration::from_millis(100));
        assert_eq!(round.latency(990), Duration::from_millis(198));
        assert_eq!(round.latency(1000), Duration::from_millis(200));
        assert!((round.rate() - 50.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_median_of_ratios_is_taken_round_by_round() {
        let spread = Spread::of_ratios(&[10.0, 40.0, 90.0], &[1.0, 2.0, 3.0]);
        assert_eq!(spread, Spread { least: 10.0, median: 20.0, most: 30.0 });
        assert_eq!(spread.as_ratio(1), "20.0 (10.0–30.0)");
        assert!((Spread::of([1.0, 2.0, 4.0, 9.0]).median - 3.0).abs() < f64::EPSILON);
        assert!(Spread::of([]).median.is_nan());
    }

    #[test]
    fn sides_take_turns_both_ways() {
        assert_eq!((turns(3, 0), turns(3, 1)), (vec![0, 1, 2], vec![2, 1, 0]));
    }

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!([whole(7.4), whole(1234.5), whole(1_234_567.0)], ["7", "1,234", "1,234,567"]);
        let mut table = Table::new(&["what", "n"]);
        table.row(["a – b".to_owned(), "1,000".to_owned()]);
        assert_eq!(table.text(), "| what  | n     |\n| ----- | ----- |\n| a – b | 1,000 |\n");
        let mut table = Table::new(&["p99", "p99"]);
        table.row(["1".to_owned(), "2".to_owned()]);
        assert_eq!(table.as_json(), serde_json::json!([{ "p99": "1", "p99 (2)": "2" }]));
    }
}
