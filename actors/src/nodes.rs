//! The other nodes: keeps the connection to Redis by which this node hears what they changed, and they what it did.
//!
//! Started only if there is a Redis; nobody calls it. What there is to tell goes through
//! [`Invalidator::tell`], which never waits. The actor makes a connection and runs its two halves as tasks of its own:
//! one writes what was gathered, one hears and passes on, to caches, levels, carts and sessions. When either finds the
//! connection lost, the actor makes another, and then everything is forgotten here and the sessions look at their
//! rows, since nobody knows what was missed.
//!
//! While there is no connection the node is alone: it cannot know what the others write. It forgets everything every
//! time it looks for a connection, so that nothing that it shows is older than a second; reads then come from the
//! database. What it writes itself it announces in the database, where the others look once a second (`Watcher`): they may
//! still be connected, and would not hear of it otherwise. When another node falls silent everything is forgotten, too,
//! since it may have died with something left to tell.
//!
//! If the actor fails it is started again, with a new connection.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;
use tokio::time::Instant;

use souk_store::cache::{Cache, Key};
use souk_store::redis::{Heard, Link, News, Redis, RedisError};
use souk_store::{Db, chain, identity};

use crate::cart::Carts;
use crate::invalidation::Invalidator;
use crate::keeper::{Child, Seat};
use crate::ledger::Levels;
use crate::session::Sessions;

/// How often to see whether there is a connection.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a node that is alone makes its sessions look at their rows: there may be thousands.
const SESSIONS_LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often, at most, a node that is alone announces that it has written something.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(500);

/// How this node learns from the others. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Nodes {
    db: Db,
    redis: Redis,
    /// Those who learn.
    cache: Cache,
    levels: Levels,
    carts: Carts,
    sessions: Sessions,
    invalidator: Invalidator,
    seat: Seat<Message>,
}

#[derive(Clone, Copy)]
pub(crate) enum Message {
    /// See whether there is a connection.
    Look,
    /// Another node fell silent.
    Silence,
}

impl Nodes {
    /// None without a Redis.
    pub(crate) fn new(
        db: &Db,
        cache: &Cache,
        levels: &Levels,
        carts: &Carts,
        sessions: &Sessions,
        invalidator: &Invalidator,
    ) -> Option<Self> {
        Some(Self {
            db: db.clone(),
            redis: cache.redis()?.clone(),
            cache: cache.clone(),
            levels: levels.clone(),
            carts: carts.clone(),
            sessions: sessions.clone(),
            invalidator: invalidator.clone(),
            seat: Seat::empty(),
        })
    }

    pub(crate) fn child(&self) -> Child {
        let nodes = self.clone();
        Child::new("nodes", &self.seat, move || (nodes.clone(), ()))
    }

    /// Tells the others what is left to tell, and that this node goes.
    pub(crate) async fn drain(&self, within: Duration) {
        if let Some(actor) = self.seat.get() {
            drop(actor.drain_and_wait(Some(within)).await);
        }
    }

    /// Passes on what was heard.
    fn learn(&self, news: &News) {
        self.invalidator.learn(&news.forget);
        self.levels.set(&news.levels, &news.forget);
        for (user, version) in &news.carts {
            self.carts.moved(*user, *version);
        }
        for (user, event) in &news.events {
            self.sessions.heard(*user, *event);
        }
    }

    /// Nobody knows what was not heard.
    fn forget_everything(&self) {
        // The caches first: a row that was cached before a sale must not be seen without the level that lay over it.
        self.cache.forget_everything_here();
        self.levels.clear();
        self.carts.forget_all();
    }

    fn look_at_rows(&self) {
        self.sessions.look_again();
        self.invalidator.learn(&[Key::Users]);
    }

    async fn listen(self, mut link: Link, myself: ActorRef<Message>) {
        while let Some(heard) = link.next().await {
            match heard {
                Heard::News(news) => self.learn(&news),
                Heard::Everything => {
                    self.forget_everything();
                    self.look_at_rows();
                }
                Heard::Silence => {
                    self.forget_everything();
                    self.look_at_rows();
                    // Refused when this node ends itself.
                    drop(myself.cast(Message::Silence));
                }
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    /// The two halves of the connection, while there is one.
    halves: JoinSet<()>,
    /// Since when there is none, and why was said.
    alone: bool,
    sessions_looked: Option<Instant>,
    announced: Option<Instant>,
}

impl Actor for Nodes {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Message>, (): ()) -> Result<State, ActorProcessingErr> {
        let mut state = State::default();
        self.connect(&myself, &mut state).await;
        myself.send_after(LOOK_EVERY, || Message::Look);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Look => {
                if !self.redis.is_connected() || state.halves.try_join_next().is_some() {
                    self.connect(&myself, state).await;
                }
                self.announce(state).await;
                myself.send_after(LOOK_EVERY, || Message::Look);
            }
            Message::Silence => {
                if let Err(error) = self.redis.begin_epoch().await {
                    tracing::debug!(error = chain(&error), "no new epoch could be begun");
                }
                // Until then something old may have come from Redis.
                self.forget_everything();
                tracing::warn!("another node fell silent; everything that was cached is forgotten");
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.halves.shutdown().await;
        self.redis.part().await;
        Ok(())
    }
}

impl Nodes {
    async fn connect(&self, myself: &ActorRef<Message>, state: &mut State) {
        state.halves.shutdown().await;
        self.forget_everything();
        let connected = self.redis.connect().await;
        // What was loaded while it was being made may be old.
        self.forget_everything();
        match connected {
            Ok(link) => {
                state.halves.spawn(self.clone().listen(link, myself.clone()));
                let redis = self.redis.clone();
                state.halves.spawn(async move { redis.post().await });
                state.alone = false;
                state.sessions_looked = None;
                self.look_at_rows();
                tracing::info!("connected to Redis");
            }
            Err(error) => self.stay_alone(&error, state),
        }
    }

    /// Lets others know by the database what this node could not tell them, whether they can be heard again or not.
    async fn announce(&self, state: &mut State) {
        if state.announced.is_some_and(|announced| announced.elapsed() < ANNOUNCE_EVERY)
            || !self.redis.take_untold()
        {
            return;
        }
        state.announced = Some(Instant::now());
        if let Err(error) = identity::announce(&self.db).await {
            tracing::debug!(error = chain(&error), "what was written cannot be announced");
            self.redis.put_untold();
        }
    }

    fn stay_alone(&self, error: &RedisError, state: &mut State) {
        if !std::mem::replace(&mut state.alone, true) {
            tracing::warn!(
                error = chain(error),
                "no connection to Redis: reads come from the database until there is one"
            );
        }
        if state.sessions_looked.is_none_or(|looked| looked.elapsed() >= SESSIONS_LOOK_EVERY) {
            state.sessions_looked = Some(Instant::now());
            self.look_at_rows();
        }
    }
}
