//! The tree of actors: the order in which they start and end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use tokio::time::Instant;

use souk_store::Db;
use souk_store::cache::Cache;

use crate::ask;
use crate::cart::Carts;
use crate::invalidation::Invalidator;
use crate::keeper::{Child, Instruction, Keeper};
use crate::ledger::Ledger;
use crate::nodes::Nodes;
use crate::session::{Sessions, SocketLimits};
use crate::watcher::Watcher;

/// By these everybody outside reaches the actors. Cheap to clone.
#[derive(Clone)]
pub struct Handles {
    /// Orders' steps and every change of a product.
    pub ledger: Ledger,
    /// Carts and checkout.
    pub carts: Carts,
    /// The sockets of connected users.
    pub sessions: Sessions,
    /// Who must forget what.
    pub invalidator: Invalidator,
    /// The actors that are started again when they end.
    kept: Arc<[(&'static str, Arc<AtomicU64>)]>,
}

impl Handles {
    /// How often an actor failed since the start, by its name; those that there are many of together.
    #[must_use]
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        let kept = self.kept.iter().map(|(name, failures)| (*name, failures.load(Ordering::Relaxed)));
        kept.chain([("cart", self.carts.failed()), ("session", self.sessions.counts().failed)]).collect()
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles").field("ledger", &self.ledger.load()).finish_non_exhaustive()
    }
}

/// The running actors. They end with [`Tree::drain`].
pub struct Tree {
    keeper: ActorRef<Instruction>,
    handles: Handles,
    nodes: Option<Nodes>,
}

/// An actor could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the actors could not be started")]
pub struct NotStarted(#[source] ractor::SpawnErr);

impl Tree {
    /// Starts all actors over an open, migrated database; `limits` bound the sockets. If the cache has a Redis, this node
    /// meets the others there.
    ///
    /// # Errors
    /// [`NotStarted`] if one of them ends while it starts.
    pub async fn start(db: &Db, cache: &Cache, limits: SocketLimits) -> Result<Self, NotStarted> {
        let sessions = Sessions::new(db.clone(), limits);
        let invalidator = Invalidator::new(cache.clone());
        let ledger = Ledger::new();
        let carts = Carts::new(db, &ledger, &invalidator);
        let nodes = Nodes::new(db, cache, ledger.levels(), &carts, &sessions, &invalidator);
        let mut children = vec![
            sessions.child(),
            invalidator.child(db, &sessions),
            ledger.child(db, &invalidator, &sessions),
            carts.child(),
            Watcher::child(db, &invalidator, &carts, &sessions),
        ];
        children.extend(nodes.iter().map(Nodes::child));
        let kept = children.iter().map(Child::failures).collect();
        let (keeper, _ends) = Actor::spawn(None, Keeper, children).await.map_err(NotStarted)?;
        Ok(Self { keeper, handles: Handles { ledger, carts, sessions, invalidator, kept }, nodes })
    }

    /// The handles by which the actors are reached.
    #[must_use]
    pub fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Ends all actors once they have done what is queued, within this time: checkouts, then the books, then the sockets
    /// are told to go, then what has changed is passed on, here and to the other nodes. Call it when no request is under
    /// way any more.
    pub async fn drain(self, within: Duration) {
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        // If the keeper has ended already, so have its children.
        drop(ask(Some(self.keeper.clone()), left(), Instruction::LetEnd).await);
        self.handles.carts.drain(left()).await;
        self.handles.ledger.drain(left()).await;
        // A peer that does not read must not take the time of those who come after.
        let open = self.handles.sessions.drain(left() / 2).await;
        if open > 0 {
            tracing::warn!(sockets = open, "some sockets did not close in time");
        }
        self.handles.invalidator.drain(left()).await;
        if let Some(nodes) = &self.nodes {
            nodes.drain(left()).await;
        }
        drop(self.keeper.stop_and_wait(None, Some(left())).await);
    }
}
