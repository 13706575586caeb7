//! The books: every change of stock, every order and every write of a product, many at a time in one transaction.
//!
//! Only the stock ledger's actor calls [`commit_by`], and tests and measurements call [`commit`]; the batches of one node
//! that are under way at a time have nothing in common. Across nodes the rows are the owners: they are locked in id order
//! on Postgres, and SQLite has one writer anyway. An expected refusal is a [`Refusal`] beside the other outcomes, decided
//! on locked rows, so that one order cannot spoil a batch.
//!
//! Each batch that changes anything writes its id into `ledger_commits`. When the connection is lost in the commit itself,
//! nobody was told what became of it; [`settle`] then finds out, and makes sure that it stays so.

mod admin;
mod batch;
mod lock;
mod products;
#[cfg(test)]
mod tests;
mod write;

use uuid::Uuid;

use crate::bulk::BulkConnection;
use crate::cache::Key;
use crate::carts::CartEdit;
use crate::changes::Author;
use crate::db::{Db, KEPT_FOR_BATCHES, StoreError, in_time, read, statements, traced, transaction};
use crate::model::{
    CartId, CartItemId, CategoryId, Event, Level, Money, Order, OrderId, OrderStatus, Product, ProductId,
    Timestamp, UserId, WrongStep,
};

/// How long an idempotency key is remembered: 24 hours, in seconds.
pub const KEY_LIFE_SECONDS: i64 = 24 * 60 * 60;

/// How long a batch's id is kept, in seconds; far longer than a lost connection could keep a transaction open.
const COMMIT_LIFE_SECONDS: i64 = 60 * 60;

/// One thing to be done to the books.
#[derive(Clone, Debug)]
pub enum Work {
    /// Place an order.
    Place(PlaceOrder),
    /// Change a cart.
    EditCart(EditCart),
    /// Move an order along its life.
    Step(StepOrder),
    /// Change a product's stock.
    Move(ProductId, StockMove),
    /// Create a product.
    Create(Box<NewProduct>),
    /// Change a product, if it still is what the caller saw.
    Change(ProductId, Box<ProductChange>, Seen),
    /// Create and change products, all of them or none.
    Together(Vec<Self>),
    /// Delete a product. With a version, only if it still has that one.
    Delete(ProductId, Option<i64>),
}

impl Work {
    /// Its name in logs, which hold nothing of its content.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Place(_) => "place order",
            Self::EditCart(_) => "edit cart",
            Self::Step(_) => "step order",
            Self::Move(..) => "move stock",
            Self::Create(_) => "create product",
            Self::Change(..) => "change product",
            Self::Together(_) => "write products together",
            Self::Delete(..) => "delete product",
        }
    }

    /// What it is made of: itself, if it is not several that are done together.
    fn parts(&self) -> &[Self] {
        match self {
            Self::Together(parts) => parts,
            work => std::slice::from_ref(work),
        }
    }

    /// The product that an admin wants something of by it.
    fn product(&self) -> Option<ProductId> {
        match self {
            Self::Move(id, _) | Self::Change(id, ..) | Self::Delete(id, _) => Some(*id),
            _ => None,
        }
    }
}

/// An order as asked for: the content of a cart at one version.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of the contract's order")]
pub struct PlaceOrder {
    pub user_id: UserId,
    pub cart_id: CartId,
    /// The order is placed only if the cart still has this version.
    pub cart_version: i64,
    /// Products, each once, and how many of each.
    pub lines: Vec<(ProductId, i64)>,
    pub shipping_address: String,
    pub phone: String,
    pub notes: String,
    pub key: Option<IdempotencyKey>,
}

/// A change of a cart at one version.
#[derive(Clone, Copy, Debug)]
pub struct EditCart {
    /// Which cart.
    pub cart_id: CartId,
    /// The change is stored only if the cart still has this version.
    pub cart_version: i64,
    /// What to change.
    pub edit: CartEdit,
}

/// What makes a repeated request known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// 1 to 255 visible ASCII characters, made by the client.
    pub key: String,
    /// A digest of the request's body: the same key with another body is a mistake.
    pub fingerprint: [u8; 32],
}

