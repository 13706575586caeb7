//! Notification sessions: who is connected, and how every event reaches every socket once and in order.
//!
//! One `Session` actor a connected user holds that user's sockets; it does no input or output, so that it never waits.
//! `SessionKeeper` starts sessions, owns them, and ends those that the last socket has left. Everybody else holds
//! [`Sessions`]: the edge attaches sockets, the ledger tells events after their commit.
//!
//! Why nothing is missed or doubled. A user's events are numbered without gaps and are in the database before they are
//! told. A socket has a cursor, the number of the last event that it delivered, and delivers nothing but number
//! cursor + 1 (see [`Attached`]). A session pushes a told event to the live sockets whose next one it is, passes over
//! numbers that they have had, and puts a socket that would have a gap back to reading from the database. A socket joins
//! first and reads then: what was committed before the read is in the rows, and what came later has been told to
//! the session that it joined; when it asks to go live, it is sent back to the rows if the session knows of more.
//!
//! So an event that is told late, twice, out of order or not at all delays delivery at most: a live socket
//! looks at the rows once a minute of its own accord. A session that panics costs its sockets a new join; the keeper
//! itself, if it ends, takes all sessions with it, and all sockets join anew.

mod attached;
mod counts;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, MessagingErr, RpcReplyPort, SupervisionEvent};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use souk_store::Db;
use souk_store::model::{Event, EventId, UserId};

pub use self::attached::{Attached, Delivery};
pub use self::counts::SessionCounts;
use self::counts::{Counters, count};

use crate::keeper::{Child, Seat};
use crate::{Refused, ask};

/// How many events may wait for a socket that takes none.
const QUEUE: usize = 256;
/// How many sockets read from the database at one time: those who come back after an outage must not take it from
/// everybody else.
const READERS: usize = 4;
/// How long joining a session may take.
const JOIN_DEADLINE: Duration = Duration::from_secs(2);

/// How many sockets there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketLimits {
    /// In all.
    pub total: usize,
    /// Of one user.
    pub per_user: usize,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self { total: 12_000, per_user: 20 }
    }
}

/// Why a socket gets no more events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The server shuts down; another one, or this one later, goes on where it ended.
    ShuttingDown,
    /// Too many events waited for this socket. It can come back with the last number that it saw.
    TooSlow,
    /// Events could not be read for too long. It can come back with the last number that it saw.
    Unavailable,
    /// The account that opened the socket may not hold it any longer.
    Deactivated,
}

/// By this handle sockets are attached and events are told. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

struct Shared {
    db: Db,
    limits: SocketLimits,
    seat: Seat<KeeperMessage>,
    /// The session of each connected user; written by the keeper alone.
    registry: DashMap<UserId, ActorRef<Message>>,
    /// A permit for each socket.
    room: Arc<Semaphore>,
    /// A permit for each socket that reads from the database.
    readers: Semaphore,
    draining: watch::Sender<bool>,
    /// Sockets on the events of somebody else than their holder.
    watchers: AtomicUsize,
    counters: Counters,
}

impl Sessions {
    /// A handle whose actors are started by [`Sessions::child`].
    pub(crate) fn new(db: Db, limits: SocketLimits) -> Self {
        Self(Arc::new(Shared {
            db,
            limits,
            seat: Seat::empty(),
            registry: DashMap::new(),
            room: Arc::new(Semaphore::new(limits.total)),
            readers: Semaphore::new(READERS),
            draining: watch::Sender::new(false),
            watchers: AtomicUsize::new(0),
            counters: Counters::default(),
        }))
    }

    pub(crate) fn child(&self) -> Child {
        let sessions = self.clone();
        Child::new("session keeper", &self.0.seat, move || (SessionKeeper, sessions.clone()))
    }

    /// Attaches a socket that `viewer` holds to the events of `user`: those after number `from`, or without it those
    /// that come from now on. A number beyond the newest counts as the newest.
    ///
    /// # Errors
    /// [`Refused::Busy`] if there are as many sockets as there may be, [`Refused::Unavailable`] if the
    /// server shuts down, or the actors or the database are away. It answers within seconds.
    pub async fn attach(
        &self,
        user: UserId,
        viewer: UserId,
        from: Option<EventId>,
    ) -> Result<Attached, Refused> {
        Attached::new(self.clone(), user, viewer, from).await
    }

    /// Tells events to those who are connected. To be called after the commit, in rising order for each user; an
    /// event that is told again, late or out of order does no harm.
    pub fn tell(&self, events: Vec<Event>) {
        for event in events {
            let Some(session) = self.0.registry.get(&event.user_id).map(|entry| entry.clone()) else {
                continue;
            };
            // A session that has just ended has no sockets: whoever joins the next one reads this event.
            drop(session.cast(Message::Tell(Arc::new(event))));
        }
    }

