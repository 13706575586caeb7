//! The brake on guessing passwords: ten failures for one account from one address within 15 minutes, then 429. Logins
//! and changes of the password are counted apart.
//!
//! Accounts that do not exist are counted like those that do. A success forgets the failures before it. Where the counts
//! are is known to this file alone: in Redis, for all nodes, under digests that only who has the secret key can make; and
//! in this node's memory, in a bounded table, which counts when there is no Redis or it does not answer. What this Redis
//! did not hear of, away or restarted empty, it is told before it is asked again: so at one node nobody has an eleventh
//! guess. While nodes do not hear of each other, each has ten.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use souk_store::model::{Timestamp, UserId, fold};
use souk_store::{Redis, Try};
use tokio::time::Instant;

use crate::extract::network_of;

/// Failures before the brake.
const MOST_FAILURES: usize = 10;
/// How many tries of one account and address are kept.
const MOST_KEPT: usize = 2 * MOST_FAILURES;
/// For how long a failure counts.
const WINDOW: Duration = Duration::from_mins(15);
/// The most accounts and addresses that are counted. Beyond it the one that failed longest ago is forgotten; to get
/// there a guesser needs a hash for each, which is most of an hour.
const MOST_ENTRIES: usize = 100_000;

/// Counts failed logins.
#[derive(Debug)]
pub(crate) struct LoginThrottle {
    redis: Option<Redis>,
    seen: Mutex<HashMap<Tries, Vec<Seen>>>,
    /// What a digest begins with, so that names cannot be guessed from it.
    key: Sha256,
}

/// A try that this node saw: failures, and before them the last success if Redis may not know of it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    what: Try,
    /// The connection to Redis by which it was told.
    told: Option<u64>,
}

/// Tries at an account from an address, as a keyed digest: names of any length take the same room, and are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tries([u8; 16]);