/// A change of an order's status.
#[derive(Clone, Copy, Debug)]
pub struct StepOrder {
    /// Which order.
    pub order_id: OrderId,
    /// The status that it shall have.
    pub to: OrderStatus,
    /// Only if the order is this user's; anybody else's is not found.
    pub owner: Option<UserId>,
}

/// A change of a product's stock by an admin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockMove {
    /// Add units, or take them (negative).
    Change(i64),
    /// Set the level if it still is `was`.
    Set {
        /// The level to set.
        stock: i64,
        /// The level that the caller saw.
        was: i64,
    },
}

/// A product to be created.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of the contract's product")]
pub struct NewProduct {
    pub name: String,
    pub description: String,
    pub price: Money,
    pub stock: i64,
    pub category_id: CategoryId,
    /// Made from the id if there is none.
    pub sku: Option<String>,
    pub featured: bool,
    pub is_active: bool,
    pub image: Option<String>,
}

/// What to change of a product; what is none stays.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the contract's product")]
pub struct ProductChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub price: Option<Money>,
    /// The level at that moment.
    pub stock: Option<i64>,
    pub category_id: Option<CategoryId>,
    pub sku: Option<String>,
    pub featured: Option<bool>,
    pub is_active: Option<bool>,
    pub image: Option<Option<String>>,
}

/// What a caller saw of a product before changing it; if any of it is another now, nothing is done. None: whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The row's version, which an order raises too.
    pub version: Option<i64>,
    /// When an admin last changed it; orders do not touch that.
    pub updated_at: Option<Timestamp>,
    /// The level.
    pub stock: Option<i64>,
}

impl Seen {
    /// The row's version, if any.
    #[must_use]
    pub fn version(version: Option<i64>) -> Self {
        Self { version, ..Self::default() }
    }
}

/// What was done.
#[derive(Clone, Debug)]
pub enum Done {
    /// The order was placed.
    Placed(Box<Order>),
    /// The key was used before: this was the first answer.
    Replayed(FirstAnswer),
    /// The cart was changed.
    CartEdited {
        /// The id of the line that was put.
        line: Option<CartItemId>,
        /// The cart's time of change.
        at: Timestamp,
    },
    /// The order has the status now.
    Stepped {
        /// Whether it had another one before.
        moved: bool,
    },
    /// The product as it is now.
    Product(Box<Product>),
    /// All of the works were done.
    Together,
    /// The product is gone.
    Deleted,
}

impl Done {
    /// Its name in logs, which hold nothing of its content.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Placed(_) => "order placed",
            Self::Replayed(_) => "answer replayed",
            Self::CartEdited { .. } => "cart edited",
            Self::Stepped { .. } => "order stepped",
            Self::Product(_) => "product written",
            Self::Together => "products written together",
            Self::Deleted => "product deleted",
        }
    }
}

/// The first answer to a request with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstAnswer {
    /// This order was placed.
    Order(OrderId),
    /// The cart was empty.
    CartEmpty,
    /// There was too little stock.
    OutOfStock(Vec<Shortfall>),
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredRefusal {
    CartEmpty,
    OutOfStock(Vec<Shortfall>),
}

impl FirstAnswer {
    /// What `idempotency_keys.refusal` holds; an order is held by its id.
    fn to_stored(&self) -> Option<String> {
        let refusal = match self {
            Self::Order(_) => return None,
            Self::CartEmpty => StoredRefusal::CartEmpty,
            Self::OutOfStock(missing) => StoredRefusal::OutOfStock(missing.clone()),
        };
        Some(serde_json::to_string(&refusal).expect("plain data is always JSON"))
    }

    /// None if the row cannot be read; that every row holds an answer is a rule of the books.
    fn from_stored(order: Option<OrderId>, refusal: Option<&str>) -> Option<Self> {
        if let Some(order) = order {
            return Some(Self::Order(order));
        }
        Some(match serde_json::from_str(refusal?).ok()? {
            StoredRefusal::CartEmpty => Self::CartEmpty,
            StoredRefusal::OutOfStock(missing) => Self::OutOfStock(missing),
        })
    }
}

