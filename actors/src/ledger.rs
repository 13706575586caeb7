//! The stock ledger: the one actor of this node that takes orders, every other change of stock, and edits of carts.
//!
//! The first work in an empty batch makes it cast `Commit` to itself, which lands behind all that is queued; while a
//! commit is under way the next batch gathers in the mailbox. That is group commit without a timer: alone a work waits
//! for nobody, under load a batch grows to what came during the last commit, at most [`MOST_WORKS`].
//!
//! After a commit: memory (levels, caches), then the answers, then the events to the sessions. A batch that was
//! certainly rolled back is answered with a refusal; if the fault lies in one of its works, each is done alone, so that
//! only that one is refused. If a commit's outcome is unknown it is looked up until the database says, while the callers
//! hear that nobody knows; if it never says, the actor restarts and forgets what it remembers.

mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

use souk_store::cache::Key;
use souk_store::carts::CartEdit;
use souk_store::changes::Author;
use souk_store::ledger::{
    self, Batch, CommitError, Done, EditCart, NewProduct, PlaceOrder, ProductChange, Seen, StepOrder,
    StockMove, Work,
};
use souk_store::model::{
    CartId, CartItemId, Level, OrderId, OrderStatus, Product, ProductId, Timestamp, UserId,
};
use souk_store::redis::News;
use souk_store::{Db, StoreError, chain};

use crate::invalidation::Invalidator;
use crate::keeper::{Child, Seat};
use crate::session::Sessions;
use crate::{Refused, ask};

use self::load::Counters;
pub use self::load::Load;

/// The most works of one batch: more makes a commit longer without making it cheaper.
const MOST_WORKS: usize = 1_024;
/// The most works that wait or are under way; one more is refused as [`Refused::Busy`].
const ADMISSIONS: usize = 4_096;
/// How long a caller waits for an answer, be it that nobody knows.
const DEADLINE: Duration = Duration::from_millis(2_500);
/// How long a caller waits who writes many products together.
const TOGETHER_DEADLINE: Duration = Duration::from_secs(15);
/// How long a commit without an answer is looked for before the ledger gives up, and what is cached with it.
const SETTLE_WITHIN: Duration = Duration::from_mins(5);
/// How long it waits before it looks again.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// How often, at most, some rows that have served their time are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// How many there are of each product that was moved since the start; of the others the database's row is true.
///
/// Of a row and a level, the one with the higher version is the newer. Cheap to clone.
#[derive(Clone, Default)]
pub struct Levels(Arc<LevelTable>);

#[derive(Default)]
struct LevelTable {
    levels: DashMap<ProductId, Entry>,
    epoch: AtomicU64,
}

#[derive(Clone, Copy)]
struct Entry {
    level: Level,
    /// The version at which the product itself, not its stock, last changed; 0 if it did not since the start.
    changed_at: i64,
}

impl Levels {
    /// The level of a product, if it was moved since the start.
    #[must_use]
    pub fn get(&self, product: ProductId) -> Option<Level> {
        self.0.levels.get(&product).map(|entry| entry.level)
    }

    /// The level to show with a row that may have grown old.
    ///
    /// A row that was read before the product itself was changed keeps its own: under the newer version it would pass
    /// for the changed product, and an `If-Match` made from it would undo a change that its client never saw.
    #[must_use]
    pub fn over(&self, row: &Product) -> Level {
        let own = Level { stock: row.stock, version: row.version };
        let newer = |entry: &Entry| entry.level.version > own.version && own.version >= entry.changed_at;
        self.0.levels.get(&row.id).map(|entry| *entry).filter(newer).map_or(own, |entry| entry.level)
    }

    /// Rises whenever any level changes: while it stays, so do all levels.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Lays the live level over a row that may have grown old.
    pub fn lay_over(&self, product: &mut Product) {
        Level { stock: product.stock, version: product.version } = self.over(product);
    }

