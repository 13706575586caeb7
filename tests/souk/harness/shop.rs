//! A shop: a server of its own on a free port, with a folder, a database and an admin that no other test
//! sees. Dropping it kills the server; if the test failed, the server's log is printed.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

use super::database::{Database, Held};
use super::postgres::Postgres;
use super::process::{Ran, Server, command, run};
use super::shopper::Site;
use super::{PASSWORD, SECRET_KEY, Shopper};

pub(crate) struct Shop {
    site: Arc<Site>,
    server: Option<Server>,
    settings: Vec<(String, String)>,
    admin: OnceCell<Shopper>,
    category: OnceCell<i64>,
    past_logs: Mutex<String>,
    database: Database,
    folder: TempDir,
}

impl Shop {
    /// A shop that is open for business.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// An open shop with settings of its own, as environment variables.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut shop = Self::closed(settings);
        shop.open().await;
        shop
    }

    /// Another node of this shop: a server of its own, on the same database and with the same settings but these.
    pub(crate) async fn node(&self, others: &[(&str, &str)]) -> Self {
        let mut settings = self.settings();
        settings.extend(others);
        let mut node = Self::closed_over(Database::file, &settings);
        let admin = node.greet(&self.admin().await);
        node.admin = OnceCell::new_with(Some(admin));
        node.open().await;
        node
    }

    /// A shopper of another node of this shop, come to this one.
    pub(crate) fn greet(&self, shopper: &Shopper) -> Shopper {
        shopper.at(&self.site)
    }

    /// A shop with a folder and settings, but no server: for the command line.
    pub(crate) fn closed(settings: &[(&str, &str)]) -> Self {
        Self::closed_over(Database::chosen, settings)
    }

    /// As `closed`, on SQLite in every run: for what is said of the embedded database alone.
    pub(crate) fn embedded(settings: &[(&str, &str)]) -> Self {
        Self::closed_over(Database::file, settings)
    }

    /// A node, closed, of a shop that may be closed as well.
    pub(crate) fn beside(other: &Self) -> Self {
        Self::closed_over(Database::file, &other.settings())
    }

    /// A closed shop on a Postgres server of the test's own.
    pub(crate) fn on(postgres: &Postgres) -> Self {
        Self::closed_over(|_| Database::on(&postgres.url()), &[])
    }

    fn closed_over(database: impl FnOnce(&Path) -> Database, settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::with_prefix("souk-test-").expect("a folder for the test");
        let database = database(folder.path());
        let url = database.url().to_owned();
        let redis = std::env::var("SOUK_TEST_REDIS_URL").ok().filter(|_| database.is_on_a_server());
        let mut shop = Self {
            site: Arc::new(Site::nowhere()),
            server: None,
            settings: Vec::new(),
            admin: OnceCell::new(),
            category: OnceCell::new(),
            past_logs: Mutex::new(String::new()),
            database,
            folder,
        };
        let defaults =
            [("HOST", "127.0.0.1"), ("PORT", "0"), ("DATABASE_URL", &url), ("SECRET_KEY", SECRET_KEY)];
        let redis = redis.as_deref().map(|url| ("REDIS_URL", url));
        for (name, value) in defaults.iter().chain(&redis).chain(settings) {
            shop.set(name, value);
        }
        shop
    }

    /// Takes a setting away, so that the server sees its default.
    pub(crate) fn without(mut self, setting: &str) -> Self {
        self.settings.retain(|(name, _)| name != setting);
        self
    }

    pub(crate) async fn open(&mut self) {
        self.open_with(&["serve"]).await;
    }

    pub(crate) async fn open_with(&mut self, arguments: &[&str]) {
        assert!(self.server.is_none(), "the shop is open already");
        self.database.make().await;
        let server = Server::start(command(self.folder.path(), &self.settings, arguments)).await;
        self.site.moved_to(server.address());
        self.server = Some(server);
    }

    /// SIGKILL.
    pub(crate) async fn kill9(&mut self) {
        let server = self.server.take().expect("an open shop");
        self.remember(&server.log());
        server.kill9().await;
    }

    /// SIGTERM; how the server ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.ended().await
    }

    /// A signal of this name, as `kill` knows it.
    pub(crate) async fn signal(&self, name: &str) {
        self.server().signal(name).await;
    }

    /// How the server ended, once it has.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let (status, log) = self.server.take().expect("an open shop").ended().await;
        self.remember(&log);
        status
    }

    /// Kills the server if it runs, and starts another on the same data and another port. Shoppers find it.
    pub(crate) async fn restart(&mut self) {
        if self.server.is_some() {
            self.kill9().await;
        }
        self.open().await;
    }

    /// Runs a command of the command line in the shop's own environment.
    pub(crate) async fn souk(&self, arguments: &[&str]) -> Ran {
        self.souk_with(arguments, &[]).await
    }

    pub(crate) async fn souk_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Ran {
        self.database.make().await;
        let mut command = command(self.folder.path(), &self.settings, arguments);
        command.envs(settings.iter().copied());
        run(command).await
    }

    /// The books are right: what every test of money and stock ends with.
    pub(crate) async fn audit(&self) {
        self.souk(&["audit"]).await.succeeds();
    }

    /// The name of its database on the server.
    pub(crate) fn database_name(&self) -> &str {
        self.database.name()
    }

    /// Makes the database, empty, as the first server or command would find it.
    pub(crate) async fn make_database(&self) {
        self.database.make().await;
    }

    /// Changes one row behind the server's back, for tests of who notices.
    pub(crate) async fn tamper(&self, statement: &'static str) {
        assert_eq!(self.database.tamper(statement).await, 1, "{statement}");
    }

    /// The same with any number of rows.
    pub(crate) async fn tamper_with_any(&self, statement: &'static str) {
        self.database.tamper(statement).await;
    }

    /// How much memory its server holds, in KiB: now, and at most so far.
    pub(crate) fn memory(&self) -> (u64, u64) {
        self.server().memory()
    }

    /// How many files and connections its server has open.
    pub(crate) fn open_files(&self) -> usize {
        self.server().open_files()
    }

    /// Bounds what the running server may use, by `prlimit`'s name for it, or lifts that bound.
    pub(crate) async fn limit(&self, what: &str, most: Option<u64>) {
        let most = most.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
        // Of descriptors nobody may have an unlimited number.
        let most = if what == "nofile" && most == "unlimited" { "1024".to_owned() } else { most };
        let id = self.server().id();
        let ran =
            Command::new("prlimit").arg(format!("--pid={id}")).arg(format!("--{what}={most}:")).status();
        assert!(ran.await.expect("prlimit, of util-linux").success(), "{what} could not be bounded");
    }

    /// Changes a setting, for the next server.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(present, _)| present != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// The library that shows a program another time, if it is installed.
    pub(crate) fn clock_library() -> Option<String> {
        let folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
        let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
        libraries.find(|library| library.exists()).map(|library| library.display().to_string())
    }

    pub(crate) fn is_on_postgres(&self) -> bool {
        self.database.is_on_a_server()
    }

    /// Holds a product's row, as another client of the database would; on SQLite that is all of it.
    pub(crate) async fn hold(&self, product: &Product) -> Held {
        self.database.hold(product.id).await
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        self.site.base()
    }

    /// Where it listens, without the scheme.
    pub(crate) fn address(&self) -> String {
        self.url().split_once("://").expect("a URL").1.to_owned()
    }

    /// Everything that the servers of this shop have said so far.
    pub(crate) fn log(&self) -> String {
        let mut log = self.past_logs.lock().expect("the log").clone();
        if let Some(server) = &self.server {
            log.push_str(&server.log());
        }
        log
    }

    /// Somebody without an account.
    pub(crate) fn anyone(&self) -> Shopper {
        Shopper::anyone(Arc::clone(&self.site))
    }

    /// Somebody new with an account, signed in; the name becomes the username and the email address.
    pub(crate) async fn register(&self, name: &str) -> Shopper {
        self.anyone().registered_as(name).await
    }

    /// Several at once, since each registration pays for a password hash; not all, since that is no test of its own.
    pub(crate) async fn register_many(&self, name: &str, count: usize) -> Vec<Shopper> {
        let places = Arc::new(Semaphore::new(8));
        let mut registrations = JoinSet::new();
        for number in 1..=count {
            let (stranger, places) = (self.anyone(), Arc::clone(&places));
            let name = format!("{name}{number}");
            registrations.spawn(async move {
                let _place = places.acquire().await.expect("places are never closed");
                stranger.registered_as(&name).await
            });
        }
        let mut shoppers = registrations.join_all().await;
        shoppers.sort_by_key(|shopper| shopper.id);
        shoppers
    }

    /// The shop's admin, always the same one.
    pub(crate) async fn admin(&self) -> Shopper {
        self.admin.get_or_init(|| self.another_admin("boss")).await.clone()
    }

    /// A further admin, made by the command line beside the running server.
    pub(crate) async fn another_admin(&self, name: &str) -> Shopper {
        let email = format!("{name}@example.com");
        let arguments = ["createsuperuser", "--noinput", "--email", &email, "--username", name];
        self.souk_with(&arguments, &[("SOUK_SUPERUSER_PASSWORD", PASSWORD)]).await.succeeds();
        self.anyone().signed_in_as(&email, PASSWORD).await
    }

    /// A product to be described and then created, by the admin.
    pub(crate) fn product(&self, name: &str) -> NewProduct<'_> {
        NewProduct { shop: self, body: json!({ "name": name, "price": "10.00", "stock": 100 }) }
    }

    pub(crate) async fn new_category(&self, name: &str) -> i64 {
        self.admin().await.post("/api/categories/", json!({ "name": name })).await.is(201).id()
    }

    /// The category of products for which it does not matter.
    pub(crate) async fn some_category(&self) -> i64 {
        *self.category.get_or_init(|| self.new_category("Sundries")).await
    }

    /// A product's level as the shop shows it.
    pub(crate) async fn stock_of(&self, product: &Product) -> i64 {
        let answer = self.anyone().get(&product.path()).await.is(200);
        answer["stock"].as_i64().unwrap_or_else(|| panic!("`stock` should be an integer\n{answer}"))
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("an open shop")
    }

    /// The settings, as a shop is made with them.
    fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    fn remember(&self, log: &str) {
        self.past_logs.lock().expect("the log").push_str(log);
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}--- end of the server's log", self.log());
        }
    }
}

/// A product that the admin is about to create.
pub(crate) struct NewProduct<'a> {
    shop: &'a Shop,
    body: Value,
}

impl NewProduct<'_> {
    pub(crate) fn price(self, price: &str) -> Self {
        self.with("price", price)
    }

    pub(crate) fn stock(self, stock: i64) -> Self {
        self.with("stock", stock)
    }

    pub(crate) fn category(self, category: i64) -> Self {
        self.with("category", category)
    }

    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.body[field] = value.into();
        self
    }

    pub(crate) async fn create(mut self) -> Product {
        if self.body["category"].is_null() {
            self.body["category"] = self.shop.some_category().await.into();
        }
        let answer = self.shop.admin().await.post("/api/products/", self.body).await.is(201);
        Product { id: answer.id(), json: answer.json }
    }
}

/// A product on the shelf, as it was created.
#[derive(Clone)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) json: Value,
}

impl Product {
    pub(crate) fn path(&self) -> String {
        format!("/api/products/{}/", self.id)
    }

    pub(crate) fn path_of(&self, what: &str) -> String {
        format!("/api/products/{}/{what}/", self.id)
    }
}
