//! When requests begin: by a clock that waits for no answer.
//!
//! A client that asks again only when it was answered asks a slow server less often, and its percentiles hide just the
//! waits that people would have had (coordinated omission). Here the times are planned before, and a latency counts from
//! the planned time, so a server that stalls for a second is charged with everybody who came meanwhile. The clock is a
//! thread of its own: the runtime's timers are coarse (1 ms), and it may be busy.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How the gaps between arrivals are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Spacing {
    /// As people come who do not know of each other: at random, sometimes many at once
    Poisson,
    /// One after the other, all gaps the same
    Even,
}

/// The planned times, counted from the start. The same seed gives the same times.
pub(crate) struct Plan {
    mean_gap: f64,
    spacing: Spacing,
    random: StdRng,
    next: f64,
    left: usize,
}

impl Plan {
    /// For so many seconds, on average `rate` a second.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and bounded above"
    )]
    pub(crate) fn lasting(rate: f64, spacing: Spacing, seconds: f64) -> Self {
        Self::new(rate, spacing, (rate * seconds).round().clamp(1.0, 100e6) as usize, 1)
    }

    /// `count` arrivals, on average `rate` a second.
    pub(crate) fn new(rate: f64, spacing: Spacing, count: usize, seed: u64) -> Self {
        Self { mean_gap: rate.recip(), spacing, random: StdRng::seed_from_u64(seed), next: 0.0, left: count }
    }
}

impl Iterator for Plan {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let planned = self.next;
        self.next += match self.spacing {
            Spacing::Even => self.mean_gap,
            // The gaps of a Poisson process are exponential; 1 - x is never 0, whose logarithm is infinite.
            Spacing::Poisson => -(1.0 - self.random.random::<f64>()).ln() * self.mean_gap,
        };
        Some(Duration::from_secs_f64(planned))
    }
}

/// Somebody who comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) number: usize,
    /// When he was to come; what the clock or the runtime were late counts as waiting.
    pub(crate) planned: Instant,
}

/// Does `work` for each arrival at its time, however many are still at work, waits for the last of them, and gives what
/// they came to, in the order in which they ended.
pub(crate) async fn at_their_times<F, T>(plan: Plan, mut work: impl FnMut(Arrival) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let mut arrivals = clock(plan);
    let mut working = JoinSet::new();
    let mut ended = Vec::new();
    loop {
        tokio::select! {
            arrival = arrivals.recv() => match arrival {
                Some(arrival) => { working.spawn(work(arrival)); }
                None => break,
            },
            Some(done) = working.join_next() => ended.push(done.expect("a visitor's work does not panic")),
        }
    }
    while let Some(done) = working.join_next().await {
        ended.push(done.expect("a visitor's work does not panic"));
    }
    ended
}

/// Does `work` for each arrival, as soon after its time as one of so many hands is free. Whoever has waited longer than
/// `patience` for one leaves; gives how many did.
pub(crate) async fn by_hands<F>(
    plan: Plan,
    hands: usize,
    patience: Duration,
    work: impl Fn(Arrival) -> F + Clone + Send + 'static,
) -> u64
where
    F: Future<Output = ()> + Send + 'static,
{
    let arrivals = Arc::new(Mutex::new(clock(plan)));
    let mut working = JoinSet::new();
    for _ in 0..hands {
        let (arrivals, work) = (arrivals.clone(), work.clone());
        working.spawn(async move {
            let mut left = 0;
            loop {
                let next = {
                    let mut arrivals = arrivals.lock().await;
                    loop {
                        match arrivals.recv().await {
                            Some(arrival) if arrival.planned.elapsed() > patience => left += 1,
                            next => break next,
                        }
                    }
                };
                let Some(arrival) = next else { return left };
                work(arrival).await;
            }
        });
    }
    working.join_all().await.into_iter().sum()
}

/// The arrivals, each at its time. The thread ends with the plan, or when nobody listens.
fn clock(plan: Plan) -> UnboundedReceiver<Arrival> {
    // Never longer than the plan, so it has a bound.
    let (sender, arrivals) = unbounded_channel();
    let began = Instant::now();
    thread::spawn(move || {
        for (number, offset) in plan.enumerate() {
            let planned = began + offset;
            loop {
                let left = planned.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::park_timeout(left);
            }
            if sender.send(Arrival { number, planned }).is_err() {
                return;
            }
        }
    });
    arrivals
}

/// # Errors
/// If an option of this name was given a number that is none, or none above 0.
pub(crate) fn must_be_positive(option: &str, number: f64) -> anyhow::Result<()> {
    ensure!(number.is_finite() && number > 0.0, "{option} must be more than nothing");
    Ok(())
}

