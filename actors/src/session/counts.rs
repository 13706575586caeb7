//! What sessions count of themselves, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Sessions;

/// What there is at the moment, and what was since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sockets that are attached.
    pub sockets: usize,
    /// The most that there may be.
    pub most: usize,
    /// Users who hold them.
    pub sessions: usize,
    /// Sockets that were attached.
    pub opened: u64,
    /// Sockets given up because they were too slow.
    pub too_slow: u64,
    /// Events that went to sockets as they were told.
    pub sent_live: u64,
    /// Events that went to sockets out of the database.
    pub replayed: u64,
    /// Sessions that failed.
    pub failed: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) opened: AtomicU64,
    pub(super) too_slow: AtomicU64,
    pub(super) sent_live: AtomicU64,
    pub(super) replayed: AtomicU64,
    pub(super) failed: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Sessions {
    /// What there is and was.
    #[must_use]
    pub fn counts(&self) -> SessionCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.0.counters;
        SessionCounts {
            sockets: self.0.limits.total - self.0.room.available_permits(),
            most: self.0.limits.total,
            sessions: self.0.registry.len(),
            opened: read(&counters.opened),
            too_slow: read(&counters.too_slow),
            sent_live: read(&counters.sent_live),
            replayed: read(&counters.replayed),
            failed: read(&counters.failed),
        }
    }
}
