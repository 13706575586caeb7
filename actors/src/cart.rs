//! Carts: one actor a user while he shops, so that what one user does at once happens one after the other.
//!
//! A cart is loaded when it is first asked for and written through, in the ledger's batches: the row first, then
//! memory, then the answer. If the row turns out to be newer (another node, a deleted product), or the outcome of a write
//! is unknown, memory is dropped and the row is loaded again. Other nodes are told of the row's new version, so that what
//! they remember of it is dropped, too. A checkout holds the cart until the ledger has answered: a second one of the
//! same user waits behind it and finds the cart empty.
//!
//! [`CartKeeper`] parents them. A cart that has not been asked for a while is drained and let go; who asks just then
//! gets a new one, and should the old one still have had something to write, the row's version decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime, RpcReplyPort, SupervisionEvent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use souk_store::Db;
use souk_store::carts::{self, CartEdit};
use souk_store::ledger::{Done, IdempotencyKey, PlaceOrder, Refusal};
use souk_store::model::{Cart, CartItemId, CartLine, MAX_CART_LINES, MAX_QUANTITY, ProductId, UserId};
use souk_store::redis::News;

use crate::invalidation::Invalidator;
use crate::keeper::{Child, Seat};
use crate::ledger::Ledger;
use crate::refusals::Refusals;
use crate::{Refused, ask, work_span};

/// How long a caller waits for his cart, with all that is before him in its queue.
const DEADLINE: Duration = Duration::from_millis(2_800);
/// The most requests of one user that wait or are under way.
const ADMISSIONS_OF_ONE: usize = 256;
/// The most requests of all users that wait or are under way.
const ADMISSIONS: usize = 8_192;
/// How often idle carts are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// A cart that was not asked for this long is let go.
const IDLE_AFTER: Duration = Duration::from_mins(5);
/// With more carts than this, idle ones are let go at the next sweep.
const MANY_CARTS: usize = 20_000;
/// How often a change is tried again on a cart that another node has changed.
const ATTEMPTS: usize = 5;

/// What a checkout asks for besides the cart's content.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the contract's order")]
pub struct Checkout {
    pub shipping_address: String,
    pub phone: String,
    pub notes: String,
    pub key: Option<IdempotencyKey>,
}

/// By this handle everybody reaches the carts. Cheap to clone.
#[derive(Clone)]
pub struct Carts {
    db: Db,
    ledger: Ledger,
    keeper: Seat<Sweep>,
    desks: Arc<DashMap<UserId, Desk>>,
    admissions: Arc<Semaphore>,
    started: Instant,
    /// Who tells other nodes.
    invalidator: Invalidator,
    /// Rises when nothing that carts remember is to be trusted any more.
    forgotten: Arc<AtomicU64>,
    /// How many carts failed since the start.
    failed: Arc<AtomicU64>,
    refusals: Arc<Refusals>,
}

/// Where a user's cart is to be found.
struct Desk {
    actor: ActorRef<Message>,
    admissions: Arc<Semaphore>,
    /// Milliseconds after the start of the handle.
    last_asked: Arc<AtomicU64>,
}

enum Message {
    Do(Box<Request>),
    /// The row has this version by now, or a later one.
    Moved(i64),
    #[cfg(test)]
    Panic,
}

struct Request {
    errand: Errand,
    reply: RpcReplyPort<Result<Outcome, Refused>>,
    _admission: Admission,
    /// Of whoever asked.
    span: Span,
}

/// Goes back when the request has been dealt with, whatever became of it.
struct Admission {
    _of_one: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

#[derive(Clone, Debug)]
enum Errand {
    Look,
    Add { product: ProductId, quantity: i64, available: i64 },
    SetQuantity { item: CartItemId, quantity: i64, available: i64 },
    Remove(CartItemId),
    Clear,
    CheckOut(Checkout),
}

impl Errand {
    fn kind(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Add { .. } => "add",
            Self::SetQuantity { .. } => "set quantity",
            Self::Remove(_) => "remove",
            Self::Clear => "clear",
            Self::CheckOut(_) => "check out",
        }
    }
}

