//! Souk's actors, and the handles by which everybody else reaches them.
//!
//! ```text
//! Keeper ─┬─ StockLedger           orders, cart edits and every other change of stock, committed in batches
//!         ├─ CartKeeper ── Cart …  one a user while he shops; serialises what one user does; let go when idle
//!         ├─ SessionKeeper ── Session …  one a connected user: all that user's sockets, replay then live
//!         ├─ Invalidator           tells who must know what has changed
//!         ├─ Nodes                 hears what other nodes changed, and tells them, over Redis
//!         └─ Watcher               sees what others wrote who could not tell
//! ```
//!
//! Calls point down (http → cart → ledger → store) and have a deadline; what goes sideways or up is a cast. So no two
//! actors ever wait for each other. Messages are private to their file; a handle has methods. A refusal travels in
//! the reply; an error out of a handler means «restart me from the database».

#![warn(missing_docs)]

mod cart;
mod invalidation;
mod keeper;
mod ledger;
mod nodes;
mod refusals;
mod session;
#[cfg(test)]
mod tests;
mod tree;
mod watcher;

use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};

use souk_store::ledger::Refusal;
use souk_store::{StoreError, chain};

pub use cart::{Carts, Checkout};
pub use invalidation::Invalidator;
pub use ledger::{Ledger, Levels, Load};
pub use session::{Attached, Delivery, Ended, SessionCounts, Sessions, SocketLimits};
pub use tree::{Handles, NotStarted, Tree};

/// Why an actor did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too much is waiting already. Nothing was done.
    #[error("too many requests are waiting")]
    Busy,
    /// The actor is being restarted, or the database is away. Nothing was done.
    #[error("not available at the moment")]
    Unavailable,
    /// It did not answer in time, or ended before it could: it may have been done or not.
    #[error("the outcome is unknown")]
    Uncertain,
    /// A fault of this program; logged where it happened. Something may have been done.
    #[error("an internal fault")]
    Fault,
    /// The books say no.
    #[error("refused by the ledger")]
    Books(Refusal),
    /// There are fewer units than the cart's line would hold.
    #[error("only {available} in stock")]
    TooFew {
        /// How many there are.
        available: i64,
    },
    /// The cart's line would hold more than [`MAX_QUANTITY`](souk_store::model::MAX_QUANTITY).
    #[error("too many of one product")]
    TooMany,
    /// The cart has as many lines as it can.
    #[error("the cart is full")]
    CartFull,
    /// The cart has no such line.
    #[error("no such cart item")]
    NoSuchItem,
    /// The product was deleted a moment ago.
    #[error("no such product")]
    ProductGone,
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::Uncertain(_) => Self::Uncertain,
            error => {
                tracing::error!(error = chain(&error), "the database refused a statement");
                Self::Fault
            }
        }
    }
}

/// Does something to its end even if the caller is dropped meanwhile, as handlers are whose client leaves.
pub async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is awaited here, and ends with what its calls take at most"
    )]
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        // Nothing aborts the task, so it panicked.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The span of a work that a caller gives to an actor: one of its own while spans are exported, and the caller's otherwise,
/// so that what is logged about the work names the request.
macro_rules! work_span {
    ($name:literal, $($field:tt)*) => {{
        let span = tracing::debug_span!(target: souk_store::TRACES, $name, $($field)*);
        if span.is_disabled() { tracing::Span::current() } else { span }
    }};
}
use work_span;

/// Asks an actor and waits for its answer, at most `deadline`. The only place that sees ractor's call errors.
async fn ask<M, T>(
    actor: Option<ActorRef<M>>,
    deadline: Duration,
    message: impl FnOnce(RpcReplyPort<T>) -> M,
) -> Result<T, Refused>
where
    M: Message,
    T: Send + 'static,
{
    let actor = actor.ok_or(Refused::Unavailable)?;
    match actor.call(message, Some(deadline)).await {
        Ok(CallResult::Success(answer)) => Ok(answer),
        Ok(CallResult::Timeout | CallResult::SenderError) => Err(Refused::Uncertain),
        Err(_) => Err(Refused::Unavailable),
    }
}
