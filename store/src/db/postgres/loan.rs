//! A connection in use: a loan that is given back only from where its conversation is at an end, the transaction on it,
//! and the connections that batches keep. Only `postgres.rs` makes them; what was not given back is closed.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{Connection, PgConnection, Postgres, raw_sql};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::{ACQUIRE_TIMEOUT, Health, LIFETIME, SIGN_OF_LIFE, STATEMENT_WITHIN, UNTESTED, in_time};

/// A connection on loan: closed when this is dropped, unless it was given back.
///
/// It keeps its place in the pool until the server has done with it, or fallen silent: a server goes on with what it was
/// asked though nobody listens, and clients that leave one after the other would use up all that it can bear.
pub(crate) struct Loan {
    connection: Option<PoolConnection<Postgres>>,
    since: Instant,
    /// When the plans of batches were last thrown away.
    planned: Instant,
    health: Arc<Health>,
    aside: Option<Arc<Aside>>,
}

impl Loan {
    pub(super) fn new(connection: PoolConnection<Postgres>, health: Arc<Health>) -> Self {
        let now = Instant::now();
        Self { connection: Some(connection), since: now, planned: now, health, aside: None }
    }

    /// The same, to be put aside for the next batch instead of back into the pool.
    pub(super) fn keep_in(mut self, aside: &Arc<Aside>) -> Self {
        aside.under_way.fetch_add(1, Ordering::Relaxed);
        self.aside = Some(Arc::clone(aside));
        self
    }

    /// Whether its plans are of a time when the tables may have been much smaller; if so, they count as new from here on.
    pub(super) fn is_to_plan_anew(&mut self) -> bool {
        let is_old = self.planned.elapsed() >= PLANS_KEPT;
        if is_old {
            self.planned = Instant::now();
        }
        is_old
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_deref_mut().expect("it is there until it is given back")
    }

    /// Gives the connection back if its conversation is at an end: after an answer, be it one of the server's errors.
    pub(crate) fn end<T>(self, outcome: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        match &outcome {
            Ok(_) => self.give_back(),
            Err(sqlx::Error::Database(cause)) => {
                match cause.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity) {
                    // It will be closed from the other side; 57P: because the server ends.
                    Some(PgSeverity::Fatal | PgSeverity::Panic) => {
                        if cause.code().is_some_and(|code| code.starts_with("57P")) {
                            self.health.lose();
                        }
                    }
                    _ => self.give_back(),
                }
            }
            Err(_) => self.health.lose(),
        }
        outcome
    }

    fn give_back(mut self) {
        let Some(connection) = self.connection.take() else { return };
        let surplus = match &self.aside {
            Some(aside) => {
                aside.put(Kept { connection, since: self.since, planned: self.planned, used: Instant::now() })
            }
            None => Some(connection),
        };
        if let Some(connection) = surplus {
            return_to_pool(connection);
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(aside) = self.aside.take() {
            aside.under_way.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(connection) = self.connection.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(close(connection))),
            Err(_) => drop(connection.detach()),
        }
    }
}

/// Closes it when the server has answered what it was asked last, or does not.
async fn close(mut connection: PoolConnection<Postgres>) {
    drop(timeout(STATEMENT_WITHIN, connection.ping()).await);
    // Without a farewell, which might not get through.
    drop(connection.detach());
}

/// The pool asks for a sign of life first, and would wait for it for ever, holding one of its places.
fn return_to_pool(mut connection: PoolConnection<Postgres>) {
    let returned = connection.return_to_pool();
    #[expect(clippy::disallowed_methods, reason = "it ends by itself, and the pool's close waits for it")]
    drop(tokio::spawn(timeout(ACQUIRE_TIMEOUT, returned)));
}

/// How many connections are kept for batches: as many as a node's ledger has batches at a time.
pub(crate) const KEPT_FOR_BATCHES: usize = 2;

/// How long the plans of batches are kept. A table that was analysed while it was empty seems so for ever to a plan, which
/// then goes through all of it; planned anew, its real size is seen.
const PLANS_KEPT: Duration = Duration::from_secs(5);

/// The connections of the last batches, kept out of the pool for the next ones: the pool would ask them for a sign of
/// life after each batch, and hand out others, whose processes at the server have their plans and caches still to fill.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// How many batches there are at the moment.
    under_way: AtomicUsize,
    place: Mutex<Place>,
}

#[derive(Debug, Default)]
struct Place {
    kept: Vec<Kept>,
    closed: bool,
}

#[derive(Debug)]
struct Kept {
    connection: PoolConnection<Postgres>,
    /// When it was taken out of the pool.
    since: Instant,
    planned: Instant,
    used: Instant,
}

impl Aside {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept connection, if there is one that lives; of several the one that was used last.
    pub(super) async fn take(&self, health: &Arc<Health>) -> Option<Loan> {
        let kept = self.place().kept.pop()?;
        let mut loan = Loan {
            connection: Some(kept.connection),
            since: kept.since,
            planned: kept.planned,
            health: Arc::clone(health),
            aside: None,
        };
        if !health.trusts(kept.since.elapsed()) {
            return None;
        }
        if kept.used.elapsed() >= UNTESTED
            && !matches!(timeout(SIGN_OF_LIFE, loan.connection().ping()).await, Ok(Ok(())))
        {
            health.lose();
            return None;
        }
        Some(loan)
    }

    /// Gives one that is not kept: too old, or one of more batches than a ledger has, of which others may wait for it.
    fn put(&self, kept: Kept) -> Option<PoolConnection<Postgres>> {
        let mut place = self.place();
        let is_one_of_many =
            place.kept.len() >= KEPT_FOR_BATCHES || self.under_way.load(Ordering::Relaxed) > KEPT_FOR_BATCHES;
        if place.closed || is_one_of_many || kept.since.elapsed() > LIFETIME {
            return Some(kept.connection);
        }
        place.kept.push(kept);
        None
    }

    /// From here on nothing is kept: a pool that closes waits for all its connections.
    pub(super) fn close(&self) {
        let mut place = self.place();
        place.closed = true;
        for kept in place.kept.drain(..) {
            return_to_pool(kept.connection);
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let place = self.place.get_mut().unwrap_or_else(PoisonError::into_inner);
        for kept in place.kept.drain(..) {
            drop(kept.connection.detach());
        }
    }
}

/// A transaction. Dropped half-way it is rolled back by closing its connection.
pub(crate) struct PostgresTransaction {
    loan: Loan,
    commit_within: Option<Duration>,
}

impl PostgresTransaction {
    pub(super) fn new(loan: Loan, commit_within: Option<Duration>) -> Self {
        Self { loan, commit_within }
    }

    /// An error that is no answer of the server's leaves open whether it stands.
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        let committed = in_time(self.commit_within, raw_sql("commit").execute(&mut *self)).await;
        self.loan.end(committed.map(drop))
    }

    pub(crate) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        let rolled_back = in_time(Some(SIGN_OF_LIFE), raw_sql("rollback").execute(&mut *self)).await;
        self.loan.end(rolled_back.map(drop))
    }
}

impl Deref for PostgresTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.loan.connection.as_deref().expect("it is there until it is given back")
    }
}

impl DerefMut for PostgresTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.loan.connection()
    }
}
