//! The seam between Souk and its database: one text of SQL, two engines.
//!
//! [`Db`] is chosen once, by the scheme of the URL. Reads go to `read!`, transactions to `transaction!`; both expand
//! their body once for each engine, so that every call is checked by the compiler against both. What one text cannot
//! say is declared as a pair beside the rest (`statements!`), and a test prepares every statement on each engine.
//!
//! SQLite runs in WAL mode with `synchronous = FULL` (a commit survives power loss), with one connection that writes
//! and several that read; Postgres has a file of its own beside this one. Errors come as [`StoreError`], sorted by what
//! the caller can do about them.

mod error;
mod postgres;

use std::path::Path;
use std::time::Duration;

use log::LevelFilter;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};

pub use error::{StoreError, chain};
pub use postgres::PostgresPool;
pub(crate) use postgres::{KEPT_FOR_BATCHES, in_time};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// How long a caller waits for a connection, and a writer of SQLite for the lock of another process.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whom the connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// A server, whose callers wait. A statement that takes as long as this is warned about.
    Serving {
        /// From here on it is a slow one.
        slow: Duration,
    },
    /// A command, which may take its time.
    Command,
}

impl Use {
    /// The library tells of statements by their text, never by their values, and in the span of who asked.
    fn warns<O: ConnectOptions>(self, options: O) -> O {
        match self {
            Self::Serving { slow } => options.log_slow_statements(LevelFilter::Warn, slow),
            Self::Command => options.log_slow_statements(LevelFilter::Off, Duration::ZERO),
        }
    }
}

/// Which engine a [`Db`] speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The embedded default.
    Sqlite,
    /// The one for production.
    Postgres,
}

/// The pools of an SQLite file: one connection writes, the others read beside it.
#[derive(Clone, Debug)]
pub struct SqlitePools {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
}

/// How much of a pool is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// What it is for.
    pub name: &'static str,
    /// Open connections.
    pub connections: usize,
    /// Those that nobody uses.
    pub idle: usize,
    /// The most that it opens.
    pub most: usize,
}

/// An open database. Cheap to clone; all clones share the same pools.
#[derive(Clone, Debug)]
pub enum Db {
    /// An SQLite file.
    Sqlite(SqlitePools),
    /// A Postgres server.
    Postgres(PostgresPool),
}

impl Db {
    /// Opens the database that `url` names: `sqlite://PATH` (made if it is not there, its folder too) or `postgres://…`.
    /// A statement that takes as long as `slow` is warned about.
    ///
    /// # Errors
    /// [`StoreError::Url`] for any other scheme or a malformed URL; [`StoreError::Unavailable`] if the file cannot be
    /// opened, [`StoreError::Unusable`] if the server cannot be reached or does not do.
    pub async fn connect(url: &str, slow: Duration) -> Result<Self, StoreError> {
        Self::open(url, true, Use::Serving { slow }).await
    }

    /// As [`Db::connect`], for a command, which may take its time: nothing is warned about.
    ///
    /// # Errors
    /// As [`Db::connect`].
    pub async fn connect_for_command(url: &str) -> Result<Self, StoreError> {
        Self::open(url, true, Use::Command).await
    }

    /// As [`Db::connect_for_command`], but an SQLite file must be there.
    ///
    /// # Errors
    /// As [`Db::connect`].
    pub async fn connect_existing(url: &str) -> Result<Self, StoreError> {
        Self::open(url, false, Use::Command).await
    }

