//! What the answers were, counted while they come: by kind of request, and second by second.
//!
//! A latency counts from when the request was planned to begin, and is kept in an HDR histogram: three digits, however
//! long it was. A refusal (503 with `Retry-After`) is what the contract promises of a server that is asked too much: it
//! is no fault, and has a histogram of its own. One lock: it is held for less than a microsecond.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Answer, Pool, Request};
use crate::measure::{Table, whole};
use crate::verdict::{Fault, Faults};

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// As the scenario wishes.
    Good(Answer),
    /// Refused for now: 503 with `Retry-After`, which is how long.
    Refused(Duration),
    /// It must not be.
    Bad(Fault, String),
}

impl Ending {
    /// Sends a request, and judges its answer; a request that could not be made has none.
    pub(crate) async fn of_asking(pool: &Pool, request: anyhow::Result<Request>, good: &[u16]) -> Self {
        let outcome = match request {
            Ok(request) => pool.send(request).await,
            Err(error) => Err(error),
        };
        Self::of(outcome, good)
    }

    /// Judges an answer, of which these statuses are good.
    pub(crate) fn of(outcome: anyhow::Result<Answer>, good: &[u16]) -> Self {
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => return Self::Bad(Fault::NoAnswer, format!("{error:#}")),
        };
        let status = answer.status.as_u16();
        if good.contains(&status) {
            return Self::Good(answer);
        }
        let retry_after = answer.retry_after().filter(|_| status == 503);
        match retry_after {
            Some(wait) => Self::Refused(wait),
            None if status >= 500 => Self::Bad(Fault::ServerError, answer.in_words()),
            None => Self::Bad(Fault::Unexpected, answer.in_words()),
        }
    }
}

/// Counts and latencies of one kind of request.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    good: Histogram<u64>,
    refused: Histogram<u64>,
    bad: u64,
}

/// One second of the run.
#[derive(Debug)]
pub(crate) struct Second {
    pub(crate) good: u64,
    pub(crate) refused: u64,
    pub(crate) bad: u64,
    latencies: Histogram<u32>,
}

impl Second {
    fn new() -> Self {
        let latencies = Histogram::new(2).expect("two digits are a precision");
        Self { good: 0, refused: 0, bad: 0, latencies }
    }

    /// The latency in milliseconds that this part of the second's good answers stayed within; none without any.
    pub(crate) fn latency(&self, quantile: f64) -> Option<f64> {
        within(&self.latencies, quantile)
    }
}

#[derive(Debug)]
struct Counts {
    began: Instant,
    ended: Instant,
    kinds: Vec<Kind>,
    seconds: Vec<Second>,
    faults: Faults,
}

/// The count of a run, shared by all who ask.
#[derive(Debug)]
pub(crate) struct Tally(Mutex<Counts>);

/// A second later nothing is kept apart any more: a day.
const MOST_SECONDS: usize = 86_400;
/// No latency is longer, so that a histogram's memory has a bound.
const LONGEST: Duration = Duration::from_hours(1);

/// Not by `saturating_record`, which does not let the histogram grow.
fn note<C: hdrhistogram::Counter>(histogram: &mut Histogram<C>, micros: u64) {
    histogram.record(micros).expect("a histogram that grows takes all");
}

/// What this part of the latencies stayed within, in milliseconds; none without any.
fn within<C: hdrhistogram::Counter>(histogram: &Histogram<C>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e3)
}

/// `12.3 ms`, or a dash.
fn in_words(latency: Option<f64>) -> String {
    latency.map_or_else(|| "–".to_owned(), |milliseconds| format!("{milliseconds:.1} ms"))
}