/// A line that could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shortfall {
    /// The product's id.
    pub product: i64,
    /// How many were wanted.
    pub requested: i64,
    /// How many there are; 0 if it is not sold at present.
    pub available: i64,
}

/// Why something was not done. Nothing of it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The cart has no lines.
    CartEmpty,
    /// The cart has changed, or a product of it is gone: load it again and try again.
    CartMoved,
    /// Some lines want more than there is.
    OutOfStock(Vec<Shortfall>),
    /// The key was used with another body.
    KeyReused,
    /// No such order, or not this user's.
    OrderNotFound,
    /// The order cannot go there from where it is.
    WrongStep(WrongStep),
    /// No such product.
    ProductNotFound,
    /// The product has changed since.
    ProductChanged,
    /// Another product has that SKU.
    SkuTaken,
    /// No such category.
    CategoryNotFound,
    /// The level is another than the caller saw, or the change would take it below zero or above the highest.
    StockIs(i64),
}

/// What became of one work.
pub type Outcome = Result<Done, Refusal>;

/// What a batch did, in memory, as of its commit.
#[derive(Debug, Default)]
pub struct Batch {
    /// One a work, in the order of the works.
    pub outcomes: Vec<Outcome>,
    /// To be told to sessions; rising for each user.
    pub events: Vec<Event>,
    /// Levels that changed.
    pub levels: Vec<(ProductId, Level)>,
    /// What caches must forget before anybody is answered.
    pub forget: Vec<Key>,
}

