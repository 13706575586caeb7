//! Postgres behind the seam: which connections are used, how long anybody waits for them, and what is wrong with a
//! server that cannot be used. Only `db.rs` looks in here; others see a pool that reads and a transaction.
//!
//! A server that was stopped or cut off keeps its connections and never answers, and no time-out of its own can end
//! that wait. So everything has a deadline on this side, too, a bit behind the server's own, which spares the
//! connection. A connection goes back to the pool only from where its conversation is at an end. One whose user ran
//! out of time or went away half-way is closed, which makes the server roll back; and when one was lost, all that were
//! open by then are replaced before they are used again, so that a server's restart costs a node a few refusals.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, TryStreamExt};
use futures_util::{FutureExt, TryFutureExt};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{
    PgConnectOptions, PgPool, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo,
};
use sqlx::{
    Connection, Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr, query_as, raw_sql,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{ACQUIRE_TIMEOUT, PoolUse, StoreError, Use};

mod loan;

use loan::{Aside, Loan};
pub(crate) use loan::{KEPT_FOR_BATCHES, PostgresTransaction};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// How many connections a node opens at most.
const CONNECTIONS: u32 = 16;
/// How long a read may take with all that it waits for, and a transaction up to its commit.
const WORK_WITHIN: Duration = Duration::from_millis(2_500);
/// How long a commit may go without an answer before it is looked up instead.
const COMMIT_WITHIN: Duration = Duration::from_secs(1);
/// How long the server itself gives a statement; see [`SERVING`].
const STATEMENT_WITHIN: Duration = Duration::from_secs(2);
/// How long a connection is given to show that it can be used.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// A connection that nobody used for this long shows that it lives before it is used.
const UNTESTED: Duration = Duration::from_secs(1);
/// How old a connection gets: what a server remembers for one grows.
const LIFETIME: Duration = Duration::from_mins(10);
/// How long a server may take to greet at the start, its own start included.
const GREETING: Duration = Duration::from_secs(5);
/// Postgres 15, as the server itself gives its version.
const OLDEST_VERSION: i64 = 150_000;

/// What the server itself sees to on each connection of a node that serves. Who holds locks and falls silent must not
/// hold up the other nodes until some TCP time-out.
const SERVING: [(&str, &str); 4] = [
    ("statement_timeout", "2s"),
    // Longer than `deadlock_timeout` is by default, so that of two who wait for each other only one gives up.
    ("lock_timeout", "1500ms"),
    ("idle_in_transaction_session_timeout", "5s"),
    // No statement runs for so long that compiling it would pay.
    ("jit", "off"),
];

/// How a batch begins; see [`PostgresPool::begin_batch`].
macro_rules! begin_batch {
    () => {
        "begin; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; \
         set local enable_hashjoin = off; set local enable_mergejoin = off"
    };
}

/// The connections to a Postgres server, as an executor of reads and a source of transactions.
#[derive(Clone, Debug)]
pub struct PostgresPool {
    pool: PgPool,
    health: Arc<Health>,
    usage: Use,
    for_batches: Arc<Aside>,
}

/// When a connection was last lost: those that are older are not trusted.
#[derive(Debug)]
struct Health {
    started: Instant,
    /// Microseconds after the start; 0 if none was.
    lost: AtomicU64,
}

impl Health {
    fn micros(duration: Duration) -> u64 {
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
    }

    fn lose(&self) {
        self.lost.fetch_max(Self::micros(self.started.elapsed()), Ordering::AcqRel);
    }

    fn trusts(&self, age: Duration) -> bool {
        let lost = self.lost.load(Ordering::Acquire);
        lost == 0 || Self::micros(self.started.elapsed().saturating_sub(age)) > lost
    }
}

impl PostgresPool {
    /// # Errors
    /// [`StoreError::Url`] or [`StoreError::Unusable`], one line that says what is wrong; passwords are never in it.
    pub(super) async fn open(url: &str, usage: Use) -> Result<Self, StoreError> {
        // The parser's own message may quote the URL, which holds the password.
        let mut options = PgConnectOptions::from_str(url)
            .map_err(|_| StoreError::Url("not a valid postgres:// URL".to_owned()))?
            .application_name("souk")
            .statement_cache_capacity(512);
        greet(&options).await?;
        if usage != Use::Command {
            options = options.options(SERVING);
        }
        options = usage.warns(options);
        let health = Arc::new(Health { started: Instant::now(), lost: AtomicU64::new(0) });
        let known = Arc::clone(&health);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(LIFETIME)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let health = Arc::clone(&known);
                async move {
                    if !health.trusts(meta.age) {
                        return Ok(false);
                    }
                    let lives = meta.idle_for < UNTESTED
                        || matches!(timeout(SIGN_OF_LIFE, connection.ping()).await, Ok(Ok(())));
                    if !lives {
                        health.lose();
                    }
                    Ok(lives)
                }
                .boxed()
            })
            .connect_lazy_with(options);
        Ok(Self { pool, health, usage, for_batches: Arc::default() })
    }

    /// Migrates on a connection without time-outs of its own: a node that starts while another migrates waits for it,
    /// on the lock that the migrator takes.
    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        let options = (*self.pool.connect_options()).clone().options(SERVING.map(|(name, _)| (name, "0")));
        let mut connection = PgConnection::connect_with(&options).await?;
        let Err(error) = MIGRATIONS.run(&mut connection).await else {
            drop(connection.close().await);
            return Ok(());
        };
        if let MigrateError::Execute(sqlx::Error::Database(cause))
        | MigrateError::ExecuteMigration(sqlx::Error::Database(cause), _) = &error
            && let Some(code) = cause.code()
            && MISSING_SOMETHING.contains(&code.as_ref())
            && let Ok(Some(missing)) = what_is_missing(&mut connection).await
        {
            return Err(StoreError::Unusable(missing));
        }
        Err(StoreError::Migration(error))
    }

    /// How long the statements of one transaction may take together.
    pub(crate) fn work_within(&self) -> Option<Duration> {
        (self.usage != Use::Command).then_some(WORK_WITHIN)
    }

    pub(super) fn in_use(&self) -> PoolUse {
        PoolUse {
            name: "all",
            connections: self.pool.size() as usize,
            idle: self.pool.num_idle(),
            most: CONNECTIONS as usize,
        }
    }

    pub(super) async fn close(&self) {
        self.for_batches.close();
        self.pool.close().await;
    }

    pub(crate) async fn begin(&self) -> Result<PostgresTransaction, sqlx::Error> {
        self.begin_on(self.borrow().await?, "begin").await
    }

    /// A transaction of a batch, whose statements join what they are given with tables by their keys alone. They are
    /// planned seldom, and as loops over indexes: what statistics say of a table that was empty or small a moment ago
    /// sends the planner through all of it.
    pub(crate) async fn begin_batch(&self) -> Result<PostgresTransaction, sqlx::Error> {
        let mut loan = match self.for_batches.take(&self.health).await {
            Some(loan) => loan,
            None => self.borrow().await?,
        };
        let begin =
            if loan.is_to_plan_anew() { concat!("discard plans; ", begin_batch!()) } else { begin_batch!() };
        self.begin_on(loan.keep_in(&self.for_batches), begin).await
    }

    /// A transaction that sees one moment and may take as long as it likes.
    pub(crate) async fn snapshot(&self) -> Result<PostgresTransaction, sqlx::Error> {
        self.begin_on(
            self.borrow().await?,
            "begin transaction isolation level repeatable read read only; set local statement_timeout = 0",
        )
        .await
    }

    async fn begin_on(
        &self,
        mut loan: Loan,
        statement: &'static str,
    ) -> Result<PostgresTransaction, sqlx::Error> {
        let begun = in_time(self.work_within(), raw_sql(statement).execute(loan.connection())).await;
        if let Err(error) = begun {
            self.health.lose();
            return Err(error);
        }
        let commit_within = (self.usage != Use::Command).then_some(COMMIT_WITHIN);
        Ok(PostgresTransaction::new(loan, commit_within))
    }

    /// A connection, to be given back by [`Loan::end`].
    pub(crate) async fn borrow(&self) -> Result<Loan, sqlx::Error> {
        Ok(Loan::new(self.pool.acquire().await?, Arc::clone(&self.health)))
    }
}