enum Outcome {
    Cart(Cart),
    Line(CartLine),
    Order(Done),
}

impl Carts {
    pub(crate) fn new(db: &Db, ledger: &Ledger, invalidator: &Invalidator) -> Self {
        Self {
            db: db.clone(),
            ledger: ledger.clone(),
            keeper: Seat::empty(),
            desks: Arc::default(),
            admissions: Arc::new(Semaphore::new(ADMISSIONS)),
            started: Instant::now(),
            invalidator: invalidator.clone(),
            forgotten: Arc::default(),
            failed: Arc::default(),
            refusals: Arc::default(),
        }
    }

    /// On another node the user's cart got this version.
    pub(crate) fn moved(&self, user: UserId, version: i64) {
        if let Some(desk) = self.desks.get(&user) {
            // One that has just ended remembers nothing.
            drop(desk.actor.cast(Message::Moved(version)));
        }
    }

    /// Other nodes may have changed any cart: all are loaded again when they are next asked for.
    pub(crate) fn forget_all(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn child(&self) -> Child {
        let carts = self.clone();
        Child::new("cart keeper", &self.keeper, move || (CartKeeper { carts: carts.clone() }, ()))
    }

    /// The user's cart, an empty one if there was none.
    ///
    /// # Errors
    /// Any [`Refused`] but the books' and the carts' own.
    pub async fn look(&self, user: UserId) -> Result<Cart, Refused> {
        self.cart(user, Errand::Look).await
    }

    /// Adds to the product's line, or gives it one; `available` is how many there are of it.
    ///
    /// # Errors
    /// [`Refused::TooFew`], [`Refused::CartFull`], [`Refused::ProductGone`]; any other [`Refused`].
    pub async fn add(
        &self,
        user: UserId,
        product: ProductId,
        quantity: i64,
        available: i64,
    ) -> Result<CartLine, Refused> {
        self.line(user, Errand::Add { product, quantity, available }).await
    }

    /// Sets a line's quantity; `available` is how many there are of its product.
    ///
    /// # Errors
    /// [`Refused::TooFew`], [`Refused::NoSuchItem`], [`Refused::ProductGone`]; any other [`Refused`].
    pub async fn set_quantity(
        &self,
        user: UserId,
        item: CartItemId,
        quantity: i64,
        available: i64,
    ) -> Result<CartLine, Refused> {
        self.line(user, Errand::SetQuantity { item, quantity, available }).await
    }

    /// Takes a line out.
    ///
    /// # Errors
    /// [`Refused::NoSuchItem`]; any other [`Refused`].
    pub async fn remove(&self, user: UserId, item: CartItemId) -> Result<(), Refused> {
        self.cart(user, Errand::Remove(item)).await.map(drop)
    }

    /// Takes everything out.
    ///
    /// # Errors
    /// Any [`Refused`] but the books' and the carts' own.
    pub async fn clear(&self, user: UserId) -> Result<(), Refused> {
        self.cart(user, Errand::Clear).await.map(drop)
    }

    /// Orders what is in the cart and empties it; all or nothing. Gives `Placed` or `Replayed`.
    ///
    /// # Errors
    /// `CartEmpty`, `OutOfStock` or `KeyReused` as [`Refused::Books`]; any other [`Refused`].
    pub async fn check_out(&self, user: UserId, checkout: Checkout) -> Result<Done, Refused> {
        match self.send(user, Errand::CheckOut(checkout)).await? {
            Outcome::Order(done) => Ok(done),
            Outcome::Cart(_) | Outcome::Line(_) => Err(wrong_outcome()),
        }
    }

    /// How many carts are in memory.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.desks.len()
    }

