//! The database under a shop: an SQLite file in the shop's folder or, if `SOUK_TEST_POSTGRES_URL` names a server whose
//! user may create databases, a database of its own there, made when it is first needed and dropped with the shop.

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tokio::sync::OnceCell;

/// Where the tests' Postgres server is, if they run on one.
pub(super) const SERVER: &str = "SOUK_TEST_POSTGRES_URL";

/// How the tests' server is reached, in parts.
pub(crate) struct Place {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) host: String,
    pub(crate) port: String,
}

impl Place {
    /// None when this run is not about Postgres.
    pub(crate) fn of_server() -> Option<Self> {
        let url = std::env::var(SERVER).ok()?;
        let parts = || {
            let (login, rest) = url.strip_prefix("postgres://")?.split_once('@')?;
            let ((user, password), (host, port)) =
                (login.split_once(':')?, rest.split_once('/')?.0.split_once(':')?);
            let [user, password, host, port] = [user, password, host, port].map(str::to_owned);
            Some(Self { user, password, host, port })
        };
        Some(parts().unwrap_or_else(|| panic!("{SERVER} must be postgres://USER:PASSWORD@HOST:PORT/NAME")))
    }
}

/// One shop's database.
pub(super) struct Database {
    url: String,
    /// The server that it is made on; none for a file, which the shop makes itself.
    server: Option<String>,
    made: OnceCell<()>,
}

impl Database {
    /// On the engine of this run.
    pub(super) fn chosen(folder: &Path) -> Self {
        match std::env::var(SERVER) {
            Ok(server) => Self::on(&server),
            Err(_) => Self::file(folder),
        }
    }

    /// An SQLite file, whatever this run is about.
    pub(super) fn file(folder: &Path) -> Self {
        let url = format!("sqlite://{}", folder.join("souk.db").display());
        Self { url, server: None, made: OnceCell::new() }
    }

    /// A new database on the server of this URL.
    pub(super) fn on(server: &str) -> Self {
        let (address, _) = server.rsplit_once('/').expect("the URL of a database");
        let url = format!("{address}/souk_test_{}", uuid::Uuid::new_v4().simple());
        Self { url, server: Some(server.to_owned()), made: OnceCell::new() }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn is_on_a_server(&self) -> bool {
        self.server.is_some()
    }

    pub(super) fn name(&self) -> &str {
        self.url.rsplit_once('/').expect("the URL of a database").1
    }

    /// Makes it if it has to be made.
    pub(super) async fn make(&self) {
        let Some(server) = &self.server else { return };
        let make = async || on_server(server, format!("create database {}", self.name())).await;
        self.made.get_or_init(make).await;
    }

    /// Holds this product's row until it is let go.
    pub(super) async fn hold(&self, product: i64) -> Held {
        if self.is_on_a_server() {
            let mut database = PgConnection::connect(&self.url).await.expect("the shop's database");
            let statement = format!("begin; select from products where id = {product} for update");
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut database).await.expect("a row");
            Held::Postgres(database)
        } else {
            let mut database = SqliteConnection::connect(&self.url).await.expect("the shop's database");
            sqlx::raw_sql("begin immediate").execute(&mut database).await.expect("the lock");
            Held::Sqlite(database)
        }
    }

    /// Runs a statement behind the server's back, and tells how many rows it touched.
    pub(super) async fn tamper(&self, statement: &'static str) -> u64 {
        if self.url.starts_with("postgres:") {
            let mut database = PgConnection::connect(&self.url).await.expect("the shop's database");
            let done = sqlx::query(statement).execute(&mut database).await.expect(statement);
            database.close().await.expect("a database that closes");
            done.rows_affected()
        } else {
            let mut database = SqliteConnection::connect(&self.url).await.expect("the shop's database");
            let done = sqlx::query(statement).execute(&mut database).await.expect(statement);
            database.close().await.expect("a database that closes");
            done.rows_affected()
        }
    }
}

/// A lock in the database that a client of its own holds.
pub(crate) enum Held {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Held {
    pub(crate) async fn let_go(self) {
        match self {
            Self::Postgres(database) => database.close().await,
            Self::Sqlite(database) => database.close().await,
        }
        .expect("a database that closes");
    }
}

async fn on_server(server: &str, statement: String) {
    let mut connection = PgConnection::connect(server).await.expect("the tests' Postgres server");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("a server that obeys");
    connection.close().await.expect("a connection that closes");
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some(server) = self.server.take().filter(|_| self.made.initialized()) else { return };
        let statement = format!("drop database if exists {} with (force)", self.name());
        // A drop cannot wait for a future, and the runtime around it may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(on_server(&server, statement));
        });
        if dropping.join().is_err() && !std::thread::panicking() {
            panic!("the shop's database could not be dropped");
        }
    }
}