/// The outcome of `work`, or an I/O error when there is none in time.
pub(crate) async fn in_time<T, E: From<sqlx::Error>>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(limit) = limit else { return work.await };
    timeout(limit, work).await.unwrap_or_else(|_| Err(no_answer().into()))
}

fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "Postgres did not answer in time"))
}

/// One statement on a connection of its own, the wait for that included.
macro_rules! ask {
    ($pool:expr, $connection:ident => $ask:expr) => {{
        let pool = $pool.clone();
        async move {
            let until = Instant::now() + WORK_WITHIN;
            let mut loan = pool.borrow().await?;
            let asked = Instant::now();
            let outcome = {
                let $connection = loan.connection();
                match pool.usage {
                    Use::Serving { .. } => match timeout_at(until, $ask).await {
                        Ok(outcome) => outcome,
                        // It waited too long for its turn to tell anything of the connection.
                        Err(_) if asked.elapsed() < STATEMENT_WITHIN => return Err(no_answer()),
                        Err(_) => Err(no_answer()),
                    },
                    Use::Command => $ask.await,
                }
            };
            loan.end(outcome)
        }
    }};
}

/// What comes is gathered before it is passed on: a reader that is slow must not hold a connection.
impl<'p> Executor<'p> for &'_ PostgresPool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answer = ask!(self, connection => connection.fetch_many(query).try_collect::<Vec<_>>());
        Box::pin(answer.map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten_stream())
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        ask!(self, connection => connection.fetch_optional(query)).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        ask!(self, connection => connection.prepare_with(sql, parameters)).boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        ask!(self, connection => connection.describe(sql)).boxed()
    }
}

