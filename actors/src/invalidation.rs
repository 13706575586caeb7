//! The invalidator: whoever changed something says so here, and whoever remembers it forgets it.
//!
//! [`Invalidator::forget`] is called after the commit and before the answer. This node's cache forgets before it
//! returns, so that no read that begins after the answer sees what was before, and the other nodes are told if there is
//! a Redis. What else follows from a change (the sockets of a deactivated user are closed) is done by the actor, which
//! merges what comes in while it works, and keeps it until the database has answered. If it fails it is started again,
//! and then looks at everybody who is connected, since what it had merged went with it.

use std::collections::HashSet;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use souk_store::cache::{Cache, Key};
use souk_store::model::UserId;
use souk_store::redis::News;
use souk_store::{Db, StoreError, chain};

use crate::keeper::{Child, Seat};
use crate::session::{Ended, Sessions};
use crate::to_its_end;

/// How long to wait before an account is looked at again whose row could not be read.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// By this handle anybody says what has changed. Cheap to clone.
#[derive(Clone)]
pub struct Invalidator {
    cache: Cache,
    seat: Seat<Message>,
}

enum Message {
    Changed(Vec<Key>),
    /// Deal with all that was gathered: cast by the actor to itself, so that it lands behind what is queued.
    Flush,
}

impl Invalidator {
    pub(crate) fn new(cache: Cache) -> Self {
        Self { cache, seat: Seat::empty() }
    }

    pub(crate) fn child(&self, db: &Db, sessions: &Sessions) -> Child {
        let actor =
            InvalidatorActor { db: db.clone(), cache: self.cache.clone(), sessions: sessions.clone() };
        Child::new("invalidator", &self.seat, move || (actor.clone(), ()))
    }

    /// Makes this node forget `keys` before it returns, and tells whoever else must know.
    pub fn forget(&self, keys: &[Key]) {
        self.tell(&News::forget(keys));
    }

    /// The same with everything else that the other nodes must hear of.
    pub fn tell(&self, news: &News) {
        self.cache.tell(news);
        self.follow(&news.forget);
    }

    /// Makes this node forget what another one has told.
    pub(crate) fn learn(&self, keys: &[Key]) {
        self.cache.forget_here(keys);
        self.follow(keys);
    }

    /// Does what else follows, for which nobody waits.
    fn follow(&self, keys: &[Key]) {
        let keys: Vec<_> =
            keys.iter().copied().filter(|key| matches!(key, Key::User(_) | Key::Users)).collect();
        if !keys.is_empty()
            && let Some(actor) = self.seat.get()
        {
            // If it has just ended, it looks at everybody when it is back.
            drop(actor.cast(Message::Changed(keys)));
        }
    }

    /// Does a write and forgets `keys` after it, whatever its outcome: a commit whose answer was lost may stand.
    ///
    /// It is done to its end even if the caller is dropped meanwhile, as handlers are whose client leaves; the caches
    /// would otherwise keep what was before it.
    pub async fn write<T: Send + 'static>(
        &self,
        keys: Vec<Key>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let invalidator = self.clone();
        let work = async move {
            let outcome = work.await;
            invalidator.forget(&keys);
            outcome
        };
        to_its_end(work).await
    }

    /// Waits until all that was said so far has been dealt with, then ends the actor.
    pub(crate) async fn drain(&self, within: Duration) {
        if let Some(actor) = self.seat.get() {
            drop(actor.drain_and_wait(Some(within)).await);
        }
    }
}

#[derive(Clone)]
struct InvalidatorActor {
    db: Db,
    cache: Cache,
    sessions: Sessions,
}

impl Actor for InvalidatorActor {
    type Msg = Message;
    type State = HashSet<Key>;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Message>, (): ()) -> Result<HashSet<Key>, ActorProcessingErr> {
        let connected: HashSet<_> = self.connected().collect();
        if !connected.is_empty() {
            myself.cast(Message::Flush)?;
        }
        Ok(connected)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        gathered: &mut HashSet<Key>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Changed(keys) => {
                let flush_is_due = gathered.is_empty();
                for key in keys {
                    match key {
                        Key::Users => gathered.extend(self.connected()),
                        key => drop(gathered.insert(key)),
                    }
                }
                if flush_is_due && !gathered.is_empty() {
                    // Refused while the actor drains; then nobody is connected any more.
                    drop(myself.cast(Message::Flush));
                }
            }
            Message::Flush => {
                for key in gathered.clone() {
                    if let Key::User(user) = key
                        && let Err(error) = self.judge(user).await
                    {
                        tracing::warn!(error = chain(&error), "an account could not be looked at");
                        // What is left stays gathered.
                        myself.send_after(RETRY_AFTER, || Message::Flush);
                        return Ok(());
                    }
                    gathered.remove(&key);
                }
            }
        }
        Ok(())
    }
}

impl InvalidatorActor {
    fn connected(&self) -> impl Iterator<Item = Key> + use<> {
        self.sessions.users().into_iter().map(Key::User)
    }

    /// A deactivated user's sockets end at once, as his tokens do. What else may have ended, his tokens or his right to see
    /// the events of others, each socket judges for itself.
    async fn judge(&self, user: UserId) -> Result<(), StoreError> {
        let active = self.cache.user(&self.db, user).await?.is_some_and(|user| user.is_active);
        if active {
            self.sessions.doubt(user);
        } else {
            self.sessions.close_user(user, Ended::Deactivated);
        }
        Ok(())
    }
}