impl Tries {
    /// As a part of a key in Redis.
    fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl LoginThrottle {
    /// Counts for all who share this Redis and this secret, or for this node.
    pub(crate) fn new(secret_key: &[u8], redis: Option<Redis>) -> Self {
        let key = Sha256::new_with_prefix(
            Sha256::new_with_prefix(b"failed tries").chain_update(secret_key).finalize(),
        );
        Self { redis, seen: Mutex::default(), key }
    }

    /// What is counted for logins to this account from this address.
    pub(crate) fn login(&self, account: &str, address: Option<IpAddr>) -> Tries {
        self.tries("login", &fold(account), address)
    }

    /// What is counted for guesses at the current password by somebody who is signed in. Not the same as the logins: a
    /// stolen token must not lock its owner out.
    pub(crate) fn current_password(&self, user: UserId, address: Option<IpAddr>) -> Tries {
        self.tries("current password", &user.to_string(), address)
    }

    fn tries(&self, what: &str, whose: &str, address: Option<IpAddr>) -> Tries {
        let network = address.map(|address| network_of(address).to_string()).unwrap_or_default();
        // The first two hold no line break.
        let digest = self.key.clone().chain_update(format!("{what}\n{network}\n{whose}")).finalize();
        Tries(std::array::from_fn(|index| digest[index]))
    }

    /// The seconds until a try is heard again, if there were too many failures.
    pub(crate) async fn check(&self, tries: Tries) -> Result<(), u64> {
        if let Some(redis) = &self.redis
            && let Some(()) = self.tell(redis, tries).await
            && let Some(tenth_last) = redis.failure(&tries.text(), MOST_FAILURES as i64 - 1).await
        {
            // What this node counted may have been forgotten since, by a success on another.
            let Some(tenth_last) = tenth_last else { return Ok(()) };
            // Another node's clock may be ahead of this one's.
            let age = u64::try_from(Timestamp::now().unix_millis() - tenth_last).unwrap_or(0);
            return wait_for(Duration::from_millis(age));
        }
        self.check_here(tries)
    }

    fn check_here(&self, tries: Tries) -> Result<(), u64> {
        let now = Instant::now();
        let mut all = self.seen();
        let Some(seen) = all.get_mut(&tries) else { return Ok(()) };
        seen.retain(|it| now - it.at < WINDOW);
        let failures: Vec<_> = seen.iter().filter(|it| !it.what.succeeded).collect();
        match failures.len().checked_sub(MOST_FAILURES) {
            // Then the oldest of the last ten has run out.
            Some(older) => wait_for(now - failures[older].at),
            None => Ok(()),
        }
    }

    /// A try failed.
    pub(crate) async fn failed(&self, tries: Tries) {
        self.note(tries, false);
        if let Some(redis) = &self.redis {
            let _later = self.tell(redis, tries).await;
        }
    }

    /// A try succeeded.
    pub(crate) async fn succeeded(&self, tries: Tries) {
        if let Some(redis) = &self.redis {
            self.note(tries, true);
            let _later = self.tell(redis, tries).await;
        } else {
            self.seen().remove(&tries);
        }
    }

    /// Notes a try here.
    fn note(&self, tries: Tries, succeeded: bool) {
        let now = Instant::now();
        let mut all = self.seen();
        if all.len() >= MOST_ENTRIES && !all.contains_key(&tries) {
            all.retain(|_, seen| seen.last().is_some_and(|last| now - last.at < WINDOW));
            if all.len() >= MOST_ENTRIES {
                let oldest = all.iter().min_by_key(|(_, seen)| seen.last().map(|last| last.at));
                if let Some(oldest) = oldest.map(|(oldest, _)| *oldest) {
                    all.remove(&oldest);
                }
            }
        }
        let seen = all.entry(tries).or_default();
        if succeeded {
            seen.clear();
        } else if seen.len() >= MOST_KEPT {
            seen.remove(0);
        }
        let what = Try { time: Timestamp::now().unix_millis(), number: rand::random(), succeeded };
        seen.push(Seen { at: now, what, told: None });
    }

    /// Tells Redis what it may not know. None if it does not answer now.
    async fn tell(&self, redis: &Redis, tries: Tries) -> Option<()> {
        let (now, door) = (Instant::now(), redis.door()?);
        let untold: Vec<_> = {
            let all = self.seen();
            let seen = all.get(&tries).map_or(&[][..], Vec::as_slice);
            let untold = seen.iter().filter(|it| it.told != Some(door) && now - it.at < WINDOW);
            untold.map(|it| it.what).collect()
        };
        if untold.is_empty() {
            return Some(());
        }
        let told = redis.note_tries(&tries.text(), &untold, MOST_KEPT as i64, WINDOW).await?;
        if let Entry::Occupied(mut entry) = self.seen().entry(tries) {
            for it in entry.get_mut() {
                if untold.contains(&it.what) {
                    it.told = Some(told);
                }
            }
            // A success has done its work once it is told.
            entry.get_mut().retain(|it| !it.what.succeeded || it.told.is_none());
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        Some(())
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Tries, Vec<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many seconds until a failure of this age has run out.
fn wait_for(age: Duration) -> Result<(), u64> {
    let left = WINDOW.saturating_sub(age);
    if left.is_zero() { Ok(()) } else { Err(left.as_secs() + u64::from(left.subsec_nanos() > 0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_eleventh_try_waits_until_the_first_failure_has_run_out() {
        let throttle = LoginThrottle::new(b"secret", None);
        let login = throttle.login("anna@example.com", address("192.0.2.1"));
        for _ in 0..10 {
            assert_eq!(throttle.check(login).await, Ok(()));
            throttle.failed(login).await;
            tokio::time::advance(Duration::from_secs(6)).await;
        }
        assert_eq!(throttle.check(login).await, Err(840));
        tokio::time::advance(Duration::from_secs(839)).await;
        assert_eq!(throttle.check(login).await, Err(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.check(login).await, Ok(()));
        throttle.failed(login).await;
        assert_eq!(throttle.check(login).await, Err(6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_forgets_and_others_are_not_touched() {
        let throttle = LoginThrottle::new(b"secret", None);
        let login = throttle.login("Anna@example.com", address("192.0.2.1"));
        assert_eq!(login, throttle.login("anna@EXAMPLE.com", address("::ffff:192.0.2.1")));
        for _ in 0..10 {
            throttle.failed(login).await;
        }
        assert!(throttle.check(login).await.is_err());
        let elsewhere = throttle.login("anna@example.com", address("192.0.2.2"));
        let other = throttle.login("bert@example.com", address("192.0.2.1"));
        assert_eq!([throttle.check(elsewhere).await, throttle.check(other).await], [Ok(()); 2]);
        throttle.succeeded(login).await;
        assert_eq!(throttle.check(login).await, Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let throttle = LoginThrottle::new(b"secret", None);
        let login = |text| throttle.login("anna@example.com", address(text));
        assert_eq!(login("2001:db8::1"), login("2001:db8::ffff:1"));
        assert_ne!(login("2001:db8::1"), login("2001:db8:0:1::1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_does_not_grow_for_ever() {
        let throttle = LoginThrottle::new(b"secret", None);
        let first = throttle.login("first", None);
        for _ in 0..10 {
            throttle.failed(first).await;
        }
        for number in 0..MOST_ENTRIES {
            tokio::time::advance(Duration::from_micros(1)).await;
            throttle.failed(Tries((number as u128).to_be_bytes())).await;
        }
        assert_eq!(throttle.seen.lock().unwrap().len(), MOST_ENTRIES);
        assert_eq!(throttle.check(first).await, Ok(()), "the one that failed longest ago made room");
        for _ in 0..100 {
            throttle.failed(Tries([7; 16])).await;
        }
        assert_eq!(throttle.seen.lock().unwrap()[&Tries([7; 16])].len(), MOST_KEPT);
    }
}