    async fn open(url: &str, create: bool, usage: Use) -> Result<Self, StoreError> {
        if let Some(path) = sqlite_path(url) {
            return Self::open_sqlite(Path::new(path), create, usage).await;
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::Url("expected sqlite://PATH or postgres://…".to_owned()));
        }
        Ok(Self::Postgres(PostgresPool::open(url, usage).await?))
    }

    async fn open_sqlite(path: &Path, create: bool, usage: Use) -> Result<Self, StoreError> {
        if path.as_os_str().is_empty() || path == Path::new(":memory:") {
            return Err(StoreError::Url("sqlite:// needs the path of a file".to_owned()));
        }
        if create && let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(sqlx::Error::Io)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(create)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(ACQUIRE_TIMEOUT)
            .statement_cache_capacity(512)
            // A full channel would wake two threads for each row of a list.
            .row_buffer_size(2_048)
            // 40 MB: pages that batch after batch touches are copied into the file once, not every few batches.
            .pragma("wal_autocheckpoint", "10000")
            .pragma("cache_size", "-32768")
            .pragma("temp_store", "memory");
        let options = usage.warns(options);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .min_connections(1)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                // When a disk is full SQLite rolls back by itself, and sqlx, whose own rollback is refused then, counts
                // a transaction that is no more: every later one would fail. The ping waits for a queued rollback.
                .after_release(|connection, _| {
                    Box::pin(async move {
                        if connection.is_in_transaction() {
                            connection.ping().await?;
                        }
                        Ok(!connection.is_in_transaction())
                    })
                })
        };
        // The writer first: it makes the file and switches it to WAL.
        let writer = pool(1).connect_with(options.clone()).await?;
        let threads =
            std::thread::available_parallelism().map_or(4, |cores| u32::try_from(cores.get()).unwrap_or(4));
        let readers = pool((threads * 2).clamp(4, 16))
            .connect_with(options.create_if_missing(false).pragma("query_only", "true"))
            .await?;
        Ok(Self::Sqlite(SqlitePools { writer, readers }))
    }

    /// Brings the schema up to date; does nothing if it is. Safe when several nodes start at once.
    ///
    /// # Errors
    /// [`StoreError::Migration`] if the database was made by a newer Souk or a step fails; that step is rolled back.
    /// [`StoreError::Unusable`] if the database's user may not take a step; the text says who has to do what.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(pools) => {
                // SQLite has no advisory lock for the migrator to take, so processes that start at once queue here.
                let file = pools.writer.connect_options().get_filename().to_owned();
                let lock = lock_beside(&file).await.map_err(sqlx::Error::Io)?;
                let outcome = SQLITE_MIGRATIONS.run(&pools.writer).await;
                drop(lock);
                outcome.map_err(StoreError::Migration)
            }
            Self::Postgres(pool) => pool.migrate().await,
        }
    }

    /// Which engine this is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it does not within the time-outs.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(read!(self, pool => sqlx::query("select 1").execute(pool).await.map(drop))?)
    }

    /// How much of its pools is in use: the writer's and the readers' on SQLite, the one pool on Postgres.
    #[must_use]
    pub fn pool_use(&self) -> Vec<PoolUse> {
        let of = |name, pool: &SqlitePool| PoolUse {
            name,
            connections: pool.size() as usize,
            idle: pool.num_idle(),
            most: pool.options().get_max_connections() as usize,
        };
        match self {
            Self::Sqlite(pools) => vec![of("writer", &pools.writer), of("readers", &pools.readers)],
            Self::Postgres(pool) => vec![pool.in_use()],
        }
    }

    /// A number that changes when another process commits to the SQLite file; none on Postgres.
    ///
    /// It is asked of the one connection by which this process writes, so that its own commits do not count.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the connection is not free in time.
    pub async fn written_by_others(&self) -> Result<Option<i64>, StoreError> {
        let Self::Sqlite(pools) = self else { return Ok(None) };
        let (version,): (i64,) = sqlx::query_as("pragma data_version").fetch_one(&pools.writer).await?;
        Ok(Some(version))
    }

    /// Closes all connections once the statements under way have ended.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pools) => {
                pools.readers.close().await;
                // Last, so that its close finds nobody else and folds the log back into the file.
                pools.writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Waits for the lock on `FILE-migrating`; held until the file is dropped, by a crash too.
async fn lock_beside(file: &Path) -> std::io::Result<std::fs::File> {
    let mut name = file.as_os_str().to_owned();
    name.push("-migrating");
    let open = move || {
        let lock = std::fs::File::create(name)?;
        lock.lock()?;
        Ok(lock)
    };
    tokio::task::spawn_blocking(open).await.map_err(std::io::Error::other)?
}

/// The path in `sqlite://PATH`, if the URL is one.
#[must_use]
pub fn sqlite_path(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("sqlite:")?;
    Some(rest.strip_prefix("//").unwrap_or(rest))
}

/// One statement, in one text for both engines or as a pair.
#[derive(Debug)]
pub struct Statement {
    /// The constant's name, for the test that prepares it.
    pub name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

impl Statement {
    pub(crate) const fn new(name: &'static str, sqlite: &'static str, postgres: &'static str) -> Self {
        Self { name, sqlite, postgres }
    }

    /// The text for this database.
    #[must_use]
    pub fn on(&self, db: &Db) -> &'static str {
        match db {
            Db::Sqlite(_) => self.sqlite,
            Db::Postgres(_) => self.postgres,
        }
    }
}

