//! The stock ledger: the one actor of this node that takes orders, every other change of stock, and edits of carts.
//!
//! The first work that comes while no batch is under way makes it cast `Commit` to itself, which lands behind all that is
//! queued; while one is ([`commit`]) the next gathers ([`queue`]), and is begun when that one ends. That is group commit
//! without a timer: alone a work waits for nobody, under load a batch grows to what came meanwhile. On Postgres a second
//! batch goes beside the first if it touches nothing that the first does, as soon as it is no smaller, so that the server
//! works while this node decides and writes down.
//!
//! If the outcome of a commit stays unknown, or a batch panics, the actor ends when the other batch has ended, is started
//! again, and forgets what it remembers.

mod commit;
mod levels;
mod load;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use souk_store::Db;
use souk_store::cache::Key;
use souk_store::carts::CartEdit;
use souk_store::changes::Author;
use souk_store::ledger::{
    self, Done, EditCart, NewProduct, PlaceOrder, ProductChange, Seen, StepOrder, StockMove, Work,
};
use souk_store::model::{CartId, CartItemId, OrderId, OrderStatus, Product, ProductId, Timestamp, UserId};

use crate::invalidation::Invalidator;
use crate::keeper::{Child, Seat};
use crate::session::Sessions;
use crate::{Refused, ask, work_span};

pub use self::levels::Levels;
use self::load::Counters;
pub use self::load::Load;
use self::queue::{Queue, Ticket};

/// The most works that wait or are under way; one more is refused as [`Refused::Busy`].
const ADMISSIONS: usize = 4_096;
/// How long a caller waits for an answer, be it that nobody knows.
const DEADLINE: Duration = Duration::from_millis(2_500);
/// How long a caller waits who writes many products together.
const TOGETHER_DEADLINE: Duration = Duration::from_secs(15);
/// How often, at most, some rows that have served their time are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// By this handle works are given to the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    seat: Seat<Message>,
    admissions: Arc<Semaphore>,
    levels: Levels,
    counters: Arc<Counters>,
    /// The admin whom the history names for what this handle asks.
    by: Option<Author>,
}

enum Message {
    Submit(Box<Submission>),
    /// Commit what can be begun.
    Commit,
    /// A batch has ended.
    Ended,
    #[cfg(test)]
    Panic,
}

struct Submission {
    work: Work,
    by: Option<Author>,
    /// Of whoever asked.
    span: Span,
    answer: Answer,
}

/// A caller who waits. The admission goes back when this is dropped, whatever became of the work.
struct Answer {
    reply: RpcReplyPort<Result<Done, Refused>>,
    _admission: OwnedSemaphorePermit,
}

impl Answer {
    #[cfg(test)]
    fn to_nobody() -> Self {
        let (reply, _) = tokio::sync::oneshot::channel();
        let admissions = Arc::new(Semaphore::new(1));
        let admission = admissions.try_acquire_owned().expect("a new semaphore");
        Self { reply: reply.into(), _admission: admission }
    }

