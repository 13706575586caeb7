//! The limit of requests a minute for one client address (setting `RATE_LIMIT`; none by default).
//!
//! A client may use its minute's worth at once and gets it back evenly. IPv6 clients count by their /64, which is what
//! one customer has. Memory is bounded: addresses that have their whole minute again are forgotten.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::extract::network_of;

/// After this many requests, forgotten addresses are looked for.
const TIDY_EVERY: u32 = 10_000;

/// Counts requests by address.
pub(crate) struct RateLimit {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
    until_tidy: AtomicU32,
}

impl RateLimit {
    pub(crate) fn per_minute(requests: NonZeroU32) -> Self {
        Self {
            limiter: RateLimiter::keyed(Quota::per_minute(requests)),
            clock: DefaultClock::default(),
            until_tidy: AtomicU32::new(0),
        }
    }

    /// Counts a request, or gives the time after which the next one is heard.
    pub(crate) fn check(&self, client: IpAddr) -> Result<(), Duration> {
        if self.until_tidy.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.limiter.retain_recent();
        }
        self.limiter
            .check_key(&network_of(client))
            .map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_minute_and_neighbours_of_one_network_share_it() {
        let limit = RateLimit::per_minute(NonZeroU32::new(3).unwrap());
        let home = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        for last in 0..3 {
            limit.check(home(last)).unwrap();
        }
        assert!(limit.check(home(9)).unwrap_err() > Duration::ZERO);
        limit.check(IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])).unwrap();
        limit.check(IpAddr::from([192, 0, 2, 1])).unwrap();
    }
}
