//! The parent of all actors: starts them, starts them again when they end, and ends them at shutdown.
//!
//! A child that panics or fails is started again at once, then after growing pauses of at most [`LONGEST_PAUSE`], for
//! as long as it takes: a shop that waits for its database is better than one that is gone. A child that has been well
//! for [`HEALTHY_AFTER`] starts from the shortest pause again. While a seat is empty its callers are refused;
//! readiness shows the ledger's. The keeper itself runs no code that can fail.
//!
//! A restarted actor has a new address and an empty mailbox. Nobody keeps an address: they keep a [`Seat`].

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, Message, RpcReplyPort, SpawnErr,
    SupervisionEvent,
};
use tokio::time::Instant;

/// The pause before the second restart in a row; it doubles from there.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between two restarts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After this long without an end, a child's restarts are counted from the beginning.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Where an actor is to be found, whichever one sits there now.
pub(crate) struct Seat<M>(Arc<RwLock<Option<ActorRef<M>>>>);

impl<M> Clone for Seat<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Seat<M> {
    pub(crate) fn empty() -> Self {
        Self(Arc::new(RwLock::new(None)))
    }

    /// The actor that sits there, if one does.
    pub(crate) fn get(&self) -> Option<ActorRef<M>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, actor: Option<ActorRef<M>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = actor;
    }
}

type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

/// One child: how to start it and where it sits.
pub(crate) struct Child {
    name: &'static str,
    /// How often it ended that should not have.
    failures: Arc<AtomicU64>,
    start: Box<dyn Fn(ActorCell) -> Starting + Send + Sync>,
    vacate: Box<dyn Fn() + Send + Sync>,
}

impl Child {
    /// A child made by `make` that takes `seat` each time it is started.
    pub(crate) fn new<A: Actor>(
        name: &'static str,
        seat: &Seat<A::Msg>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self
    where
        A::Msg: Message,
    {
        let (taken, vacated) = (seat.clone(), seat.clone());
        let start = move |keeper: ActorCell| -> Starting {
            let (actor, arguments) = make();
            let seat = taken.clone();
            Box::pin(async move {
                let (actor, _ends) = Actor::spawn_linked(None, actor, arguments, keeper).await?;
                seat.set(Some(actor.clone()));
                Ok(actor.get_cell())
            })
        };
        let failures = Arc::default();
        Self { name, failures, start: Box::new(start), vacate: Box::new(move || vacated.set(None)) }
    }

    /// What it is called, and how often it ended that should not have, also from now on.
    pub(crate) fn failures(&self) -> (&'static str, Arc<AtomicU64>) {
        (self.name, Arc::clone(&self.failures))
    }
}

struct Post {
    child: Child,
    /// The actor that holds it now.
    holder: Option<ActorId>,
    since: Instant,
    restarts: u32,
}

/// See the file's first paragraph.
pub(crate) struct Keeper;

pub(crate) enum Instruction {
    /// Start the child at this post.
    Start(usize),
    /// From now on an end is an end. Answered, because ractor delivers the news of an end before messages that wait.
    LetEnd(RpcReplyPort<()>),
}

pub(crate) struct State {
    posts: Vec<Post>,
    ending: bool,
}

impl Actor for Keeper {
    type Msg = Instruction;
    type State = State;
    type Arguments = Vec<Child>;

    async fn pre_start(
        &self,
        myself: ActorRef<Instruction>,
        children: Vec<Child>,
    ) -> Result<State, ActorProcessingErr> {
        let mut posts = Vec::with_capacity(children.len());
        for child in children {
            let holder = (child.start)(myself.get_cell()).await?;
            posts.push(Post { child, holder: Some(holder.get_id()), since: Instant::now(), restarts: 0 });
        }
        Ok(State { posts, ending: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Instruction>,
        message: Instruction,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Instruction::LetEnd(known) => {
                state.ending = true;
                drop(known.send(()));
            }
            Instruction::Start(index) if !state.ending => {
                let post = &mut state.posts[index];
                match (post.child.start)(myself.get_cell()).await {
                    Ok(holder) => {
                        post.holder = Some(holder.get_id());
                        post.since = Instant::now();
                    }
                    Err(error) => {
                        tracing::error!(actor.name = post.child.name, %error, "an actor could not be started");
                        // It was not well in between: the pauses go on growing.
                        post.since = Instant::now();
                        restart_later(&myself, index, post);
                    }
                }
            }
            Instruction::Start(_) => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Instruction>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (who, why) = match event {
            SupervisionEvent::ActorFailed(who, why) => (who, why.to_string()),
            SupervisionEvent::ActorTerminated(who, _, why) => {
                (who, why.unwrap_or_else(|| "it ended".to_owned()))
            }
            _ => return Ok(()),
        };
        let Some(index) = state.posts.iter().position(|post| post.holder == Some(who.get_id())) else {
            return Ok(());
        };
        let post = &mut state.posts[index];
        post.holder = None;
        (post.child.vacate)();
        if !state.ending {
            post.child.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(actor.name = post.child.name, actor.end = %why, "an actor ended and is started again");
            restart_later(&myself, index, post);
        }
        Ok(())
    }
}

fn restart_later(keeper: &ActorRef<Instruction>, index: usize, post: &mut Post) {
    if post.since.elapsed() >= HEALTHY_AFTER {
        post.restarts = 0;
    }
    let pause = match post.restarts {
        0 => Duration::ZERO,
        n => LONGEST_PAUSE.min(SHORTEST_PAUSE * 2_u32.saturating_pow(n - 1)),
    };
    post.restarts += 1;
    if pause.is_zero() {
        // It can only fail if the keeper itself has ended, and then there is nothing to start.
        drop(keeper.cast(Instruction::Start(index)));
    } else {
        keeper.send_after(pause, move || Instruction::Start(index));
    }
}