impl Tally {
    /// Begins now.
    pub(crate) fn new() -> Self {
        let began = Instant::now();
        Self(Mutex::new(Counts {
            began,
            ended: began,
            kinds: Vec::new(),
            seconds: Vec::new(),
            faults: Faults::default(),
        }))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that was planned for then and has just ended; gives a good answer back.
    pub(crate) fn count(&self, kind: &'static str, planned: Instant, ending: Ending) -> Option<Answer> {
        let now = Instant::now();
        let micros = u64::try_from(now.duration_since(planned).min(LONGEST).as_micros()).unwrap_or_default();
        let mut counts = self.counts();
        counts.ended = now;
        let second = counts.second(now);
        match &ending {
            Ending::Good(_) => {
                second.good += 1;
                note(&mut second.latencies, micros);
            }
            Ending::Refused(_) => second.refused += 1,
            Ending::Bad(..) => second.bad += 1,
        }
        let of_kind = counts.kind(kind);
        match ending {
            Ending::Good(answer) => {
                note(&mut of_kind.good, micros);
                Some(answer)
            }
            Ending::Refused(_) => {
                note(&mut of_kind.refused, micros);
                None
            }
            Ending::Bad(fault, example) => {
                of_kind.bad += 1;
                counts.faults.add(fault, format!("{kind}: {example}"));
                None
            }
        }
    }

    /// Notes what was found wrong with a good answer, or between several.
    pub(crate) fn fault(&self, fault: Fault, example: impl Into<String>) {
        self.counts().faults.add(fault, example);
    }

    /// What was found wrong so far, taken out.
    pub(crate) fn take_faults(&self) -> Faults {
        std::mem::take(&mut self.counts().faults)
    }

    /// `12,345 good, 1,234/s, p99 3.2 ms, 0 refused, 0 bad`: the last whole second, for the line that moves.
    pub(crate) fn line(&self) -> String {
        let counts = self.counts();
        let total = |of: fn(&Second) -> u64| counts.seconds.iter().map(of).sum::<u64>() as f64;
        let last = counts.seconds.iter().rev().nth(1).or_else(|| counts.seconds.last());
        let (rate, p99) = last.map_or((0, None), |second| (second.good, second.latency(0.99)));
        format!(
            "{} good, {}/s, p99 {}, {} refused, {} bad",
            whole(total(|second| second.good)),
            whole(rate as f64),
            in_words(p99),
            whole(total(|second| second.refused)),
            whole(total(|second| second.bad)),
        )
    }

    /// Good answers a second, from the start to the last answer.
    pub(crate) fn goodput(&self) -> f64 {
        let counts = self.counts();
        counts.good() as f64 / counts.elapsed()
    }

    /// How many good answers of a kind there were.
    pub(crate) fn good(&self, name: &str) -> u64 {
        self.counts().kinds.iter().find(|kind| kind.name == name).map_or(0, |kind| kind.good.len())
    }

    /// How many were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.counts().kinds.iter().map(|kind| kind.refused.len()).sum()
    }

    /// How many ended, in whatever way.
    pub(crate) fn ended(&self) -> u64 {
        self.counts().kinds.iter().map(|kind| kind.good.len() + kind.refused.len() + kind.bad).sum()
    }

    /// Which part of all was good.
    pub(crate) fn served(&self) -> f64 {
        let good = self.counts().good();
        good as f64 / self.ended() as f64
    }

    /// What this part of a kind's good answers stayed within, in milliseconds; none without any.
    pub(crate) fn latency(&self, name: &str, quantile: f64) -> Option<f64> {
        let counts = self.counts();
        let kind = counts.kinds.iter().find(|kind| kind.name == name)?;
        within(&kind.good, quantile)
    }

    /// The same of all refusals.
    pub(crate) fn refusal_latency(&self, quantile: f64) -> Option<f64> {
        let counts = self.counts();
        let mut all: Histogram<u64> = Histogram::new(3).expect("three digits are a precision");
        for kind in &counts.kinds {
            all.add(&kind.refused).expect("a histogram that grows takes all");
        }
        within(&all, quantile)
    }

    /// A row for each kind.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new(&[
            "what", "good", "a second", "p50", "p90", "p99", "p99.9", "max", "refused", "p99", "bad",
        ]);
        let counts = self.counts();
        for kind in &counts.kinds {
            let at = |histogram, quantile| in_words(within(histogram, quantile));
            table.row([
                kind.name.to_owned(),
                whole(kind.good.len() as f64),
                whole(kind.good.len() as f64 / counts.elapsed()),
                at(&kind.good, 0.5),
                at(&kind.good, 0.9),
                at(&kind.good, 0.99),
                at(&kind.good, 0.999),
                at(&kind.good, 1.0),
                whole(kind.refused.len() as f64),
                at(&kind.refused, 0.99),
                whole(kind.bad as f64),
            ]);
        }
        table
    }

    pub(crate) fn as_json(&self) -> Value {
        let counts = self.counts();
        let latencies = |histogram: &Histogram<u64>| {
            let at = |quantile| within(histogram, quantile).unwrap_or_default();
            json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0) })
        };
        let kinds: Vec<_> = counts
            .kinds
            .iter()
            .map(|kind| {
                json!({
                    "what": kind.name,
                    "good": kind.good.len(),
                    "good_per_second": kind.good.len() as f64 / counts.elapsed(),
                    "good_ms": latencies(&kind.good),
                    "refused": kind.refused.len(),
                    "refused_ms": latencies(&kind.refused),
                    "bad": kind.bad,
                })
            })
            .collect();
        let seconds: Vec<_> = counts
            .seconds
            .iter()
            .map(|second| {
                json!({
                    "good": second.good,
                    "refused": second.refused,
                    "bad": second.bad,
                    "p50_ms": second.latency(0.5),
                    "p99_ms": second.latency(0.99),
                    "max_ms": second.latency(1.0),
                })
            })
            .collect();
        json!({ "elapsed_seconds": counts.elapsed(), "kinds": kinds, "seconds": seconds })
    }

    /// Shows the seconds to somebody.
    pub(crate) fn with_seconds<T>(&self, look: impl FnOnce(&[Second]) -> T) -> T {
        look(&self.counts().seconds)
    }
}