    /// How many requests wait for carts or are under way, and the most that there may be.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (ADMISSIONS - self.admissions.available_permits(), ADMISSIONS)
    }

    /// How many requests were refused since the start, by the reason, be it the carts' own or the ledger's.
    #[must_use]
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        self.refusals.read()
    }

    /// How many carts failed since the start.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    async fn cart(&self, user: UserId, errand: Errand) -> Result<Cart, Refused> {
        match self.send(user, errand).await? {
            Outcome::Cart(cart) => Ok(cart),
            Outcome::Line(_) | Outcome::Order(_) => Err(wrong_outcome()),
        }
    }

    async fn line(&self, user: UserId, errand: Errand) -> Result<CartLine, Refused> {
        match self.send(user, errand).await? {
            Outcome::Line(line) => Ok(line),
            Outcome::Cart(_) | Outcome::Order(_) => Err(wrong_outcome()),
        }
    }

    async fn send(&self, user: UserId, errand: Errand) -> Result<Outcome, Refused> {
        self.try_send(user, errand).await.inspect_err(|refused| self.refusals.count(refused))
    }

    /// Sends the errand to the user's cart, waking it if need be. A cart that is just being let go refuses its mail;
    /// then it is nobody's cart any more and the next one is woken.
    async fn try_send(&self, user: UserId, errand: Errand) -> Result<Outcome, Refused> {
        let of_all = Arc::clone(&self.admissions).try_acquire_owned().map_err(|_| Refused::Busy)?;
        let mut of_all = Some(of_all);
        for _ in 0..ATTEMPTS {
            let (actor, admissions) = self.desk(user)?;
            let of_one = admissions.try_acquire_owned().map_err(|_| Refused::Busy)?;
            let Some(of_all_now) = of_all.take() else { return Err(Refused::Unavailable) };
            let admission = Admission { _of_one: of_one, _of_all: of_all_now };
            let id = actor.get_id();
            let errand = errand.clone();
            let span = work_span!("cart", cart.errand = errand.kind());
            let message = |reply| {
                Message::Do(Box::new(Request { errand, reply, _admission: admission, span: span.clone() }))
            };
            match ask(Some(actor), DEADLINE, message).instrument(span.clone()).await {
                Err(Refused::Unavailable) => {
                    self.desks.remove_if(&user, |_, desk| desk.actor.get_id() == id);
                    of_all = Arc::clone(&self.admissions).try_acquire_owned().ok();
                }
                answer => return answer?,
            }
        }
        Err(Refused::Unavailable)
    }

    fn desk(&self, user: UserId) -> Result<(ActorRef<Message>, Arc<Semaphore>), Refused> {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(desk) = self.desks.get(&user) {
            desk.last_asked.store(now, Ordering::Relaxed);
            return Ok((desk.actor.clone(), Arc::clone(&desk.admissions)));
        }
        let keeper = self.keeper.get().ok_or(Refused::Unavailable)?;
        // Nothing is awaited while the entry is held.
        let desk = self.desks.entry(user).or_try_insert_with(|| {
            let cart = CartActor {
                user,
                db: self.db.clone(),
                ledger: self.ledger.clone(),
                invalidator: self.invalidator.clone(),
                forgotten: Arc::clone(&self.forgotten),
            };
            let (actor, _started) = ActorRuntime::spawn_linked_instant(None, cart, (), keeper.get_cell())
                .map_err(|_| Refused::Unavailable)?;
            let admissions = Arc::new(Semaphore::new(ADMISSIONS_OF_ONE));
            Ok::<_, Refused>(Desk { actor, admissions, last_asked: Arc::new(AtomicU64::new(now)) })
        })?;
        Ok((desk.actor.clone(), Arc::clone(&desk.admissions)))
    }

    /// Lets go of the carts that were not asked for in this time.
    pub(crate) fn sweep(&self, idle_after: Duration) {
        let now = self.started.elapsed();
        let idle = |desk: &Desk| {
            let asked = Duration::from_millis(desk.last_asked.load(Ordering::Relaxed));
            now.saturating_sub(asked) >= idle_after
                && desk.admissions.available_permits() == ADMISSIONS_OF_ONE
        };
        self.desks.retain(|_, desk| {
            let goes = idle(desk);
            if goes {
                // What arrived in this very moment is still dealt with.
                drop(desk.actor.drain());
            }
            !goes
        });
    }

    #[cfg(test)]
    pub(crate) fn panic(&self, user: UserId) {
        if let Ok((actor, _)) = self.desk(user) {
            drop(actor.cast(Message::Panic));
        }
    }

    /// Finishes what is queued and ends all carts.
    pub(crate) async fn drain(&self, within: Duration) {
        let carts: Vec<_> = self.desks.iter().map(|desk| desk.actor.clone()).collect();
        self.desks.clear();
        for cart in &carts {
            drop(cart.drain());
        }
        let until = Instant::now() + within;
        for cart in carts {
            drop(cart.wait(Some(until.saturating_duration_since(Instant::now()))).await);
        }
    }
}

