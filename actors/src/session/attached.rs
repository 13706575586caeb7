//! A socket's way through its events: from the database at its own pace, then live, and back whenever it must.
//!
//! [`Attached`] is held by the task of one socket, which asks it for what comes next. It is correct whatever the session
//! does: it delivers the number that follows the last one delivered, and nothing else. If its session ends without
//! a reason, it joins the next one and reads what it may have missed; if the database does not answer, it tries again,
//! more and more slowly. When that has gone on for too long it ends, and the client can come back with the last number
//! that it saw.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use souk_store::model::{Event, EventId, UserId};
use souk_store::{StoreError, events};

use super::counts::count;
use super::{Ended, Link, Message, Push, Sessions};
use crate::Refused;

/// How many events are read at a time; a socket holds no more of them than this.
const PAGE: u32 = 100;
/// How long attaching may take in all.
const ATTACH_DEADLINE: Duration = Duration::from_secs(5);
/// How long the answer to the wish to go live may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How often a live socket looks at the rows of its own accord.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How many failures in a row end the socket, and the pause after the first of them; it doubles from there.
const PATIENCE: u32 = 6;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// A socket's place among its user's events. Dropping it leaves.
pub struct Attached {
    sessions: Sessions,
    user: UserId,
    viewer: UserId,
    newest: EventId,
    /// The number of the last event delivered.
    cursor: EventId,
    link: Option<Link>,
    step: Step,
    /// The session has said that there is more in the database.
    promised: bool,
    /// In a row, without going live in between.
    failures: u32,
    draining: watch::Receiver<bool>,
    _watching: Option<Watching>,
    _room: OwnedSemaphorePermit,
}

/// What comes next on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The event after the last one.
    Event(Event),
    /// Whether the socket's holder may still be here is to be asked; it goes on if so.
    Doubted,
    /// Nothing more, ever.
    Ended(Ended),
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What an [`Attached`] is about. Work under way is kept here, so that whoever waits for a delivery may turn to
/// something else and come back.
enum Step {
    Joining(Work<Result<Link, Refused>>),
    Reading(Work<Result<Vec<Event>, StoreError>>),
    /// The same, though nothing says that there is more.
    LookingAgain(Work<Result<Vec<Event>, StoreError>>),
    /// A page read; whether it was the last one.
    Replaying(VecDeque<Event>, bool),
    /// Asked to go live; until when it waits for the answer.
    Asking(Instant),
    /// Until when it trusts what it is told.
    Live(Instant),
    /// After a failure; until when.
    Pausing(Instant),
    Ended(Ended),
}

enum Happened {
    Draining,
    SessionEnded(Result<Ended, RecvError>),
    Doubted,
    Pushed(Option<Push>),
    Joined(Result<Link, Refused>),
    Read(Result<Vec<Event>, StoreError>),
    /// There is a page to deliver, or the time of the step is over.
    StepOn,
}

impl Attached {
    pub(super) async fn new(
        sessions: Sessions,
        user: UserId,
        viewer: UserId,
        from: Option<EventId>,
    ) -> Result<Self, Refused> {
        let draining = sessions.0.draining.subscribe();
        if *draining.borrow() {
            return Err(Refused::Unavailable);
        }
        let room = sessions.0.room.clone().try_acquire_owned().map_err(|_| Refused::Busy)?;
        let watching = (viewer != user).then(|| Watching::new(sessions.clone()));
        let joining = async {
            let link = sessions.join(user, viewer).await?;
            // Not before the socket has joined: what is committed after this read is told to its session.
            let _turn = sessions.0.readers.acquire().await.map_err(|_| Refused::Unavailable)?;
            let newest = events::last_event_id(&sessions.0.db, user).await?;
            Ok::<_, Refused>((link, newest))
        };
        let (link, newest) = timeout(ATTACH_DEADLINE, joining).await.map_err(|_| Refused::Busy)??;
        let cursor = from.map_or(newest, |from| from.min(newest));
        let mut attached = Self {
            sessions,
            user,
            viewer,
            newest,
            cursor,
            link: Some(link),
            step: Step::Replaying(VecDeque::new(), cursor == newest),
            promised: false,
            failures: 0,
            draining,
            _watching: watching,
            _room: room,
        };
        attached.after_page(cursor == newest);
        count(&attached.sessions.0.counters.opened);
        Ok(attached)
    }

    /// The number of the user's newest event when the socket was attached; 0 if there was none.
    #[must_use]
    pub fn last_event_id(&self) -> EventId {
        self.newest
    }

    #[cfg(test)]
    pub(super) fn is_live(&self) -> bool {
        matches!(self.step, Step::Live(_))
    }

    /// Waits for what comes next. Nothing is lost if the wait is given up and begun again.
    pub async fn next(&mut self) -> Delivery {
        loop {
            if let Step::Ended(why) = self.step {
                return Delivery::Ended(why);
            }
            let happened = self.wait().await;
            if let Happened::Doubted = happened {
                return Delivery::Doubted;
            }
            if let Some(event) = self.step_on(happened) {
                self.cursor = event.id;
                return Delivery::Event(event);
            }
        }
    }

