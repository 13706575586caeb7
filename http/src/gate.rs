//! How much is done at one time: requests that are worked on, and bodies that are held while they come.
//!
//! [`Front`](crate::hoops::Front) lets a request in or answers it 503, before anything was done for it; so what is let in is
//! finished in time, however many more there are. While a request waits for its own client, for a body that
//! comes slowly, it stands outside and takes no place from others; its connection and the deadline of bodies bound it
//! then. Probes have a few places of their own, so that whoever watches the shop still sees it when it is full.
//!
//! To refuse somebody is work, too, and with ten times too many it would be half of the work. So refusals are [paced](Pace):
//! told at once while they are few, and in turn when telling all of them would take a tenth of the processors from those
//! who are served. Nobody waits longer than [`LATEST`] for that; so with more than a thousand clients for each core that
//! come back at once whenever they are refused, refusals take more again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::error::ApiError;
use crate::workers::cores;

/// How many probes are answered at one time.
const PROBES: usize = 16;

/// How many KiB all bodies together may take, beyond the first [`FREE_ROOM`] of each; images are counted elsewhere.
const ROOM_KIB: usize = 64 * 1024;

/// How much of a body needs no room: nearly all are shorter.
const FREE_ROOM: usize = 16 * 1024;

/// How long a request whose body has come waits for its place. Nobody is let in from the street meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many refusals a second are told for each core; one takes from 20 to 45 microseconds.
const REFUSALS: u32 = 2_000;
/// How much sooner than its turn a refusal may be told: it is not worth a timer.
const AT_ONCE: Duration = Duration::from_millis(2);
/// How long a refusal waits for its turn at most.
const LATEST: Duration = Duration::from_millis(500);

/// The turns of those who are refused.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Mutex<Instant>,
    gap: Duration,
}

impl Pace {
    pub(crate) fn for_this_machine() -> Self {
        let a_second = REFUSALS.saturating_mul(u32::try_from(cores()).unwrap_or(u32::MAX));
        Self { next: Mutex::new(Instant::now()), gap: Duration::from_secs(1) / a_second }
    }

    /// Waits for the turn of one more.
    pub(crate) async fn turn(&self) {
        let wait = self.take();
        if wait > AT_ONCE {
            sleep(wait).await;
        }
    }

    /// Takes the next turn, and tells how far off it is.
    fn take(&self) -> Duration {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = next.saturating_duration_since(now).min(LATEST);
        *next = now + wait + self.gap;
        wait
    }
}

/// The places there are.
#[derive(Debug)]
pub(crate) struct Gate {
    requests: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

impl Gate {
    /// For so many requests at one time.
    pub(crate) fn new(requests: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            probes: Arc::new(Semaphore::new(PROBES)),
            room: Arc::new(Semaphore::new(ROOM_KIB)),
        }
    }

    /// A place for a request; None if all are taken.
    pub(crate) fn enter(&self, is_probe: bool) -> Option<Place> {
        let places = if is_probe { &self.probes } else { &self.requests };
        let permit = places.clone().try_acquire_owned().ok()?;
        let held = Held { place: Some(permit), room: None };
        Some(Place(Arc::new(Inner {
            places: places.clone(),
            room: self.room.clone(),
            held: Mutex::new(held),
        })))
    }
}

/// A request's place, among its extensions. All clones are one place; it is free again after [`Place::leave`], or with the
/// last of them.
#[derive(Clone, Debug)]
pub(crate) struct Place(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    place: Option<OwnedSemaphorePermit>,
    room: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Waits for something that the client has to do, outside; 503 if the place is not free again in time.
    pub(crate) async fn wait_outside<T>(
        &self,
        client: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        self.held().place = None;
        let done = client.await?;
        match timeout(PATIENCE, self.0.places.clone().acquire_owned()).await {
            Ok(Ok(permit)) => {
                self.held().place = Some(permit);
                Ok(done)
            }
            _ => Err(ApiError::over_capacity()),
        }
    }

    /// Room for a body that has grown to so many bytes, kept until the request is answered; 503 if there is none.
    pub(crate) fn room_for(&self, bytes: usize) -> Result<(), ApiError> {
        let mut held = self.held();
        let taken = held.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.saturating_sub(FREE_ROOM).div_ceil(1024).saturating_sub(taken);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let more = self.0.room.clone().try_acquire_many_owned(more).map_err(|_| ApiError::over_capacity())?;
        match &mut held.room {
            Some(room) => room.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    /// The request is answered.
    pub(crate) fn leave(&self) {
        *self.held() = Held { place: None, room: None };
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_are_refused_at_once_and_many_in_turn_but_soon() {
        let pace = Pace { next: Mutex::new(Instant::now()), gap: Duration::from_millis(1) };
        let began = Instant::now();
        for _ in 0..3 {
            pace.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        let waits: Vec<_> = (0..1_000).map(|_| pace.take()).collect();
        assert!(waits.is_sorted());
        assert_eq!((waits[97], waits[999]), (Duration::from_millis(100), LATEST));
        pace.turn().await;
        assert_eq!(began.elapsed(), LATEST);
        tokio::time::advance(LATEST).await;
        assert_eq!(pace.take(), Duration::ZERO, "the crowd has gone");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_client_takes_no_place() {
        let gate = Gate::new(1);
        let slow = gate.enter(false).unwrap();
        assert!(gate.enter(false).is_none());
        let waiting = slow.clone();
        let mut waiting = Box::pin(waiting.wait_outside(pending::<Result<(), ApiError>>()));
        assert!(waiting.as_mut().now_or_never().is_none());
        let other = gate.enter(false).expect("the place of the one outside");
        other.leave();
        drop((waiting, slow, other));
        assert!(gate.enter(false).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_back_goes_before_newcomers_and_not_for_ever() {
        let gate = Gate::new(1);
        let first = gate.enter(false).unwrap();
        first.wait_outside(ready(Ok(()))).await.unwrap();
        let waiting = first.clone();
        let mut outside = Box::pin(waiting.wait_outside(async {
            tokio::task::yield_now().await;
            Ok(())
        }));
        assert!(outside.as_mut().now_or_never().is_none());
        let second = gate.enter(false).unwrap();
        assert!(outside.as_mut().now_or_never().is_none(), "its place is taken");
        second.leave();
        assert!(gate.enter(false).is_none(), "it is kept for the one who comes back");
        outside.await.unwrap();
        first.leave();
        let third = gate.enter(false).unwrap();
        assert!(first.wait_outside(ready(Ok(()))).await.is_err(), "a second is long enough");
        third.leave();
    }

    #[test]
    fn bodies_share_their_room_and_give_it_back() {
        let gate = Gate::new(200);
        let mebibyte = 1024 * 1024;
        let holders: Vec<_> = (0..100).map(|_| gate.enter(false).unwrap()).collect();
        let let_in = holders.iter().filter(|holder| holder.room_for(mebibyte).is_ok()).count();
        assert_eq!(let_in, 65, "of 64 MiB, the first 16 KiB of each being free");
        let late = gate.enter(false).unwrap();
        late.room_for(FREE_ROOM).unwrap();
        assert!(late.room_for(mebibyte).is_err());
        holders[0].leave();
        late.room_for(mebibyte).unwrap();
    }

    #[test]
    fn probes_have_places_of_their_own() {
        let gate = Gate::new(1);
        let _request = gate.enter(false).unwrap();
        let probes: Vec<_> = (0..PROBES).map(|_| gate.enter(true).unwrap()).collect();
        assert!(gate.enter(true).is_none());
        drop(probes);
        assert!(gate.enter(true).is_some());
    }
}