impl Counts {
    fn good(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.good.len()).sum()
    }

    fn kind(&mut self, name: &'static str) -> &mut Kind {
        let at = self.kinds.iter().position(|kind| kind.name == name).unwrap_or_else(|| {
            let histogram = || Histogram::new(3).expect("three digits are a precision");
            self.kinds.push(Kind { name, good: histogram(), refused: histogram(), bad: 0 });
            self.kinds.len() - 1
        });
        &mut self.kinds[at]
    }

    fn second(&mut self, now: Instant) -> &mut Second {
        let number = usize::try_from(now.duration_since(self.began).as_secs()).unwrap_or(usize::MAX);
        let number = number.min(MOST_SECONDS);
        while self.seconds.len() <= number {
            self.seconds.push(Second::new());
        }
        &mut self.seconds[number]
    }

    fn elapsed(&self) -> f64 {
        self.ended.duration_since(self.began).as_secs_f64().max(1e-3)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::StatusCode;
    use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::*;

    fn answer(status: u16, retry_after: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(after) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(after));
        }
        Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::from_static(b"body") }
    }

    #[test]
    fn a_503_that_says_when_to_come_again_is_a_refusal_and_any_other_5xx_a_fault() {
        let ending = |status, after| Ending::of(Ok(answer(status, after)), &[200, 409]);
        assert!(matches!(ending(200, None), Ending::Good(_)));
        assert!(matches!(ending(409, None), Ending::Good(_)));
        assert!(matches!(ending(503, Some("2")), Ending::Refused(wait) if wait.as_secs() == 2));
        assert!(matches!(ending(503, None), Ending::Bad(Fault::ServerError, _)));
        assert!(matches!(ending(503, Some("soon")), Ending::Bad(Fault::ServerError, _)));
        assert!(matches!(ending(500, Some("1")), Ending::Bad(Fault::ServerError, _)));
        assert!(matches!(ending(404, None), Ending::Bad(Fault::Unexpected, _)));
        assert!(matches!(ending(429, Some("1")), Ending::Bad(Fault::Unexpected, _)));
        let broken = Ending::of(Err(anyhow::anyhow!("cut")), &[200]);
        assert!(matches!(broken, Ending::Bad(Fault::NoAnswer, why) if why == "cut"));
    }

    #[test]
    fn a_latency_counts_from_when_the_request_was_planned() {
        let tally = Tally::new();
        let planned = Instant::now().checked_sub(Duration::from_millis(2_500)).unwrap();
        assert!(tally.count("list", planned, Ending::Good(answer(200, None))).is_some());
        assert!(tally.count("list", planned, Ending::Refused(Duration::ZERO)).is_none());
        assert!(tally.count("list", planned, Ending::Bad(Fault::ServerError, "500".to_owned())).is_none());
        let p99 = tally.latency("list", 0.99).unwrap();
        assert!((2_499.0..20_000.0).contains(&p99), "{p99}");
        assert_eq!(tally.latency("detail", 0.99), None);
        assert_eq!((tally.good("list"), tally.refused()), (1, 1));
        assert_eq!(tally.take_faults().times(Fault::ServerError), 1);
        tally.with_seconds(|seconds| {
            let of = |count: fn(&Second) -> u64| seconds.iter().map(count).sum::<u64>();
            assert_eq!((of(|it| it.good), of(|it| it.refused), of(|it| it.bad)), (1, 1, 1));
            assert!(seconds.iter().find_map(|it| it.latency(1.0)).unwrap() > 2_400.0);
        });
        assert_eq!(tally.as_json()["kinds"][0]["what"], "list");
        assert!(tally.goodput() > 0.0);
    }
}
