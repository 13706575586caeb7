//! The brake on guessing passwords: ten failures for one account from one address within 15 minutes, then 429. Logins
//! and changes of the password are counted apart.
//!
//! Accounts that do not exist are counted like those that do. A success forgets the failures. Where the counts are is
//! known to this file alone: in this node's memory, in a bounded table.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use souk_store::model::{UserId, fold};
use tokio::time::Instant;

use crate::extract::network_of;

/// Failures before the brake.
const MOST_FAILURES: usize = 10;
/// For how long a failure counts.
const WINDOW: Duration = Duration::from_mins(15);
/// The most accounts and addresses that are counted. Beyond it the one that failed longest ago is forgotten; to get
/// there a guesser needs a hash for each, which is most of an hour.
const MOST_ENTRIES: usize = 100_000;

/// Counts failed logins.
#[derive(Debug, Default)]
pub(crate) struct LoginThrottle {
    failures: Mutex<HashMap<Tries, Vec<Instant>>>,
    hasher: RandomState,
}

/// Tries at an account from an address, as a keyed hash: names of any length take the same room, and are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tries(u64);

impl LoginThrottle {
    /// What is counted for logins to this account from this address.
    pub(crate) fn login(&self, account: &str, address: Option<IpAddr>) -> Tries {
        Tries(self.hasher.hash_one(("login", fold(account), address.map(network_of))))
    }

    /// What is counted for guesses at the current password by somebody who is signed in. Not the same as the logins: a
    /// stolen token must not lock its owner out.
    pub(crate) fn current_password(&self, user: UserId, address: Option<IpAddr>) -> Tries {
        Tries(self.hasher.hash_one(("current password", user, address.map(network_of))))
    }

    /// The seconds until a try is heard again, if there were too many failures.
    pub(crate) fn check(&self, tries: Tries) -> Result<(), u64> {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(times) = failures.get_mut(&tries) else { return Ok(()) };
        times.retain(|time| now - *time < WINDOW);
        match times.len().checked_sub(MOST_FAILURES) {
            // Then the oldest of the last ten has run out.
            Some(older) => {
                let left = WINDOW - (now - times[older]);
                Err(left.as_secs() + u64::from(left.subsec_nanos() > 0))
            }
            None => Ok(()),
        }
    }

    /// A try failed.
    pub(crate) fn failed(&self, tries: Tries) {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST_ENTRIES && !failures.contains_key(&tries) {
            failures.retain(|_, times| times.last().is_some_and(|last| now - *last < WINDOW));
            if failures.len() >= MOST_ENTRIES {
                let oldest = failures.iter().min_by_key(|(_, times)| times.last().copied());
                if let Some(oldest) = oldest.map(|(oldest, _)| *oldest) {
                    failures.remove(&oldest);
                }
            }
        }
        let times = failures.entry(tries).or_default();
        if times.len() >= 2 * MOST_FAILURES {
            times.remove(0);
        }
        times.push(now);
    }

    /// A try succeeded.
    pub(crate) fn succeeded(&self, tries: Tries) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&tries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_eleventh_try_waits_until_the_first_failure_has_run_out() {
        let throttle = LoginThrottle::default();
        let login = throttle.login("anna@example.com", address("192.0.2.1"));
        for _ in 0..10 {
            assert_eq!(throttle.check(login), Ok(()));
            throttle.failed(login);
            tokio::time::advance(Duration::from_secs(6)).await;
        }
        assert_eq!(throttle.check(login), Err(840));
        tokio::time::advance(Duration::from_secs(839)).await;
        assert_eq!(throttle.check(login), Err(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.check(login), Ok(()));
        throttle.failed(login);
        assert_eq!(throttle.check(login), Err(6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_forgets_and_others_are_not_touched() {
        let throttle = LoginThrottle::default();
        let login = throttle.login("Anna@example.com", address("192.0.2.1"));
        assert_eq!(login, throttle.login("anna@EXAMPLE.com", address("::ffff:192.0.2.1")));
        for _ in 0..10 {
            throttle.failed(login);
        }
        assert!(throttle.check(login).is_err());
        let elsewhere = throttle.login("anna@example.com", address("192.0.2.2"));
        let other = throttle.login("bert@example.com", address("192.0.2.1"));
        assert_eq!([throttle.check(elsewhere), throttle.check(other)], [Ok(()); 2]);
        throttle.succeeded(login);
        assert_eq!(throttle.check(login), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let throttle = LoginThrottle::default();
        let login = |text| throttle.login("anna@example.com", address(text));
        assert_eq!(login("2001:db8::1"), login("2001:db8::ffff:1"));
        assert_ne!(login("2001:db8::1"), login("2001:db8:0:1::1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_does_not_grow_for_ever() {
        let throttle = LoginThrottle::default();
        let first = throttle.login("first", None);
        for _ in 0..10 {
            throttle.failed(first);
        }
        for number in 0..MOST_ENTRIES {
            tokio::time::advance(Duration::from_micros(1)).await;
            throttle.failed(Tries(number as u64));
        }
        assert_eq!(throttle.failures.lock().unwrap().len(), MOST_ENTRIES);
        assert_eq!(throttle.check(first), Ok(()), "the one that failed longest ago made room");
        for _ in 0..100 {
            throttle.failed(Tries(7));
        }
        assert_eq!(throttle.failures.lock().unwrap()[&Tries(7)].len(), 2 * MOST_FAILURES);
    }
}
