//! Databases for tests: each test owns one, migrated and empty, and nothing is left of it afterwards.

pub mod load;

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tempfile::TempDir;

use crate::carts::{self, CartEdit};
use crate::db::{Db, StoreError, transaction};
use crate::ledger::{self, Done, EditCart, Work};
use crate::model::{
    Cart, CategoryId, Event, EventId, EventKind, Money, OrderId, OrderStatus, ProductId, Timestamp, UserId,
    fold,
};

/// Where the tests' Postgres server is, if they run on one: a URL of a database on it whose user may create others.
const SERVER: &str = "SOUK_TEST_POSTGRES_URL";

/// From here on a statement of a test is a slow one.
const SLOW_STATEMENT: Duration = Duration::from_millis(250);

/// Opens the database that `url` names, as a server would.
///
/// # Errors
/// As [`Db::connect`].
pub async fn connect(url: &str) -> Result<Db, StoreError> {
    Db::connect(url, SLOW_STATEMENT).await
}

/// A database of its own: an SQLite file in a folder that is removed when this is dropped or, if
/// `SOUK_TEST_POSTGRES_URL` is set, a database on that server that is dropped with this.
#[derive(Debug)]
pub struct TestDb {
    /// The migrated, empty database.
    pub db: Db,
    url: String,
    /// The server on which it is dropped in the end.
    server: Option<String>,
    _folder: Option<TempDir>,
}

impl TestDb {
    /// Makes one.
    ///
    /// # Panics
    /// If the machine gives it no room.
    pub async fn create() -> Self {
        match std::env::var(SERVER) {
            Ok(server) => Self::on_postgres(&server).await,
            Err(_) => Self::in_folder(tempfile::tempdir().expect("a temporary folder")).await,
        }
    }

    /// Makes one on a Postgres server, by the URL of a database on it whose user may create others.
    ///
    /// # Panics
    /// If the server does not do it.
    pub async fn on_postgres(server: &str) -> Self {
        Self::at(create_on(server).await, Some(server.to_owned()), None).await
    }

    /// Makes an SQLite file in this folder.
    ///
    /// # Panics
    /// If the folder gives it no room.
    pub async fn in_folder(folder: TempDir) -> Self {
        Self::at(format!("sqlite://{}/souk.db", folder.path().display()), None, Some(folder)).await
    }

    async fn at(url: String, server: Option<String>, folder: Option<TempDir>) -> Self {
        let db = connect(&url).await.expect("a new database");
        db.migrate().await.expect("a migrated database");
        Self { db, url, server, _folder: folder }
    }

    /// Its URL, for a second connection.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// An active account that nobody can log in to.
    ///
    /// # Panics
    /// If the database refuses it.
    pub async fn user(&self) -> UserId {
        self.try_user().await.expect("a new account")
    }

    async fn try_user(&self) -> Result<UserId, StoreError> {
        let name = uuid::Uuid::new_v4().to_string();
        transaction!(&self.db, tx => {
            let (id,): (UserId,) = sqlx::query_as(
                "insert into users (email, email_folded, username, username_folded, password_hash, date_joined) \
                 values ($1, $1, $2, $2, '', $3) returning id",
            )
            .bind(format!("{name}@example.com"))
            .bind(name)
            .bind(Timestamp::now())
            .fetch_one(tx)
            .await?;
            Ok(id)
        })
    }

    /// An active category of this name.
    ///
    /// # Panics
    /// If the database refuses it.
    pub async fn category(&self, name: &str) -> CategoryId {
        transaction!(&self.db, tx => {
            let (id,): (CategoryId,) = sqlx::query_as(
                "insert into categories (name, name_folded, created_at, updated_at) values ($1, $2, $3, $3) \
                 returning id",
            )
            .bind(name)
            .bind(fold(name))
            .bind(Timestamp::now())
            .fetch_one(tx)
            .await?;
            Ok(id)
        })
        .expect("a new category")
    }

    /// Puts these quantities of these products into the user's cart, and gives the cart.
    ///
    /// # Panics
    /// If the books refuse it.
    pub async fn fill_cart(&self, user: UserId, lines: &[(ProductId, i64)]) -> Cart {
        let mut cart = carts::load(&self.db, user).await.expect("a cart");
        for &(product, quantity) in lines {
            let edit = CartEdit::Put(product, quantity);
            let work = Work::EditCart(EditCart { cart_id: cart.id, cart_version: cart.version, edit });
            let batch = ledger::commit(&self.db, uuid::Uuid::new_v4(), &[work]).await.expect("a commit");
            match batch.outcomes.as_slice() {
                [Ok(Done::CartEdited { line, at })] => cart = cart.edited(edit, *line, *at),
                other => panic!("a line was not put: {other:?}"),
            }
        }
        cart
    }