/// How many come, and how.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Load {
    /// How many arrive a second, on average
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// For how many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// How the gaps between them are made
    #[arg(long, value_enum, default_value_t = Spacing::Poisson)]
    pub(crate) spacing: Spacing,
    /// How many keep-alive connections there are at most; who finds none free waits, and that counts
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) connections: NonZeroUsize,
}

/// What a scenario does if nothing else is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual {
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
}

impl Load {
    /// # Errors
    /// If the rate or the time is no positive number.
    pub(crate) fn plan(&self, usual: Usual) -> anyhow::Result<Plan> {
        let (rate, seconds) = (self.rate.unwrap_or(usual.rate), self.seconds.unwrap_or(usual.seconds));
        must_be_positive("--rate", rate)?;
        must_be_positive("--seconds", seconds)?;
        let count = rate * seconds;
        ensure!(count <= 100e6, "{count:.0} arrivals are more than this program keeps apart");
        Ok(Plan::lasting(rate, self.spacing, seconds))
    }
}

impl Plan {
    /// How many arrive.
    pub(crate) fn arrivals(&self) -> usize {
        self.left
    }

    /// How long it takes until all have come, about.
    pub(crate) fn seconds(&self) -> f64 {
        self.left as f64 * self.mean_gap
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::sleep;

    use super::*;

    #[test]
    fn even_arrivals_are_all_as_far_apart() {
        let plan = Plan::new(200.0, Spacing::Even, 4, 1);
        let millis: Vec<_> = plan.map(|at| at.as_millis()).collect();
        assert_eq!(millis, [0, 5, 10, 15]);
    }

    #[tokio::test]
    async fn whoever_waits_too_long_for_a_hand_leaves() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let work = {
            let done = done.clone();
            move |arrival: Arrival| {
                let done = done.clone();
                async move {
                    done.lock().expect("nobody panicked").push(arrival.number);
                    sleep(Duration::from_millis(300)).await;
                }
            }
        };
        // All at once, and one hand: the second is too late.
        let plan = Plan::new(1e6, Spacing::Even, 20, 1);
        let left = by_hands(plan, 1, Duration::from_millis(200), work).await;
        assert_eq!((done.lock().expect("nobody panicked").as_slice(), left), (&[0][..], 19));
    }

    #[test]
    fn poisson_arrivals_come_at_the_rate_and_without_a_pattern() {
        let times: Vec<_> =
            Plan::new(1_000.0, Spacing::Poisson, 100_000, 7).map(|at| at.as_secs_f64()).collect();
        assert!(times.is_sorted());
        let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((0.000_98..0.001_02).contains(&mean), "{mean}");
        // Of an exponential distribution 1/e is longer than the mean, and its deviation is the mean.
        let longer = gaps.iter().filter(|gap| **gap > mean).count() as f64 / gaps.len() as f64;
        assert!((0.36..0.376).contains(&longer), "{longer}");
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((0.97..1.03).contains(&(variance.sqrt() / mean)), "{variance}");
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let times = |seed| Plan::new(10.0, Spacing::Poisson, 50, seed).collect::<Vec<_>>();
        assert_eq!(times(3), times(3));
        assert_ne!(times(3), times(4));
    }

    #[tokio::test]
    async fn nobody_waits_for_those_before_him() {
        // The first one is done when the last one has come: with one after the other this would never end.
        let last = Arc::new(tokio::sync::Notify::new());
        let numbers = Arc::new(Mutex::new(Vec::new()));
        at_their_times(Plan::new(1_000.0, Spacing::Even, 5, 1), |arrival| {
            let (last, numbers) = (Arc::clone(&last), Arc::clone(&numbers));
            async move {
                numbers.lock().unwrap().push(arrival.number);
                match arrival.number {
                    0 => last.notified().await,
                    4 => last.notify_one(),
                    _ => {}
                }
            }
        })
        .await;
        let mut numbers = numbers.lock().unwrap().clone();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_load_of_nothing_is_refused() {
        let load =
            |rate, seconds| Load { rate, seconds, spacing: Spacing::Even, connections: NonZeroUsize::MIN };
        let usual = Usual { rate: 50.0, seconds: 2.0 };
        assert_eq!(load(None, None).plan(usual).unwrap().arrivals(), 100);
        assert_eq!(load(Some(10.0), Some(0.01)).plan(usual).unwrap().arrivals(), 1);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(load(Some(bad), None).plan(usual).is_err());
            assert!(load(None, Some(bad)).plan(usual).is_err());
        }
    }
}