    fn give(self, outcome: Result<Done, Refused>) {
        // A caller who has gone can look it up.
        drop(self.reply.send(outcome));
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            seat: Seat::empty(),
            admissions: Arc::new(Semaphore::new(ADMISSIONS)),
            levels: Levels::default(),
            counters: Arc::default(),
            by: None,
        }
    }

    pub(crate) fn child(&self, db: &Db, invalidator: &Invalidator, sessions: &Sessions) -> Child {
        let actor = LedgerActor {
            db: db.clone(),
            levels: self.levels.clone(),
            counters: Arc::clone(&self.counters),
            invalidator: invalidator.clone(),
            sessions: sessions.clone(),
        };
        Child::new("stock ledger", &self.seat, move || (actor.clone(), ()))
    }

    /// The same for an admin, whom the history names for what is done by it.
    #[must_use]
    pub fn by(&self, admin: Author) -> Self {
        Self { by: Some(admin), ..self.clone() }
    }

    /// The live levels.
    #[must_use]
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Whether it can be asked; not while it is being started again.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.seat.get().is_some()
    }

    /// How full it is.
    #[must_use]
    pub fn load(&self) -> Load {
        self.counters.read(ADMISSIONS - self.admissions.available_permits(), ADMISSIONS)
    }

    /// Places an order. Only the user's cart calls this: it makes sure that no two are under way for one user.
    pub(crate) async fn place(&self, order: PlaceOrder) -> Result<Done, Refused> {
        self.submit(Work::Place(order)).await
    }

    /// Changes a cart that still has this version, and gives the line's id if the change has one, and its time.
    pub(crate) async fn edit_cart(
        &self,
        cart_id: CartId,
        cart_version: i64,
        edit: CartEdit,
    ) -> Result<(Option<CartItemId>, Timestamp), Refused> {
        match self.submit(Work::EditCart(EditCart { cart_id, cart_version, edit })).await? {
            Done::CartEdited { line, at } => Ok((line, at)),
            done => Err(wrong_answer(&done)),
        }
    }

    /// Moves an order to a status, and gives whether it had another one; `owner` restricts it to that user's orders.
    ///
    /// # Errors
    /// `OrderNotFound`, `WrongStep` or `StockIs` as [`Refused::Books`]; any other [`Refused`].
    pub async fn step_order(
        &self,
        order_id: OrderId,
        to: OrderStatus,
        owner: Option<UserId>,
    ) -> Result<bool, Refused> {
        match self.submit(Work::Step(StepOrder { order_id, to, owner })).await? {
            Done::Stepped { moved } => Ok(moved),
            done => Err(wrong_answer(&done)),
        }
    }

    /// Creates a product, with a first movement for its stock.
    ///
    /// # Errors
    /// `SkuTaken` or `CategoryNotFound` as [`Refused::Books`]; any other [`Refused`].
    pub async fn create_product(&self, new: NewProduct) -> Result<Product, Refused> {
        self.submit_for_product(Work::Create(Box::new(new))).await
    }

    /// Changes a product, if it still is what the caller saw.
    ///
    /// # Errors
    /// `ProductNotFound`, `ProductChanged`, `SkuTaken` or `CategoryNotFound` as [`Refused::Books`]; any other
    /// [`Refused`].
    pub async fn change_product(
        &self,
        product: ProductId,
        change: ProductChange,
        seen: Seen,
    ) -> Result<Product, Refused> {
        self.submit_for_product(Work::Change(product, Box::new(change), seen)).await
    }

    /// Moves or sets a product's stock.
    ///
    /// # Errors
    /// `ProductNotFound` or `StockIs` as [`Refused::Books`]; any other [`Refused`].
    pub async fn move_stock(&self, product: ProductId, stock_move: StockMove) -> Result<Product, Refused> {
        self.submit_for_product(Work::Move(product, stock_move)).await
    }

    /// Deletes a product; with `if_version` only if it still has that version.
    ///
    /// # Errors
    /// `ProductNotFound` or `ProductChanged` as [`Refused::Books`]; any other [`Refused`].
    pub async fn delete_product(&self, product: ProductId, if_version: Option<i64>) -> Result<(), Refused> {
        self.submit(Work::Delete(product, if_version)).await.map(drop)
    }

    /// Creates and changes products, all of them or none: works of these two kinds.
    ///
    /// # Errors
    /// `SkuTaken`, `CategoryNotFound`, `ProductNotFound` or `ProductChanged` as [`Refused::Books`]; any other
    /// [`Refused`].
    pub async fn write_together(&self, works: Vec<Work>) -> Result<(), Refused> {
        self.submit_within(TOGETHER_DEADLINE, Work::Together(works)).await.map(drop)
    }

    async fn submit_for_product(&self, work: Work) -> Result<Product, Refused> {
        match self.submit(work).await? {
            Done::Product(product) => Ok(*product),
            done => Err(wrong_answer(&done)),
        }
    }

    async fn submit(&self, work: Work) -> Result<Done, Refused> {
        self.submit_within(DEADLINE, work).await
    }

    async fn submit_within(&self, deadline: Duration, work: Work) -> Result<Done, Refused> {
        let answer = self.ask_within(deadline, work).await;
        self.counters.count_answer(&answer);
        answer
    }

    async fn ask_within(&self, deadline: Duration, work: Work) -> Result<Done, Refused> {
        let admission = Arc::clone(&self.admissions).try_acquire_owned().map_err(|_| Refused::Busy)?;
        let span = work_span!("ledger", work.kind = work.kind());
        let asked = ask(self.seat.get(), deadline, |reply| {
            Message::Submit(Box::new(Submission {
                work,
                by: self.by.clone(),
                span: span.clone(),
                answer: Answer { reply, _admission: admission },
            }))
        });
        asked.instrument(span.clone()).await?
    }

    #[cfg(test)]
    pub(crate) fn panic(&self) {
        if let Some(actor) = self.seat.get() {
            drop(actor.cast(Message::Panic));
        }
    }

    #[cfg(test)]
    pub(crate) async fn take_all_admissions(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(ADMISSIONS).expect("a small number");
        Arc::clone(&self.admissions).acquire_many_owned(all).await.expect("it is never closed")
    }

    /// Commits what is queued, answers it, and ends the actor.
    pub(crate) async fn drain(&self, within: Duration) {
        if let Some(actor) = self.seat.get() {
            drop(actor.drain_and_wait(Some(within)).await);
        }
    }
}