/// The parent of all carts. It restarts none: the next request wakes a new one from the row.
struct CartKeeper {
    carts: Carts,
}

/// The only message of the keeper: look for idle carts.
#[derive(Clone, Copy)]
struct Sweep;

impl Actor for CartKeeper {
    type Msg = Sweep;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Sweep>, (): ()) -> Result<(), ActorProcessingErr> {
        // The carts of a keeper that failed ended with it.
        self.carts.desks.clear();
        myself.send_interval(SWEEP_EVERY, || Sweep);
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Sweep>, _: Sweep, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let many = self.carts.desks.len() > MANY_CARTS;
        self.carts.sweep(if many { SWEEP_EVERY } else { IDLE_AFTER });
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Sweep>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(who, error) = event {
            self.carts.failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "a cart failed and is loaded again when it is next asked for");
            self.carts.desks.retain(|_, desk| desk.actor.get_id() != who.get_id());
        }
        Ok(())
    }
}

struct CartActor {
    user: UserId,
    db: Db,
    ledger: Ledger,
    invalidator: Invalidator,
    forgotten: Arc<AtomicU64>,
}

#[derive(Default)]
struct Memory {
    /// None until it is asked for, and again when memory may be older than the row.
    cart: Option<Cart>,
    /// Of [`Carts::forget_all`].
    as_of: u64,
}

impl Actor for CartActor {
    type Msg = Message;
    type State = Memory;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<Memory, ActorProcessingErr> {
        Ok(Memory::default())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        memory: &mut Memory,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Do(request) => {
                let Request { errand, reply, _admission, span } = *request;
                // Work that nobody waits for any more is not done.
                if !reply.is_closed() {
                    let now = self.forgotten.load(Ordering::Acquire);
                    if std::mem::replace(&mut memory.as_of, now) != now {
                        memory.cart = None;
                    }
                    let outcome = self.run(errand, &mut memory.cart).instrument(span).await;
                    drop(reply.send(outcome));
                }
            }
            Message::Moved(version) => {
                memory.cart.take_if(|cart| cart.version < version);
            }
            #[cfg(test)]
            Message::Panic => panic!("asked to"),
        }
        Ok(())
    }
}