/// Why a batch did not end with a known commit.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It was rolled back, certainly.
    #[error("the batch was rolled back")]
    Aborted(#[source] StoreError),
    /// It stands or not; [`settle`] tells, and if it stands, this is what it did.
    #[error("the batch's outcome is unknown")]
    Unknown(Box<Batch>, #[source] StoreError),
}

statements! {
    TAKE_COMMIT: "insert into ledger_commits (id, stands, created_at) values ($1, false, $2) \
                  on conflict (id) do nothing";
    DOES_STAND: "select stands from ledger_commits where id = $1";
    FIND_KEY: "select fingerprint, order_id, refusal from idempotency_keys \
               where user_id = $1 and key = $2 and expires_at > $3";
    PRUNE_COMMITS: "delete from ledger_commits where id in \
                    (select id from ledger_commits where created_at < $1 order by created_at limit 1000)";
    /// The condition stands twice: on Postgres the inner one is not asked again for a key that ran out and is just used
    /// again.
    PRUNE_KEYS: "delete from idempotency_keys where expires_at <= $1 and (user_id, key) in \
                 (select user_id, key from idempotency_keys where expires_at <= $1 order by expires_at limit 1000)";
}

/// How many batches of a node may be under way at a time, if they have nothing in common.
///
/// SQLite has one writer. On Postgres a second one keeps the server busy while the node decides and writes down; a third
/// would only make the batches smaller.
#[must_use]
pub fn batches_at_once(db: &Db) -> usize {
    match db {
        Db::Sqlite(_) => 1,
        Db::Postgres(_) => KEPT_FOR_BATCHES,
    }
}

/// Does all of `works` in one transaction and tells what became of each.
///
/// # Errors
/// [`CommitError::Aborted`]: nothing was stored. [`CommitError::Unknown`]: ask [`settle`] with the same `id`.
pub async fn commit(db: &Db, id: Uuid, works: &[Work]) -> Result<Batch, CommitError> {
    commit_by(db, id, works, &[]).await
}

/// As [`commit`], with the admins who want the works, one a work or none at all: they are noted in the history.
///
/// # Errors
/// As [`commit`].
pub async fn commit_by(
    db: &Db,
    id: Uuid,
    works: &[Work],
    authors: &[Option<Author>],
) -> Result<Batch, CommitError> {
    macro_rules! run {
        ($begin:expr, $within:expr) => {{
            let mut transaction = $begin.await.map_err(|error| CommitError::Aborted(error.into()))?;
            match in_time($within, work_on(&mut *transaction, id, works, authors)).await {
                Ok(batch) => match transaction.commit().await.map_err(StoreError::in_commit) {
                    Ok(()) => Ok(batch),
                    Err(error @ StoreError::Uncertain(_)) => Err(CommitError::Unknown(Box::new(batch), error)),
                    Err(error) => Err(CommitError::Aborted(error)),
                },
                Err(error) => {
                    // The first error tells more than one of the rollback; a broken connection rolls back by itself.
                    drop(transaction.rollback().await);
                    Err(CommitError::Aborted(error))
                }
            }
        }};
    }
    let commit = async {
        match db {
            Db::Sqlite(pools) => run!(pools.writer.begin_with("begin immediate"), None),
            Db::Postgres(pool) => run!(pool.begin_batch(), pool.work_within()),
        }
    };
    traced!("db.commit", commit).await
}

/// The admin who wants this work, if any.
fn author(authors: &[Option<Author>], work: usize) -> Option<&Author> {
    authors.get(work).and_then(Option::as_ref)
}

async fn work_on<C: BulkConnection>(
    tx: &mut C,
    id: Uuid,
    works: &[Work],
    authors: &[Option<Author>],
) -> Result<Batch, StoreError> {
    let books = lock::open(tx, Timestamp::now(), works).await?;
    books.decide(tx, works, authors).await?.write(tx, id, works).await
}

/// Whether the batch `id`, whose commit was not answered, stands.
///
/// It takes the id itself: if the lost transaction is still open, this waits for its end; if it stands, the id is
/// taken; and if not, it never can be, because now its id is. The row says who took it, so that asking again, after an
/// answer that was lost as well, gives the same.
///
/// # Errors
/// Any [`StoreError`]; then nobody knows still.
pub async fn settle(db: &Db, id: Uuid) -> Result<bool, StoreError> {
    transaction!(db, tx => {
        sqlx::query(TAKE_COMMIT.on(db)).bind(id).bind(Timestamp::now()).execute(&mut *tx).await?;
        let (stands,): (bool,) = sqlx::query_as(DOES_STAND.on(db)).bind(id).fetch_one(tx).await?;
        Ok(stands)
    })
}

/// The first answer to `key`, if this user used it within its life.
///
/// # Errors
/// [`Refusal::KeyReused`] inside `Ok` if it was used with another body; any [`StoreError`].
pub async fn first_answer(
    db: &Db,
    user: UserId,
    key: &IdempotencyKey,
) -> Result<Option<Result<FirstAnswer, Refusal>>, StoreError> {
    let row: Option<(Vec<u8>, Option<OrderId>, Option<String>)> = read!(db, pool => {
        sqlx::query_as(FIND_KEY.on(db)).bind(user).bind(&key.key).bind(Timestamp::now()).fetch_optional(pool).await
    })?;
    Ok(row.and_then(|(fingerprint, order, refusal)| {
        if fingerprint != key.fingerprint {
            return Some(Err(Refusal::KeyReused));
        }
        FirstAnswer::from_stored(order, refusal.as_deref()).map(Ok)
    }))
}

/// Deletes some idempotency keys past their 24 hours and batch ids that nobody can ask for any more.
///
/// Few enough that nobody waits long behind it, enough that calls once a second keep up with the busiest shop.
///
/// # Errors
/// Any [`StoreError`]; the next call makes up for it.
pub async fn prune(db: &Db) -> Result<(), StoreError> {
    let now = Timestamp::now();
    macro_rules! run {
        ($begin:expr, $within:expr) => {
            transaction!(@run $begin, $within, tx => {
                sqlx::query(PRUNE_KEYS.on(db)).bind(now).execute(&mut *tx).await?;
                let long_ago = now.plus_seconds(-COMMIT_LIFE_SECONDS);
                sqlx::query(PRUNE_COMMITS.on(db)).bind(long_ago).execute(&mut *tx).await?;
                Ok(())
            })
        };
    }
    match db {
        Db::Sqlite(pools) => run!(pools.writer.begin_with("begin immediate"), None),
        // On the ledger's own connection: it waits for this, and must not wait for those who read.
        Db::Postgres(pool) => run!(pool.begin_batch(), pool.work_within()),
    }
}