    /// Levels as of a commit, here or on another node, and what that changed besides.
    pub(crate) fn set(&self, levels: &[(ProductId, Level)], changed: &[Key]) {
        for (product, level) in levels {
            let changed_at = if changed.contains(&Key::Product(*product)) { level.version } else { 0 };
            let mut entry = self.0.levels.entry(*product).or_insert(Entry { level: *level, changed_at });
            if entry.level.version < level.version {
                entry.level = *level;
            }
            entry.changed_at = entry.changed_at.max(changed_at);
        }
        if !levels.is_empty() {
            self.0.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Rows tell all there is to know of levels; for when those known here may be none of this database's any more.
    pub(crate) fn clear(&self) {
        self.0.levels.clear();
        self.0.epoch.fetch_add(1, Ordering::AcqRel);
    }
}

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
    /// Commit what was gathered.
    Commit,
    #[cfg(test)]
    Panic,
}

struct Submission {
    work: Work,
    by: Option<Author>,
    answer: Answer,
}

/// A caller who waits. The admission goes back when this is dropped, whatever became of the work.
struct Answer {
    reply: RpcReplyPort<Result<Done, Refused>>,
    _admission: OwnedSemaphorePermit,
}

impl Answer {
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
        ask(self.seat.get(), deadline, |reply| {
            Message::Submit(Box::new(Submission {
                work,
                by: self.by.clone(),
                answer: Answer { reply, _admission: admission },
            }))
        })
        .await?
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
    gathered: Vec<Submission>,
    pruned: Instant,
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
        Ok(State { gathered: Vec::new(), pruned: Instant::now() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Submit(submission) => {
                if state.gathered.is_empty() {
                    // While the actor drains, this is refused, and the end of the drain commits instead.
                    drop(myself.cast(Message::Commit));
                }
                state.gathered.push(*submission);
                if state.gathered.len() >= MOST_WORKS {
                    self.commit(std::mem::take(&mut state.gathered)).await?;
                }
            }
            Message::Commit => {
                // While the database is away, those who wait come first.
                if self.commit(std::mem::take(&mut state.gathered)).await? {
                    self.prune(state).await;
                }
            }
            #[cfg(test)]
            Message::Panic => panic!("asked to"),
        }
        Ok(())
    }

    /// What a drain leaves gathered is committed too.
    async fn post_stop(
        &self,
        _myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        self.commit(std::mem::take(&mut state.gathered)).await.map(drop)
    }
}

impl LedgerActor {
    /// Gives whether there was something to do, and a database that did it.
    async fn commit(&self, submissions: Vec<Submission>) -> Result<bool, ActorProcessingErr> {
        // Work that nobody waits for any more is not done.
        let waiting = submissions.into_iter().filter(|submission| !submission.answer.reply.is_closed());
        let mut works = Vec::new();
        let mut authors = Vec::new();
        let mut answers = Vec::new();
        for submission in waiting {
            works.push(submission.work);
            authors.push(submission.by);
            answers.push(submission.answer);
        }
        if works.is_empty() {
            return Ok(false);
        }
        let mut outcome = self.commit_together(&works, &authors).await;
        if let Err(Lost::Aborted(error)) = &outcome
            && error.is_conflict()
        {
            tracing::warn!(error = chain(error), batch.works = works.len(), "a batch is tried again");
            outcome = self.commit_together(&works, &authors).await;
        }
        match outcome {
            Ok(batch) => self.publish(batch, answers),
            Err(Lost::Aborted(error @ StoreError::Unavailable(_))) => {
                tracing::warn!(error = chain(&error), batch.works = works.len(), "a batch was refused");
                answers.into_iter().for_each(|answer| answer.give(Err(Refused::Unavailable)));
                return Ok(false);
            }
            Err(Lost::Aborted(error)) => {
                tracing::error!(error = chain(&error), batch.works = works.len(), "a batch was rolled back");
                self.commit_apart(works, &authors, answers).await?;
            }
            Err(Lost::Unknown) => return Err(nobody_knows(answers)),
        }
        Ok(true)
    }