    /// The user has an event with this number, which is in the database: another node told.
    pub(crate) fn heard(&self, user: UserId, event: EventId) {
        if let Some(session) = self.0.registry.get(&user).map(|entry| entry.clone()) {
            drop(session.cast(Message::Heard(event)));
        }
    }

    /// Somebody may have had events that nobody told of: every socket looks at the rows.
    pub(crate) fn look_again(&self) {
        for session in &self.0.registry {
            drop(session.cast(Message::LookAgain));
        }
    }

    /// Ends every socket that `viewer` holds, whosever events it is on.
    pub fn close_user(&self, viewer: UserId, why: Ended) {
        self.say_of(viewer, || Message::Close { viewer, why });
    }

    /// Has every socket that `viewer` holds judged anew: what the account may do has changed, perhaps.
    pub fn doubt(&self, viewer: UserId) {
        self.say_of(viewer, || Message::Doubt { viewer });
    }

    fn say_of(&self, viewer: UserId, message: impl Fn() -> Message) {
        // A session that has just ended has no sockets; one that begins now is for the edge to judge, which looks at
        // the account again once its socket is attached.
        if let Some(session) = self.0.registry.get(&viewer).map(|entry| entry.clone()) {
            drop(session.cast(message()));
        }
        if self.0.watchers.load(Ordering::SeqCst) > 0 {
            for session in self.0.registry.iter().filter(|entry| *entry.key() != viewer) {
                drop(session.cast(message()));
            }
        }
    }

    /// The users whose events sockets are on.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.0.registry.iter().map(|entry| *entry.key()).collect()
    }

    /// Ends every socket and refuses new ones; returns when they are gone or `grace` is over, with the number left.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.0.draining.send_replace(true);
        let all = u32::try_from(self.0.limits.total).unwrap_or(u32::MAX);
        match tokio::time::timeout(grace, self.0.room.acquire_many(all)).await {
            Ok(_) => 0,
            Err(_) => self.counts().sockets,
        }
    }

    /// Joins the session of `user`, which is started if need be.
    async fn join(&self, user: UserId, viewer: UserId) -> Result<Link, Refused> {
        // A session that fails drops the question, and then nobody has joined it: the next one is asked.
        for _ in 0..3 {
            let message = |reply| KeeperMessage::Join { user, viewer, reply };
            match ask(self.0.seat.get(), JOIN_DEADLINE, message).await {
                Ok(Some(link)) => return Ok(link),
                Ok(None) => return Err(Refused::Busy),
                Err(Refused::Uncertain) => {}
                Err(refused) => return Err(refused),
            }
        }
        Err(Refused::Unavailable)
    }
}

impl Shared {
    /// Takes a session out of the registry unless another has taken its place.
    fn forget(&self, user: UserId, session: ActorId) {
        self.registry.remove_if(&user, |_, present| present.get_id() == session);
    }
}

/// The answer to a wish to join: a place, or none if the user holds as many sockets as one may.
type Joined = Option<Link>;

/// A socket's end of its place in a session. Dropping it, also in an answer that nobody waits for, leaves the session.
struct Link {
    session: ActorRef<Message>,
    socket: SocketId,
    end: oneshot::Receiver<Ended>,
    doubt: Arc<Notify>,
    queue: mpsc::Receiver<Push>,
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.session.cast(Message::Leave(self.socket)));
    }
}

/// From a session to a socket.
enum Push {
    /// The answer to [`Message::GoLive`]: what follows the cursor comes by this queue from now on.
    Live,
    /// There is more in the database; nothing comes by this queue until the socket asks to go live again.
    Behind,
    /// There may be more in the database.
    Look,
    Event(Arc<Event>),
}

type SocketId = u64;

enum KeeperMessage {
    Join {
        user: UserId,
        viewer: UserId,
        reply: RpcReplyPort<Joined>,
    },
    /// A session has no sockets after this many wishes to join.
    Empty {
        session: ActorId,
        joins: u64,
    },
}

/// Starts and ends sessions. A session is in the registry before its first socket joins, so that no event passes by in
/// between; and every wish to join goes through here, so that none is under way to a session that is ended.
struct SessionKeeper;

struct Kept {
    user: UserId,
    session: ActorRef<Message>,
    /// How many wishes to join were sent to it.
    joins: u64,
}

struct KeeperState {
    sessions: Sessions,
    kept: HashMap<ActorId, Kept>,
}

impl Actor for SessionKeeper {
    type Msg = KeeperMessage;
    type State = KeeperState;
    type Arguments = Sessions;