    async fn wait(&mut self) -> Happened {
        let (end, doubt, queue) = match &mut self.link {
            Some(link) => (Some(&mut link.end), Some(&link.doubt), Some(&mut link.queue)),
            None => (None, None, None),
        };
        let step = async {
            match &mut self.step {
                Step::Joining(work) => Happened::Joined(work.as_mut().await),
                Step::Reading(work) | Step::LookingAgain(work) => Happened::Read(work.as_mut().await),
                Step::Replaying(..) => Happened::StepOn,
                Step::Asking(until) | Step::Live(until) | Step::Pausing(until) => {
                    sleep_until(*until).await;
                    Happened::StepOn
                }
                Step::Ended(_) => pending().await,
            }
        };
        // An end comes before anything that waits; what waits is in the database.
        tokio::select! {
            biased;
            _ = self.draining.wait_for(|draining| *draining) => Happened::Draining,
            end = async { match end { Some(end) => end.await, None => pending().await } } => {
                Happened::SessionEnded(end)
            }
            () = async { match doubt { Some(doubt) => doubt.notified().await, None => pending().await } } => {
                Happened::Doubted
            }
            push = async { match queue { Some(queue) => queue.recv().await, None => pending().await } } => {
                Happened::Pushed(push)
            }
            happened = step => happened,
        }
    }

    /// Goes from step to step; gives the event to deliver, if that is what happened.
    fn step_on(&mut self, happened: Happened) -> Option<Event> {
        match happened {
            Happened::Draining => self.step = Step::Ended(Ended::ShuttingDown),
            Happened::SessionEnded(Ok(why)) => self.step = Step::Ended(why),
            Happened::SessionEnded(Err(_)) => {
                self.link = None;
                self.fail();
            }
            // The reason is there by now.
            Happened::Doubted | Happened::Pushed(None) => {}
            Happened::Pushed(Some(push)) => return self.take(push),
            Happened::Joined(Ok(link)) => {
                self.link = Some(link);
                self.read();
            }
            Happened::Joined(Err(_)) => self.fail(),
            Happened::Read(Ok(page)) => {
                if page.is_empty() && self.promised {
                    self.promised = false;
                    self.fail();
                } else {
                    if !page.is_empty() {
                        self.failures = 0;
                    }
                    let last = page.len() < PAGE as usize;
                    self.step = Step::Replaying(page.into(), last);
                }
            }
            Happened::Read(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(user.id = %self.user, error, "a socket could not read its events");
                match self.step {
                    // As far as anybody knows it has them all: no reason to give up the socket.
                    Step::LookingAgain(_) => self.after_page(true),
                    _ => self.fail(),
                }
            }
            Happened::StepOn => match &mut self.step {
                Step::Replaying(page, last) => match page.pop_front() {
                    Some(event) => {
                        self.promised = false;
                        count(&self.sessions.0.counters.replayed);
                        return Some(event);
                    }
                    None => {
                        let last = *last;
                        self.after_page(last);
                    }
                },
                Step::Live(_) => self.step = Step::LookingAgain(self.reading()),
                Step::Pausing(_) if self.link.is_some() => self.read(),
                Step::Asking(_) => {
                    self.link = None;
                    self.fail();
                }
                _ => {
                    let (sessions, user, viewer) = (self.sessions.clone(), self.user, self.viewer);
                    self.step = Step::Joining(Box::pin(async move { sessions.join(user, viewer).await }));
                }
            },
        }
        None
    }

    /// What the session says counts only while this socket waits for it; anything else is in the database.
    fn take(&mut self, push: Push) -> Option<Event> {
        match (push, &self.step) {
            (Push::Live, Step::Asking(_)) => {
                self.failures = 0;
                self.step = Step::Live(Instant::now() + LOOK_AGAIN);
            }
            // What is being read may have been asked for too early.
            (Push::Look, Step::Asking(_) | Step::Live(_) | Step::LookingAgain(_)) => {
                self.step = Step::LookingAgain(self.reading());
            }
            (Push::Behind, Step::Asking(_) | Step::Live(_)) => {
                self.promised = true;
                self.read();
            }
            (Push::Event(event), Step::Live(_)) if event.id.0 == self.cursor.0 + 1 => {
                count(&self.sessions.0.counters.sent_live);
                return Some(Event::clone(&event));
            }
            (Push::Event(event), Step::Live(_)) if event.id > self.cursor => self.read(),
            _ => {}
        }
        None
    }

    /// A page was the last one: ask to go live. Or it was not: read the next.
    fn after_page(&mut self, last: bool) {
        match &self.link {
            Some(link) if last => {
                // A session that has ended lets go of this socket, which notices.
                drop(link.session.cast(Message::GoLive(link.socket, self.cursor)));
                self.step = Step::Asking(Instant::now() + ANSWER_DEADLINE);
            }
            _ => self.read(),
        }
    }

    fn read(&mut self) {
        self.step = Step::Reading(self.reading());
    }

    /// Reads in a task of its own, which ends with the socket: the turn and the connection are given back even while
    /// the socket is busy with something else and polls nothing.
    fn reading(&self) -> Work<Result<Vec<Event>, StoreError>> {
        let (sessions, user, cursor) = (self.sessions.clone(), self.user, self.cursor);
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Never closed; without a turn it would only be less polite.
            let _turn = sessions.0.readers.acquire().await.ok();
            events::after(&sessions.0.db, user, cursor, PAGE).await
        });
        Box::pin(async move {
            match task.join_next().await {
                Some(Ok(page)) => page,
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => Ok(Vec::new()),
            }
        })
    }

    fn fail(&mut self) {
        self.failures += 1;
        if self.failures > PATIENCE {
            self.step = Step::Ended(Ended::Unavailable);
            return;
        }
        let pause = SHORTEST_PAUSE * 2_u32.pow(self.failures - 1);
        self.step = Step::Pausing(Instant::now() + pause);
    }
}

/// Counts a socket on the events of somebody else than its holder, for as long as it lives.
struct Watching(Sessions);

impl Watching {
    fn new(sessions: Sessions) -> Self {
        sessions.0.watchers.fetch_add(1, Ordering::SeqCst);
        Self(sessions)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.0.watchers.fetch_sub(1, Ordering::SeqCst);
    }
}