    /// Somebody else who has done this and not committed it yet. None on SQLite, where writers take turns.
    ///
    /// # Panics
    /// If a statement fails.
    pub async fn another_who_did(&self, statement: String) -> Option<Another> {
        self.server.as_ref()?;
        let connect = async || PgConnection::connect(&self.url).await.expect("the test's database");
        let mut another = Another { connection: connect().await, watcher: connect().await };
        another.run(format!("begin; {statement}")).await;
        Some(another)
    }

    /// What comes of `work` when somebody else has done `before` and not committed it yet, and does `after` as soon as
    /// `work` waits for him. None on SQLite, where writers take turns.
    ///
    /// # Panics
    /// If a statement fails, or `work` never waits.
    pub async fn while_another_writes<T>(
        &self,
        before: String,
        work: impl Future<Output = T>,
        after: String,
    ) -> Option<T> {
        let mut another = self.another_who_did(before).await?;
        let release = async {
            another.is_waited_for().await;
            another.run(after).await;
            another.commit().await;
        };
        let (outcome, ()) = tokio::join!(work, release);
        Some(outcome)
    }

    /// Stores the next `count` events of a user, as the ledger would, and gives them back.
    ///
    /// # Panics
    /// If the database refuses them.
    pub async fn events(&self, user: UserId, count: i64) -> Vec<Event> {
        self.try_events(user, count).await.expect("new events")
    }

    async fn try_events(&self, user: UserId, count: i64) -> Result<Vec<Event>, StoreError> {
        transaction!(&self.db, tx => {
            let (last,): (i64,) = sqlx::query_as(
                "insert into inboxes (user_id, last_event_id) values ($1, $2) on conflict (user_id) do update \
                 set last_event_id = inboxes.last_event_id + excluded.last_event_id returning last_event_id",
            )
            .bind(user)
            .bind(count)
            .fetch_one(&mut *tx)
            .await?;
            let mut events = Vec::new();
            for id in last - count + 1..=last {
                let event = Event {
                    user_id: user,
                    id: EventId(id),
                    kind: EventKind::OrderStatusUpdate,
                    order_id: OrderId(1000 + id),
                    status: OrderStatus::Shipped,
                    previous_status: Some(OrderStatus::Pending),
                    total: Money(1999),
                    created_at: Timestamp::now(),
                };
                sqlx::query(
                    "insert into events (user_id, id, kind, order_id, status, previous_status, total, created_at) \
                     values ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(event.user_id)
                .bind(event.id)
                .bind(event.kind)
                .bind(event.order_id)
                .bind(event.status)
                .bind(event.previous_status)
                .bind(event.total)
                .bind(event.created_at)
                .execute(&mut *tx)
                .await?;
                events.push(event);
            }
            Ok(events)
        })
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let Some(server) = self.server.take() else { return };
        let (_, name) = self.url.rsplit_once('/').expect("the URL of a database");
        let statement = format!("drop database if exists {name} with (force)");
        // A drop cannot wait for a future, and the runtime around it may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(on_server(&server, statement));
        });
        if dropping.join().is_err() && !std::thread::panicking() {
            panic!("a test's database could not be dropped");
        }
    }
}

/// Makes a new database on the server of this URL and gives its URL.
async fn create_on(server: &str) -> String {
    let name = format!("souk_test_{}", uuid::Uuid::new_v4().simple());
    on_server(server, format!("create database {name}")).await;
    let (address, _) = server.rsplit_once('/').expect("the URL of a database");
    format!("{address}/{name}")
}

async fn on_server(server: &str, statement: String) {
    let mut connection = PgConnection::connect(server).await.expect("the tests' Postgres server");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .expect("a server that obeys");
    connection.close().await.expect("a connection that closes");
}

/// Somebody else in the middle of a transaction on Postgres; when this is dropped, it is rolled back.
#[derive(Debug)]
pub struct Another {
    connection: PgConnection,
    watcher: PgConnection,
}

impl Another {
    async fn run(&mut self, statement: String) {
        raw_sql(AssertSqlSafe(statement))
            .execute(&mut self.connection)
            .await
            .expect("a statement of the test's");
    }

    /// Returns when somebody waits for him.
    ///
    /// # Panics
    /// If nobody does within 20 seconds.
    pub async fn is_waited_for(&mut self) {
        const WAITING: &str = "select count(*) from pg_stat_activity \
                               where datname = current_database() and wait_event_type = 'Lock'";
        let look = async {
            loop {
                let (waiting,): (i64,) =
                    sqlx::query_as(WAITING).fetch_one(&mut self.watcher).await.expect("the watcher's answer");
                if waiting > 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look).await.expect("somebody who waits");
    }

    /// Ends the transaction.
    pub async fn commit(mut self) {
        self.run("commit".to_owned()).await;
    }
}