/// Declares the statements of a file as constants, and `STATEMENTS`, the list of them that a test prepares.
///
/// `NAME: "text";` for both engines, `NAME: "text", locking " for update";` if it ends with a lock on Postgres, which
/// SQLite's one writer does not need, and `NAME: sqlite "text", postgres "text";` for a pair.
macro_rules! statements {
    (@each [$($done:ident)*]) => {
        /// Every statement of this file.
        #[cfg(test)]
        pub(crate) const STATEMENTS: &[$crate::db::Statement] = &[$($done),*];
    };
    (@each [$($done:ident)*] $(#[$doc:meta])* $name:ident: sqlite $sqlite:expr, postgres $postgres:expr; $($rest:tt)*) => {
        $(#[$doc])*
        const $name: $crate::db::Statement =
            $crate::db::Statement::new(stringify!($name), $sqlite, $postgres);
        $crate::db::statements!(@each [$($done)* $name] $($rest)*);
    };
    (@each [$($done:ident)*] $(#[$doc:meta])* $name:ident: $text:expr, locking $lock:literal; $($rest:tt)*) => {
        $(#[$doc])*
        const $name: $crate::db::Statement =
            $crate::db::Statement::new(stringify!($name), $text, concat!($text, $lock));
        $crate::db::statements!(@each [$($done)* $name] $($rest)*);
    };
    (@each [$($done:ident)*] $(#[$doc:meta])* $name:ident: $text:expr; $($rest:tt)*) => {
        $(#[$doc])*
        const $name: $crate::db::Statement = $crate::db::Statement::new(stringify!($name), $text, $text);
        $crate::db::statements!(@each [$($done)* $name] $($rest)*);
    };
    ($($statements:tt)*) => {
        $crate::db::statements!(@each [] $($statements)*);
    };
}

/// A future in a span of its own, which is there only while spans are exported. Where in this crate is told beside it.
macro_rules! traced {
    ($name:literal, $future:expr) => {
        tracing::Instrument::instrument($future, tracing::debug_span!(target: $crate::TRACES, $name))
    };
}

/// Runs `$body` with `$pool` as the pool that reads; once for each engine.
macro_rules! read {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::db::Db::Sqlite(pools) => {
                let $pool = &pools.readers;
                $crate::db::traced!("db.read", async { $body }).await
            }
            $crate::db::Db::Postgres($pool) => $crate::db::traced!("db.read", async { $body }).await,
        }
    };
}

/// Runs `$body`, an `async` block that gives a `Result<T, sqlx::Error>`, with `$connection` as one connection that reads.
macro_rules! read_together {
    ($db:expr, $connection:ident => $body:block) => {
        match $db {
            $crate::db::Db::Sqlite(pools) => {
                let mut acquired = pools.readers.acquire().await?;
                let $connection = &mut *acquired;
                $crate::db::traced!("db.read", async $body).await
            }
            $crate::db::Db::Postgres(pool) => {
                let mut loan = pool.borrow().await?;
                let outcome = {
                    let $connection = loan.connection();
                    $crate::db::in_time(pool.work_within(), $crate::db::traced!("db.read", async $body)).await
                };
                loan.end(outcome)
            }
        }
    };
}

/// Runs `$body`, which gives a `Result<T, StoreError>`, in one transaction that writes, with `$tx` as its connection.
///
/// An error rolls back. A lost connection in the commit itself is [`StoreError::Uncertain`].
macro_rules! transaction {
    (@run $begin:expr, $within:expr, $tx:ident => $body:block) => {
        $crate::db::traced!("db.transaction", async { $crate::db::transaction!(@untraced $begin, $within, $tx => $body) }).await
    };
    (@untraced $begin:expr, $within:expr, $tx:ident => $body:block) => {
        match $begin.await {
            Ok(mut transaction) => {
                let result = {
                    let $tx = &mut *transaction;
                    $crate::db::typed($crate::db::in_time($within, async $body).await)
                };
                match result {
                    Ok(value) => {
                        transaction.commit().await.map(|()| value).map_err($crate::db::StoreError::in_commit)
                    }
                    Err(error) => {
                        // The first error tells more than one of the rollback; a broken connection rolls back by itself.
                        drop(transaction.rollback().await);
                        Err(error)
                    }
                }
            }
            Err(error) => Err($crate::db::StoreError::from(error)),
        }
    };
    ($db:expr, $tx:ident => $body:block) => {
        match $db {
            $crate::db::Db::Sqlite(pools) => {
                $crate::db::transaction!(@run pools.writer.begin_with("begin immediate"), None, $tx => $body)
            }
            $crate::db::Db::Postgres(pool) => {
                $crate::db::transaction!(@run pool.begin(), pool.work_within(), $tx => $body)
            }
        }
    };
}

/// Fixes the error type of a transaction's body.
pub(crate) fn typed<T>(result: Result<T, StoreError>) -> Result<T, StoreError> {
    result
}

pub(crate) use {read, read_together, statements, traced, transaction};

#[cfg(test)]
mod tests;
