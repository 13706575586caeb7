//! What the ledger counts of itself, for the metrics. It is counted as it happens, without a lock, and read by whoever
//! asks; a figure that is read in the middle of a batch may be ahead of another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use souk_store::ledger::Done;

use crate::Refused;
use crate::refusals::Refusals;

/// What the ledger does and did since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Works that wait or are under way.
    pub admitted: usize,
    /// The most that there can be.
    pub most: usize,
    /// Works that were done, by what was done.
    pub done: Vec<(&'static str, u64)>,
    /// Works that were refused, by the reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Works of committed batches.
    pub works: u64,
    /// Of committed batches, how many had at most 1, 2, 4, … 1,024 works, but more than half of that; the last also counts
    /// larger ones.
    pub batch_sizes: [u64; SIZES],
    /// Of the transactions, those included that were rolled back, how many took at most 0.5, 1, 2, … 4,096 ms, but more
    /// than half of that; the last also counts longer ones.
    pub commit_times: [u64; TIMES],
    /// Seconds spent in them.
    pub commit_seconds: f64,
}

const SIZES: usize = 11;
const TIMES: usize = 14;

/// The upper bound of the first of [`Load::commit_times`].
const SHORTEST_MICROS: u64 = 500;

#[derive(Default)]
pub(super) struct Counters {
    done: [AtomicU64; DONE.len()],
    refused: Refusals,
    works: AtomicU64,
    batch_sizes: [AtomicU64; SIZES],
    commit_times: [AtomicU64; TIMES],
    commit_micros: AtomicU64,
}

impl Counters {
    pub(super) fn count_batch(&self, works: usize) {
        self.works.fetch_add(works as u64, Ordering::Relaxed);
        count_doubling(&self.batch_sizes, works as u64);
    }

    pub(super) fn count_transaction(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_micros.fetch_add(micros, Ordering::Relaxed);
        count_doubling(&self.commit_times, micros.div_ceil(SHORTEST_MICROS));
    }

    /// Counts what a caller is answered.
    pub(super) fn count_answer(&self, answer: &Result<Done, Refused>) {
        match answer {
            Ok(done) => {
                self.done[what(done)].fetch_add(1, Ordering::Relaxed);
            }
            Err(refused) => self.refused.count(refused),
        }
    }

    pub(super) fn read(&self, admitted: usize, most: usize) -> Load {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Load {
            admitted,
            most,
            done: DONE.iter().zip(&self.done).map(|(name, count)| (*name, read(count))).collect(),
            refused: self.refused.read(),
            works: read(&self.works),
            batch_sizes: std::array::from_fn(|size| read(&self.batch_sizes[size])),
            commit_times: std::array::from_fn(|time| read(&self.commit_times[time])),
            commit_seconds: Duration::from_micros(read(&self.commit_micros)).as_secs_f64(),
        }
    }
}

/// Counts a number in the first bucket of 1, 2, 4, … that holds it.
fn count_doubling(buckets: &[AtomicU64], number: u64) {
    // What is beyond the last bucket need not be told apart, nor doubled into an overflow.
    let number = number.clamp(1, 1 << (buckets.len() - 1));
    buckets[number.next_power_of_two().ilog2() as usize].fetch_add(1, Ordering::Relaxed);
}

/// In the order of [`what`].
const DONE: [&str; 7] = [
    "order_placed",
    "answer_replayed",
    "cart_edited",
    "order_stepped",
    "product_written",
    "products_written_together",
    "product_deleted",
];

fn what(done: &Done) -> usize {
    match done {
        Done::Placed(_) => 0,
        Done::Replayed(_) => 1,
        Done::CartEdited { .. } => 2,
        Done::Stepped { .. } => 3,
        Done::Product(_) => 4,
        Done::Together => 5,
        Done::Deleted => 6,
    }
}

#[cfg(test)]
mod tests {
    use souk_store::ledger::Refusal;

    use super::*;

    #[test]
    fn a_number_is_counted_where_its_bound_is() {
        let counters = Counters::default();
        for works in [1, 2, 3, 4, 5, 1_024, 5_000] {
            counters.count_batch(works);
        }
        for micros in [0, 500, 501, 1_000, 4_096_000, u64::MAX] {
            counters.count_transaction(Duration::from_micros(micros));
        }
        let load = counters.read(0, 1);
        assert_eq!(load.batch_sizes, [1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(load.commit_times, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn answers_are_counted_under_their_names() {
        let counters = Counters::default();
        counters.count_answer(&Ok(Done::Deleted));
        counters.count_answer(&Err(Refused::Busy));
        counters.count_answer(&Err(Refused::Books(Refusal::StockIs(3))));
        let load = counters.read(0, 1);
        let counted = |of: &[(&'static str, u64)]| -> Vec<_> {
            of.iter().filter(|(_, count)| *count > 0).map(|(name, _)| *name).collect()
        };
        assert_eq!(counted(&load.done), ["product_deleted"]);
        assert_eq!(counted(&load.refused), ["busy", "stock_is_another"]);
    }
}