/// Connects once, to tell what is wrong before a pool would only say that time ran out.
async fn greet(options: &PgConnectOptions) -> Result<(), StoreError> {
    let until = Instant::now() + GREETING;
    let mut connection = loop {
        match timeout_at(until, PgConnection::connect_with(options)).await {
            Ok(Ok(connection)) => break connection,
            Ok(Err(sqlx::Error::Database(cause)))
                if is_busy_starting(cause.code().as_deref()) && Instant::now() < until =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(Err(error)) => return Err(StoreError::Unusable(what_is_wrong(options, &error))),
            Err(_) => {
                let place = place(options);
                let seconds = GREETING.as_secs();
                let reason =
                    format!("the Postgres server at {place} did not answer within {seconds} seconds");
                return Err(StoreError::Unusable(reason));
            }
        }
    };
    let (version,): (String,) = query_as("show server_version_num").fetch_one(&mut connection).await?;
    drop(connection.close().await);
    is_new_enough(version.parse().unwrap_or_default()).map_err(StoreError::Unusable)
}

/// Starting up, or out of connections for a moment.
fn is_busy_starting(code: Option<&str>) -> bool {
    matches!(code, Some("57P03" | "53300"))
}

fn is_new_enough(version: i64) -> Result<(), String> {
    if version >= OLDEST_VERSION {
        return Ok(());
    }
    // 9.6.24 is 90624, 14.3 is 140003.
    let (major, minor) = (version / 10_000, version % 10_000);
    let minor = if major < 10 { minor / 100 } else { minor };
    Err(format!("Postgres 15 or newer is needed; this server is {major}.{minor}"))
}

fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// One line about a connection that was not made.
fn what_is_wrong(options: &PgConnectOptions, error: &sqlx::Error) -> String {
    let place = place(options);
    let user = quoted(options.get_username());
    let cause = match error {
        sqlx::Error::Database(cause) => cause,
        sqlx::Error::Io(cause) => {
            return format!("the Postgres server at {place} cannot be reached: {cause}");
        }
        error => return format!("the Postgres server at {place} cannot be used: {error}"),
    };
    match cause.code().as_deref() {
        Some("28P01") => {
            format!(
                "the Postgres server at {place} has no user {user} with this password (DB_USER, DB_PASSWORD)"
            )
        }
        Some("3D000") => {
            let name = quoted(options.get_database().unwrap_or(options.get_username()));
            format!(
                "the Postgres server at {place} has no database {name}; let a superuser run: \
                 create database {name} owner {user}"
            )
        }
        _ => format!("the Postgres server at {place} refuses user {user}: {}", cause.message()),
    }
}

/// The codes of a migration that lacked a right, a schema, or the extension's files.
const MISSING_SOMETHING: [&str; 5] = ["42501", "3F000", "0A000", "58P01", "22023"];

/// What to do so that a migration can run; none if nothing that is known here is missing.
async fn what_is_missing(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let (user, database, may_make_tables, has_it, can_have_it, may_have_it): (
        String,
        String,
        bool,
        bool,
        bool,
        bool,
    ) = query_as(
        "select current_user::text, current_database()::text, \
             coalesce(has_schema_privilege(current_schema()::text, 'create'), false), \
             exists (select from pg_extension where extname = 'pg_trgm'), \
             exists (select from pg_available_extensions where name = 'pg_trgm'), \
             has_database_privilege(current_database(), 'create')",
    )
    .fetch_one(connection)
    .await?;
    if !has_it && !can_have_it {
        return Ok(Some(
            "the Postgres server lacks the extension pg_trgm, which search is made of; install its contrib \
             modules there (on Debian: postgresql-contrib)"
                .to_owned(),
        ));
    }
    let mut remedies = Vec::new();
    if !has_it && !may_have_it {
        remedies.push("create extension pg_trgm;".to_owned());
    }
    if !may_make_tables {
        remedies.push(format!("grant create, usage on schema public to {};", quoted(&user)));
    }
    Ok((!remedies.is_empty()).then(|| {
        format!(
            "the database user {} lacks rights; let a superuser run in database {}: {}",
            quoted(&user),
            quoted(&database),
            remedies.join(" ")
        )
    }))
}

/// As an identifier of SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