    async fn pre_start(
        &self,
        _: ActorRef<KeeperMessage>,
        sessions: Sessions,
    ) -> Result<KeeperState, ActorProcessingErr> {
        // The sessions of a keeper before this one ended with it.
        sessions.0.registry.clear();
        Ok(KeeperState { sessions, kept: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<KeeperMessage>,
        message: KeeperMessage,
        state: &mut KeeperState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            KeeperMessage::Join { user, viewer, reply } => state.join(&myself, user, viewer, reply).await,
            KeeperMessage::Empty { session, joins } => {
                if let Some(kept) = state.kept.get(&session)
                    && kept.joins == joins
                {
                    state.sessions.0.forget(kept.user, session);
                    // It may have failed in the meantime.
                    drop(kept.session.drain());
                }
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<KeeperMessage>,
        event: SupervisionEvent,
        state: &mut KeeperState,
    ) -> Result<(), ActorProcessingErr> {
        let who = match &event {
            SupervisionEvent::ActorTerminated(who, _, _) => who,
            SupervisionEvent::ActorFailed(who, _) => who,
            _ => return Ok(()),
        };
        let Some(Kept { user, .. }) = state.kept.remove(&who.get_id()) else { return Ok(()) };
        state.sessions.0.forget(user, who.get_id());
        if let SupervisionEvent::ActorFailed(_, error) = event {
            // Not started again from here: its sockets join a new one.
            count(&state.sessions.0.counters.failed);
            tracing::error!(user.id = %user, %error, "a session failed");
        }
        Ok(())
    }
}

impl KeeperState {
    async fn join(
        &mut self,
        myself: &ActorRef<KeeperMessage>,
        user: UserId,
        viewer: UserId,
        mut reply: RpcReplyPort<Joined>,
    ) -> Result<(), ActorProcessingErr> {
        while !reply.is_closed() {
            let present = self.sessions.0.registry.get(&user).map(|entry| entry.get_id());
            let id = match present {
                Some(id) if self.kept.contains_key(&id) => id,
                _ => self.start(myself, user).await?,
            };
            let Some(kept) = self.kept.get_mut(&id) else { break };
            kept.joins += 1;
            match kept.session.cast(Message::Join { viewer, reply }) {
                Err(MessagingErr::SendErr(Message::Join { reply: back, .. })) => {
                    // It has failed; that will be told here.
                    self.sessions.0.forget(user, id);
                    reply = back;
                }
                _ => break,
            }
        }
        Ok(())
    }

    async fn start(
        &mut self,
        myself: &ActorRef<KeeperMessage>,
        user: UserId,
    ) -> Result<ActorId, ActorProcessingErr> {
        let arguments = (self.sessions.clone(), user, myself.clone());
        let (session, _ends) = Actor::spawn_linked(None, Session, arguments, myself.get_cell()).await?;
        let id = session.get_id();
        self.sessions.0.registry.insert(user, session.clone());
        self.kept.insert(id, Kept { user, session, joins: 0 });
        Ok(id)
    }
}

enum Message {
    Join {
        viewer: UserId,
        reply: RpcReplyPort<Joined>,
    },
    /// All up to this number was delivered to the socket.
    GoLive(SocketId, EventId),
    Tell(Arc<Event>),
    /// There is an event with this number.
    Heard(EventId),
    LookAgain,
    Close {
        viewer: UserId,
        why: Ended,
    },
    Doubt {
        viewer: UserId,
    },
    Leave(SocketId),
    #[cfg(test)]
    Panic,
}

struct Session;

struct Socket {
    viewer: UserId,
    /// The number of the last event pushed, while the socket is live.
    live: Option<EventId>,
    /// It shall look at the rows once more before it goes live.
    look: bool,
    /// Before `queue`, so that a socket that finds its queue closed finds out why.
    end: oneshot::Sender<Ended>,
    /// Whether its holder may still be here is to be asked.
    doubt: Arc<Notify>,
    queue: mpsc::Sender<Push>,
}

struct SessionState {
    sessions: Sessions,
    user: UserId,
    sockets: HashMap<SocketId, Socket>,
    last_socket: SocketId,
    /// The highest number heard of; all up to it are in the database.
    newest: EventId,
    keeper: ActorRef<KeeperMessage>,
    /// Wishes to join so far, and as of the last report to be empty.
    joins: u64,
    reported: u64,
}

impl Actor for Session {
    type Msg = Message;
    type State = SessionState;
    type Arguments = (Sessions, UserId, ActorRef<KeeperMessage>);

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        (sessions, user, keeper): Self::Arguments,
    ) -> Result<SessionState, ActorProcessingErr> {
        Ok(SessionState {
            sessions,
            user,
            sockets: HashMap::new(),
            last_socket: 0,
            newest: EventId(0),
            keeper,
            joins: 0,
            reported: 0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Join { viewer, reply } => state.join(&myself, viewer, reply),
            Message::GoLive(socket, cursor) => state.go_live(socket, cursor),
            Message::Tell(event) => state.tell(&event),
            Message::Heard(event) => state.heard(event),
            Message::LookAgain => state.look_again(),
            Message::Close { viewer, why } => {
                for (_, socket) in state.sockets.extract_if(|_, socket| socket.viewer == viewer) {
                    socket.close(why);
                }
            }
            Message::Doubt { viewer } => {
                for socket in state.sockets.values().filter(|socket| socket.viewer == viewer) {
                    socket.doubt.notify_one();
                }
            }
            Message::Leave(socket) => drop(state.sockets.remove(&socket)),
            #[cfg(test)]
            Message::Panic => panic!("as the test wishes"),
        }
        if state.sockets.is_empty() && state.reported != state.joins {
            // Not the session but the keeper ends it: only the keeper knows whether another wish to join is under way.
            state.reported = state.joins;
            let empty = KeeperMessage::Empty { session: myself.get_id(), joins: state.joins };
            // If the keeper has ended, so does its session.
            drop(state.keeper.cast(empty));
        }
        Ok(())
    }
}

impl SessionState {
    fn join(&mut self, myself: &ActorRef<Message>, viewer: UserId, reply: RpcReplyPort<Joined>) {
        self.joins += 1;
        if reply.is_closed() {
            return;
        }
        let answer = if self.sockets.len() >= self.sessions.0.limits.per_user {
            None
        } else {
            self.last_socket += 1;
            let (end, ended) = oneshot::channel();
            let (queue, queued) = mpsc::channel(QUEUE);
            let doubt = Arc::new(Notify::new());
            let socket = Socket { viewer, live: None, look: false, end, doubt: Arc::clone(&doubt), queue };
            self.sockets.insert(self.last_socket, socket);
            let session = myself.clone();
            Some(Link { session, socket: self.last_socket, end: ended, doubt, queue: queued })
        };
        // An answer that nobody takes is dropped, and a link in it leaves again.
        drop(reply.send(answer));
    }

    fn go_live(&mut self, id: SocketId, cursor: EventId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let behind = self.newest > cursor;
        self.newest = self.newest.max(cursor);
        let look = std::mem::take(&mut socket.look) && !behind;
        socket.live = (!behind && !look).then_some(cursor);
        let answer = match (behind, look) {
            (true, _) => Push::Behind,
            (_, true) => Push::Look,
            _ => Push::Live,
        };
        if socket.queue.try_send(answer).is_err() {
            self.give_up(id);
        }
    }

    fn tell(&mut self, event: &Arc<Event>) {
        self.newest = self.newest.max(event.id);
        self.push(|socket| match socket.live {
            Some(cursor) if event.id.0 == cursor.0 + 1 => {
                socket.live = Some(event.id);
                Some(Push::Event(Arc::clone(event)))
            }
            Some(cursor) if event.id > cursor => {
                socket.live = None;
                Some(Push::Behind)
            }
            // It has had this one, or will read it.
            _ => None,
        });
    }

    /// Sends the live sockets back to the rows that have not had this event; the others find it there anyway.
    fn heard(&mut self, event: EventId) {
        self.newest = self.newest.max(event);
        self.push(|socket| {
            socket.live.take_if(|cursor| *cursor < event)?;
            Some(Push::Behind)
        });
    }

    /// A live socket stays so for the session: what is told meanwhile counts as waiting for it.
    fn look_again(&mut self) {
        self.push(|socket| {
            // One that reads just now may have begun too early.
            socket.look = socket.live.is_none();
            socket.live.map(|_| Push::Look)
        });
    }

    fn push(&mut self, what: impl Fn(&mut Socket) -> Option<Push>) {
        let mut stuck = Vec::new();
        for (id, socket) in &mut self.sockets {
            if let Some(push) = what(socket)
                && socket.queue.try_send(push).is_err()
            {
                stuck.push(*id);
            }
        }
        for id in stuck {
            self.give_up(id);
        }
    }

    /// Ends a socket, and only that one, whose queue takes no more.
    fn give_up(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.remove(&id) else { return };
        // Closed by the other side: its word that it leaves is under way.
        if !socket.queue.is_closed() {
            count(&self.sessions.0.counters.too_slow);
            tracing::debug!(user.id = %self.user, "a socket took its events too slowly");
            socket.close(Ended::TooSlow);
        }
    }
}

impl Socket {
    fn close(self, why: Ended) {
        // A socket that has gone needs no reason.
        let _gone = self.end.send(why);
    }
}
