//! A shop of a scenario's own: a database in a folder of its own, products with plenty of stock, shoppers with carts.
//!
//! The folder is removed at the end. Carts are filled past the actors, many at a time, before any clock runs; so no
//! actor may hold a cart while it is filled.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use souk_actors::{SocketLimits, Tree};
use souk_store::accounts::{self, NewAccount};
use souk_store::audit::audit;
use souk_store::ledger::PlaceOrder;
use souk_store::model::{CartId, Money, OrderId, ProductId, Timestamp, UserId};
use souk_store::sample::{
    SampleCategory, SampleProduct, SampleUser, add_categories, add_products, add_users, find_users,
};
use souk_store::testing::TestDb;
use souk_store::testing::load::{fill_carts, order_ids};
use souk_store::{Cache, Db};
use tempfile::TempDir;

use crate::measure::machine;
use crate::private::Postgres;
use crate::report::Report;
use crate::verdict::Fault;

/// How many rows a transaction of the preparation stores.
const SLICE: usize = 1_000;
/// More than any scenario sells of one product.
pub(crate) const PLENTY: i64 = 100_000_000;
/// How much memory the cache may fill.
const CACHE_BYTES: u64 = 64 << 20;

/// How long the actors of a round may take to do what is left.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

/// What is written on every order.
pub(crate) const SHIPPING_ADDRESS: &str = "Rheingasse 12\n4058 Basel\nSwitzerland";
pub(crate) const PHONE: &str = "+41 61 555 01 02";

/// Where the scenarios' databases are made.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// The folder in which the run's database is made and removed again; it must lie on a real disk
    #[arg(long, value_name = "FOLDER", default_value = "target")]
    pub(crate) dir: PathBuf,
    /// Run on Postgres instead: on a server of the run's own or, with the URL of a database whose user may create others,
    /// on that one's
    #[arg(long, value_name = "URL", num_args = 0..=1)]
    pub(crate) postgres: Option<Option<String>>,
}

impl Place {
    /// One line on what the figures were measured on.
    pub(crate) fn describe(&self) -> String {
        format!("{}, {}", self.engine(), machine(&self.dir))
    }

    /// The name of what keeps the run's database.
    pub(crate) fn engine(&self) -> &'static str {
        if self.postgres.is_some() { "Postgres" } else { "SQLite" }
    }

    /// A new database, and the server under it if that is the run's own.
    async fn create(&self) -> anyhow::Result<(TestDb, Option<Postgres>)> {
        match &self.postgres {
            Some(Some(server)) => Ok((TestDb::on_postgres(server).await, None)),
            Some(None) => {
                let server = Postgres::start(self)?;
                Ok((TestDb::on_postgres(&server.url).await, Some(server)))
            }
            None => Ok((TestDb::in_folder(self.folder()?).await, None)),
        }
    }

    /// A new folder, which is removed when it is dropped.
    pub(crate) fn folder(&self) -> anyhow::Result<TempDir> {
        let dir = &self.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(tempfile::Builder::new().prefix("souk-loadtest-").tempdir_in(dir.canonicalize()?)?)
    }
}

/// An open shop.
pub(crate) struct Shop {
    pub(crate) db: Db,
    pub(crate) url: String,
    pub(crate) users: Vec<UserId>,
    pub(crate) products: Vec<ProductId>,
    // Dropped before the server that it is on.
    _database: TestDb,
    _server: Option<Postgres>,
}

impl Shop {
    /// A new one with this many shoppers and products, of which there are plenty.
    pub(crate) async fn open(place: &Place, users: usize, products: usize) -> anyhow::Result<Self> {
        Self::open_with(place, users, products, PLENTY).await
    }

    /// The same with this many units of each product.
    pub(crate) async fn open_with(
        place: &Place,
        users: usize,
        products: usize,
        stock: i64,
    ) -> anyhow::Result<Self> {
        let (database, server) = place.create().await?;
        let (db, url) = (database.db.clone(), database.url().to_owned());
        add_categories(
            &db,
            &[SampleCategory {
                name: "Lamps".to_owned(),
                description: "Everything that shines.".to_owned(),
                created_at: Timestamp::now(),
            }],
        )
        .await?;
        let samples: Vec<_> = (1..=products).map(|number| sample_product(number, stock)).collect();
        for slice in samples.chunks(SLICE) {
            add_products(&db, slice).await?;
        }
        let samples: Vec<_> = (1..=users).map(sample_user).collect();
        let mut ids = Vec::with_capacity(users);
        for slice in samples.chunks(SLICE) {
            add_users(&db, slice).await?;
            let emails: Vec<_> = slice.iter().map(|user| user.email.clone()).collect();
            ids.extend(find_users(&db, &emails).await?.into_iter().flatten());
        }
        anyhow::ensure!(ids.len() == users, "only {} of {users} accounts were made", ids.len());
        // Shoppers do not come in the order in which they registered.
        ids.sort_unstable_by_key(|id| scattered(id.0));
        // A new database counts from 1.
        let products = (1..).take(products).map(ProductId).collect();
        Ok(Self { db, url, users: ids, products, _database: database, _server: server })
    }

    /// Fills the carts of the first `users` shoppers; gives the orders that they stand for.
    pub(crate) async fn fill_carts(&self, users: usize, basket: Basket) -> anyhow::Result<Vec<PlaceOrder>> {
        let carts: Vec<(UserId, Vec<(ProductId, i64)>)> = self.users[..users]
            .iter()
            .enumerate()
            .map(|(index, &user)| (user, basket.lines(&self.products, index)))
            .collect();
        let mut orders = Vec::with_capacity(users);
        for slice in carts.chunks(SLICE) {
            let filled = fill_carts(&self.db, slice).await?;
            orders.extend(slice.iter().zip(filled).map(|((user, lines), cart)| order(*user, lines, cart)));
        }
        Ok(orders)
    }

