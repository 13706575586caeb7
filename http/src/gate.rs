//! How much is done at one time: requests that are worked on, and bodies that are held while they come.
//!
//! [`Front`](crate::hoops::Front) lets a request in or answers it 503, before anything was done for it; so what is let in is
//! finished in time, however many more there are. While a request waits for its own client, for a body that
//! comes slowly, it stands outside and takes no place from others; its connection and the deadline of bodies bound it
//! then. Probes have a few places of their own, so that whoever watches the shop still sees it when it is full.
//!
//! To refuse somebody is work, too, and with ten times too many it would be half of the work. Whoever is refused is told so
//! at once, and when to come again. Whoever comes back sooner over the same connection, and is refused again, hears of it
//! [in turn](Pace), and at the latest when that time is over: then he may be there again. So what the refusals of an open
//! connection cost is bounded, however quickly it asks; a new connection costs more than its refusal. Over HTTP/2, and
//! behind a proxy, a connection is many requests', and one may wait for another's haste.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::error::{ApiError, RETRY_AFTER};
use crate::workers::cores;

/// How many probes are answered at one time.
const PROBES: usize = 16;

/// How many KiB all bodies together may take, beyond the first [`FREE_ROOM`] of each; images are counted elsewhere.
const ROOM_KIB: usize = 64 * 1024;

/// How much of a body needs no room: nearly all are shorter.
const FREE_ROOM: usize = 16 * 1024;

/// How long a request whose body has come waits for its place. Nobody is let in from the street meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many refusals a second are told for each core before those wait who come too soon. One takes some 25 microseconds.
const REFUSALS: u32 = 2_000;
/// Those who wait are told together, once in this time, and who would wait less is told at once: to wake up for each of
/// them costs more than to tell him.
const BEAT: Duration = Duration::from_millis(20);
/// After how long whoever was refused may come again.
const STAY_AWAY: Duration = Duration::from_secs(RETRY_AFTER);

/// When a connection was last refused.
#[derive(Debug, Default)]
pub(crate) struct LastRefusal(Mutex<Option<Instant>>);

impl LastRefusal {
    /// How much too soon it is back.
    fn too_soon_by(&self) -> Duration {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(Duration::ZERO, |last| STAY_AWAY.saturating_sub(last.elapsed()))
    }

    fn is_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// The turns of those who are refused.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    next: Mutex<Instant>,
    gap: Duration,
}

impl Pace {
    pub(crate) fn for_this_machine() -> Self {
        let a_second = REFUSALS.saturating_mul(u32::try_from(cores()).unwrap_or(u32::MAX));
        Self::with_gap(Duration::from_secs(1) / a_second)
    }

    fn with_gap(gap: Duration) -> Self {
        let began = Instant::now();
        Self { began, next: Mutex::new(began), gap }
    }

    /// Waits for the turn of one more, whose connection this is.
    pub(crate) async fn turn(&self, connection: &LastRefusal) {
        let wait = self.take().min(connection.too_soon_by());
        if wait >= BEAT {
            let turn = self.began.elapsed() + wait;
            let to_a_beat = turn.as_nanos().next_multiple_of(BEAT.as_nanos()) - turn.as_nanos();
            sleep(wait + Duration::from_nanos(u64::try_from(to_a_beat).unwrap_or_default())).await;
        }
        connection.is_now();
    }

    /// Takes the next turn, and tells how far off it is.
    fn take(&self) -> Duration {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now);
        // Nobody waits longer than this anyway.
        *next = (turn + self.gap).min(now + STAY_AWAY);
        turn - now
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
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_is_refused_hears_it_at_once_and_in_turn_if_he_is_back_too_soon() {
        async fn refuse(pace: &Pace, connection: &LastRefusal) -> Duration {
            let asked = Instant::now();
            pace.turn(connection).await;
            asked.elapsed()
        }
        let pace = Pace::with_gap(Duration::from_millis(1));
        let connections: Vec<_> = (0..2_000).map(|_| LastRefusal::default()).collect();
        let refuse_first = |count| join_all(connections[..count].iter().map(|it| refuse(&pace, it)));
        let at_once = |waits: Vec<Duration>| waits.iter().all(Duration::is_zero);

        assert!(at_once(refuse_first(2_000).await));
        let too_many = refuse_first(2_000).await;
        assert!(too_many.iter().all(|wait| *wait == STAY_AWAY), "then they may be there again");
        tokio::time::advance(STAY_AWAY * 3 / 5).await;
        let rest = refuse_first(2_000).await;
        assert_eq!((rest.iter().max(), rest[1_999]), (Some(&(STAY_AWAY * 2 / 5)), STAY_AWAY * 2 / 5));

        tokio::time::advance(STAY_AWAY).await;
        assert!(at_once(refuse_first(300).await), "they came when they were asked to");
        let again = refuse_first(300).await;
        assert!(again.is_sorted());
        assert_eq!((again[0].as_millis(), again[299].as_millis()), (300, 600));
        tokio::time::advance(STAY_AWAY).await;
        assert!(at_once(refuse_first(9).await) && at_once(refuse_first(9).await), "few are no trouble");
        assert!(again.iter().all(|wait| wait.as_millis().is_multiple_of(BEAT.as_millis())), "together");
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