    /// One work of the batch is at fault: each is done alone, so that only that one is refused. Even a lone one is tried
    /// again: what another node stored just then, the same SKU for one, is seen now, and refused for what it is.
    async fn commit_apart(
        &self,
        works: Vec<Work>,
        authors: &[Option<Author>],
        answers: Vec<Answer>,
    ) -> Result<(), ActorProcessingErr> {
        let mut is_away = false;
        for ((work, by), answer) in works.into_iter().zip(authors).zip(answers) {
            if is_away {
                answer.give(Err(Refused::Unavailable));
                continue;
            }
            if answer.reply.is_closed() {
                continue;
            }
            match self.commit_together(std::slice::from_ref(&work), std::slice::from_ref(by)).await {
                Ok(batch) => self.publish(batch, vec![answer]),
                Err(Lost::Aborted(StoreError::Unavailable(_))) => {
                    is_away = true;
                    answer.give(Err(Refused::Unavailable));
                }
                Err(Lost::Aborted(error)) => {
                    let kind = work.kind();
                    tracing::error!(error = chain(&error), work.kind = kind, "a work cannot be done");
                    answer.give(Err(Refused::Fault));
                }
                Err(Lost::Unknown) => return Err(nobody_knows(vec![answer])),
            }
        }
        Ok(())
    }

    /// One transaction, its outcome known or found out.
    async fn commit_together(&self, works: &[Work], authors: &[Option<Author>]) -> Result<Batch, Lost> {
        let id = Uuid::new_v4();
        let began = Instant::now();
        let outcome = ledger::commit_by(&self.db, id, works, authors).await;
        self.counters.count_transaction(began.elapsed());
        match outcome {
            Ok(batch) => {
                self.counters.count_batch(works.len());
                Ok(batch)
            }
            Err(CommitError::Aborted(error)) => Err(Lost::Aborted(error)),
            Err(CommitError::Unknown(batch, error)) => {
                tracing::warn!(error = chain(&error), batch.id = %id, "a commit was not answered");
                // Nothing else is committed meanwhile. Callers run into their deadlines, and hear that nobody knows; but
                // what is cached stays true, and can be read while the database is away.
                let until = Instant::now() + SETTLE_WITHIN;
                loop {
                    match ledger::settle(&self.db, id).await {
                        Ok(true) => return Ok(*batch),
                        Ok(false) => return Err(Lost::Aborted(certain(error))),
                        Err(StoreError::Unavailable(_) | StoreError::Uncertain(_))
                            if Instant::now() < until =>
                        {
                            tokio::time::sleep(SETTLE_PAUSE).await;
                        }
                        Err(_) => return Err(Lost::Unknown),
                    }
                }
            }
        }
    }

    /// It is on disk: memory first, then the answers, then everybody else.
    fn publish(&self, batch: Batch, answers: Vec<Answer>) {
        let news = News {
            forget: batch.forget,
            levels: batch.levels,
            events: batch.events.iter().map(|event| (event.user_id, event.id)).collect(),
            carts: Vec::new(),
        };
        self.invalidator.tell(&news);
        self.levels.set(&news.levels, &news.forget);
        for (outcome, answer) in batch.outcomes.into_iter().zip(answers) {
            answer.give(outcome.map_err(Refused::Books));
        }
        if !batch.events.is_empty() {
            self.sessions.tell(batch.events);
        }
    }

    async fn prune(&self, state: &mut State) {
        if state.pruned.elapsed() >= PRUNE_EVERY {
            state.pruned = Instant::now();
            if let Err(error) = ledger::prune(&self.db).await {
                tracing::warn!(error = chain(&error), "old rows could not be deleted");
            }
        }
    }
}

fn wrong_answer(done: &Done) -> Refused {
    tracing::error!(done.kind = done.kind(), "the ledger answered a work with the outcome of another kind");
    Refused::Fault
}

/// Why a batch did not come to stand.
enum Lost {
    /// It was rolled back.
    Aborted(StoreError),
    /// It stands or not.
    Unknown,
}

/// The loss of a connection, now that it is known that nothing was stored.
fn certain(error: StoreError) -> StoreError {
    match error {
        StoreError::Uncertain(source) => StoreError::Unavailable(source),
        error => error,
    }
}

fn nobody_knows(answers: Vec<Answer>) -> ActorProcessingErr {
    let works = answers.len();
    answers.into_iter().for_each(|answer| answer.give(Err(Refused::Uncertain)));
    format!("the outcome of a batch of {works} is unknown").into()
}