#[derive(Clone)]
struct LedgerActor {
    db: Db,
    levels: Levels,
    counters: Arc<Counters>,
    invalidator: Invalidator,
    sessions: Sessions,
}

struct State {
    queue: Queue,
    under_way: JoinSet<(Ticket, Result<(), ActorProcessingErr>)>,
    /// Whether a `Commit` is on its way.
    asked: bool,
    pruned: Instant,
}

impl Drop for State {
    /// What is under way is done to its end, and answered, also after the actor has failed.
    fn drop(&mut self) {
        self.under_way.detach_all();
    }
}

/// Says that a batch has ended, even by a panic.
struct End(ActorRef<Message>);

impl Drop for End {
    fn drop(&mut self) {
        // While the actor drains, this is refused, and the end of the drain waits for the batch instead.
        drop(self.0.cast(Message::Ended));
    }
}

impl Actor for LedgerActor {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<Message>, (): ()) -> Result<State, ActorProcessingErr> {
        // After a restart nobody knows what the last batch did. The caches first: with the levels gone, a row that
        // was cached before a sale would otherwise show for a moment.
        self.invalidator.forget(&[Key::Catalogue, Key::Categories]);
        self.levels.clear();
        Ok(State {
            queue: Queue::new(ledger::batches_at_once(&self.db)),
            under_way: JoinSet::new(),
            asked: false,
            pruned: Instant::now(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Submit(submission) => {
                state.queue.push(*submission);
                if !state.asked && state.queue.can_begin() {
                    // While the actor drains, this is refused, and the end of the drain commits instead.
                    state.asked = myself.cast(Message::Commit).is_ok();
                }
            }
            Message::Commit => {
                state.asked = false;
                self.begin(&myself, state);
            }
            Message::Ended => {
                if let Some(ended) = state.under_way.join_next().await {
                    settle_accounts(state, ended).await?;
                }
                self.begin(&myself, state);
            }
            #[cfg(test)]
            Message::Panic => panic!("asked to"),
        }
        Ok(())
    }

    /// What a drain leaves under way is waited for, and what it leaves queued is committed too.
    async fn post_stop(
        &self,
        _myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        while let Some(ended) = state.under_way.join_next().await {
            settle_accounts(state, ended).await?;
        }
        while let Some((ticket, batch)) = state.queue.begin() {
            self.commit(batch).await?;
            state.queue.end(ticket);
        }
        Ok(())
    }
}

impl LedgerActor {
    /// Begins what can be begun.
    fn begin(&self, myself: &ActorRef<Message>, state: &mut State) {
        while let Some((ticket, batch)) = state.queue.begin() {
            let (ledger, end) = (self.clone(), End(myself.clone()));
            let prune = state.pruned.elapsed() >= PRUNE_EVERY;
            if prune {
                state.pruned = Instant::now();
            }
            state.under_way.spawn(async move {
                let _end = end;
                let outcome = ledger.commit(batch).await;
                // While the database is away, those who wait come first.
                if prune && matches!(outcome, Ok(true)) {
                    ledger.prune().await;
                }
                (ticket, outcome.map(drop))
            });
        }
    }
}

/// Takes a batch that has ended off the queue's list. If it failed, the actor must, after the other batch has ended.
async fn settle_accounts(
    state: &mut State,
    ended: Result<(Ticket, Result<(), ActorProcessingErr>), JoinError>,
) -> Result<(), ActorProcessingErr> {
    let failure = match ended {
        Ok((ticket, Ok(()))) => {
            state.queue.end(ticket);
            return Ok(());
        }
        Ok((_, Err(failure))) => failure,
        Err(panic) => panic.into(),
    };
    while state.under_way.join_next().await.is_some() {}
    Err(failure)
}

fn wrong_answer(done: &Done) -> Refused {
    tracing::error!(done.kind = done.kind(), "the ledger answered a work with the outcome of another kind");
    Refused::Fault
}