    /// Starts the actors over it.
    pub(crate) async fn start_actors(&self) -> anyhow::Result<Tree> {
        Ok(Tree::start(&self.db, &Cache::new(CACHE_BYTES), SocketLimits::default()).await?)
    }

    /// Somebody who may do everything.
    pub(crate) async fn admin(&self) -> anyhow::Result<UserId> {
        let admin = NewAccount {
            email: "boss@example.com".to_owned(),
            username: "boss".to_owned(),
            password_hash: String::new(),
            first_name: String::new(),
            last_name: String::new(),
            phone: String::new(),
            address: String::new(),
            date_of_birth: None,
            is_admin: true,
        };
        let created = accounts::create(&self.db, &admin).await?;
        Ok(created.ok().context("there is an admin already")?.id)
    }

    /// Closes it, opens it anew, and claims that the books are right and hold the acknowledged orders and no others.
    pub(crate) async fn close(
        self,
        what: &str,
        placed: &[OrderId],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        self.db.close().await;
        let reopened = Db::connect_existing(&self.url).await?;
        let there: HashSet<OrderId> = order_ids(&reopened).await?.into_iter().collect();
        let acknowledged: HashSet<OrderId> = placed.iter().copied().collect();
        for order in acknowledged.difference(&there) {
            report
                .fault(Fault::Lost, format!("{what}: order {} was acknowledged, and is not there", order.0));
        }
        for order in there.difference(&acknowledged) {
            report.fault(
                Fault::Doubled,
                format!("{what}: order {} is there, and nobody was told of it", order.0),
            );
        }
        let again = (placed.len() - acknowledged.len()) as u64;
        report.faults(Fault::Doubled, again, format!("{what}: an order was acknowledged to two"));
        report.claim(
            &format!("{what}: all {} acknowledged orders are there, each once, and no others", placed.len()),
            again == 0 && acknowledged == there,
        );
        let checks = audit(&reopened).await?;
        let wrong: Vec<_> = checks.iter().filter(|check| check.violations > 0).collect();
        for check in &wrong {
            report.say(&format!(
                "{}: {} of {}, {:?}",
                check.rule, check.violations, check.rows, check.examples
            ));
        }
        report.claim(
            &format!("{what}: nothing was oversold, and all {} rules of the books hold", checks.len()),
            wrong.is_empty(),
        );
        reopened.close().await;
        Ok(())
    }
}

/// What is in the carts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Basket {
    /// Everybody wants the same.
    pub(crate) hot: bool,
    /// How many products, one of each.
    pub(crate) lines: usize,
}

impl Basket {
    pub(crate) fn lines(self, products: &[ProductId], shopper: usize) -> Vec<(ProductId, i64)> {
        // A prime stride: neighbours in time are no neighbours in the table.
        let start = if self.hot { 0 } else { shopper * 389 };
        let mut lines: Vec<_> =
            (0..self.lines).map(|n| (products[(start + n * 131) % products.len()], 1)).collect();
        lines.sort_unstable();
        lines
    }
}

/// The same for the same number, and in no order.
fn scattered(number: i64) -> i64 {
    number.wrapping_mul(0x5851_F42D_4C95_7F2D).rotate_left(29)
}

fn order(user_id: UserId, lines: &[(ProductId, i64)], (cart_id, cart_version): (CartId, i64)) -> PlaceOrder {
    PlaceOrder {
        user_id,
        cart_id,
        cart_version,
        lines: lines.to_vec(),
        shipping_address: SHIPPING_ADDRESS.to_owned(),
        phone: PHONE.to_owned(),
        notes: String::new(),
        key: None,
    }
}

fn sample_product(number: usize, stock: i64) -> SampleProduct {
    let cents = i64::try_from(number % 20_000).unwrap_or_default() + 199;
    SampleProduct {
        name: format!("Reading lamp No. {number}, oak and brass"),
        description:
            "A lamp for long evenings. The arm stays where it is put, the shade is spun from one sheet, the \
                      cord is covered in linen and two metres long. Bulb included; made to be repaired."
                .to_owned(),
        price: Money(cents),
        stock,
        category: "Lamps".to_owned(),
        sku: format!("LAMP-{number:06}"),
        featured: number.is_multiple_of(50),
        is_active: true,
        created_at: Timestamp::now(),
    }
}

fn sample_user(number: usize) -> SampleUser {
    SampleUser {
        email: format!("shopper{number}@example.com"),
        username: format!("shopper{number}"),
        // No password has this hash: nobody can log in, and nobody does.
        password_hash: String::new(),
        first_name: "Sam".to_owned(),
        last_name: "Shopper".to_owned(),
        phone: PHONE.to_owned(),
        address: SHIPPING_ADDRESS.to_owned(),
        date_joined: Timestamp::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basket_holds_each_product_once() {
        let products: Vec<_> = (1..=1_000).map(ProductId).collect();
        for shopper in 0..2_000 {
            let lines = Basket { hot: false, lines: 3 }.lines(&products, shopper);
            assert!(lines.windows(2).all(|pair| pair[0].0 < pair[1].0), "{lines:?}");
        }
        let hot = |shopper| Basket { hot: true, lines: 1 }.lines(&products, shopper);
        assert_eq!(hot(0), hot(7));
    }
}