impl CartActor {
    async fn run(&self, errand: Errand, memory: &mut Option<Cart>) -> Result<Outcome, Refused> {
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            let cart = match memory.take() {
                Some(cart) => cart,
                None => {
                    fresh = true;
                    carts::load(&self.db, self.user).await?
                }
            };
            // Nobody is refused because of what memory says: another node may have put in what is missing here, or a
            // product was deleted and its line is gone.
            // Only a known outcome puts the cart back into memory; whatever else happens, it is loaded again.
            let edit = match &errand {
                Errand::Look => return Ok(Outcome::Cart(memory.insert(cart).clone())),
                Errand::CheckOut(_) | Errand::Clear if cart.lines.is_empty() && !fresh => continue,
                Errand::CheckOut(checkout) => match self.check_out(cart, checkout, memory).await? {
                    Some(done) => return Ok(Outcome::Order(done)),
                    None => continue,
                },
                Errand::Clear if cart.lines.is_empty() => {
                    return Ok(Outcome::Cart(memory.insert(cart).clone()));
                }
                edit => match plan(edit, &cart) {
                    Ok(edit) => edit,
                    Err(_) if !fresh => continue,
                    Err(refused) => {
                        *memory = Some(cart);
                        return Err(refused);
                    }
                },
            };
            let (line, at) = match self.ledger.edit_cart(cart.id, cart.version, edit).await {
                Ok(edited) => edited,
                Err(Refused::Books(Refusal::CartMoved)) => continue,
                Err(Refused::Books(Refusal::ProductNotFound)) => return Err(Refused::ProductGone),
                Err(refused) => return Err(refused),
            };
            let cart = memory.insert(cart.edited(edit, line, at));
            self.tell(cart.version);
            return match line {
                None => Ok(Outcome::Cart(cart.clone())),
                Some(id) => cart
                    .lines
                    .iter()
                    .find(|line| line.id == id)
                    .map_or_else(|| Err(wrong_outcome()), |line| Ok(Outcome::Line(*line))),
            };
        }
        Err(Refused::Unavailable)
    }

    fn tell(&self, version: i64) {
        self.invalidator.tell(&News { carts: vec![(self.user, version)], ..News::default() });
    }

    /// Gives none if the cart was no longer as remembered and must be loaded again.
    async fn check_out(
        &self,
        cart: Cart,
        checkout: &Checkout,
        memory: &mut Option<Cart>,
    ) -> Result<Option<Done>, Refused> {
        if cart.lines.is_empty() && checkout.key.is_none() {
            *memory = Some(cart);
            return Err(Refused::Books(Refusal::CartEmpty));
        }
        let order = PlaceOrder {
            user_id: self.user,
            cart_id: cart.id,
            cart_version: cart.version,
            lines: cart.lines.iter().map(|line| (line.product_id, line.quantity)).collect(),
            shipping_address: checkout.shipping_address.clone(),
            phone: checkout.phone.clone(),
            notes: checkout.notes.clone(),
            key: checkout.key.clone(),
        };
        match self.ledger.place(order).await {
            Ok(Done::Placed(order)) => {
                self.tell(cart.version + 1);
                *memory = Some(Cart {
                    version: cart.version + 1,
                    updated_at: order.created_at,
                    lines: Vec::new(),
                    ..cart
                });
                Ok(Some(Done::Placed(order)))
            }
            Ok(done) => {
                *memory = Some(cart);
                Ok(Some(done))
            }
            Err(Refused::Books(Refusal::CartMoved)) => Ok(None),
            Err(refused @ (Refused::Books(_) | Refused::Busy)) => {
                *memory = Some(cart);
                Err(refused)
            }
            Err(refused) => Err(refused),
        }
    }
}

fn wrong_outcome() -> Refused {
    tracing::error!("a cart answered an errand with the outcome of another kind");
    Refused::Fault
}

/// What an errand means for the cart as it is now.
fn plan(errand: &Errand, cart: &Cart) -> Result<CartEdit, Refused> {
    let line = |item: CartItemId| cart.lines.iter().find(|line| line.id == item).ok_or(Refused::NoSuchItem);
    let put = |product, quantity: Option<i64>, available| match quantity {
        Some(quantity) if quantity > available => Err(Refused::TooFew { available }),
        Some(quantity) if quantity <= MAX_QUANTITY => Ok(CartEdit::Put(product, quantity)),
        _ => Err(Refused::TooMany),
    };
    match *errand {
        Errand::Add { product, quantity, available } => {
            let present = cart.lines.iter().find(|line| line.product_id == product);
            if present.is_none() && cart.lines.len() >= MAX_CART_LINES {
                return Err(Refused::CartFull);
            }
            put(product, present.map_or(0, |line| line.quantity).checked_add(quantity), available)
        }
        Errand::SetQuantity { item, quantity, available } => {
            put(line(item)?.product_id, Some(quantity), available)
        }
        Errand::Remove(item) => Ok(CartEdit::Remove(line(item)?.id)),
        Errand::Clear => Ok(CartEdit::Clear),
        Errand::Look | Errand::CheckOut(_) => Err(wrong_outcome()),
    }
}
