//! Orders a second through the carts and the ledger, against one transaction an order on the same database.
//!
//! The rival that is judged is a transaction written by hand with the usual statements. Beside it stands the ledger's
//! own code with a batch of one, which has all of the ledger but the batches: how much of the gain is theirs. All sides
//! get their carts filled before the clock starts; the ledger's carts are also loaded by then, as they are when somebody
//! has just put something into them, while the rivals are given their orders ready-made and never read a cart.

use std::slice;
use std::sync::Arc;

use anyhow::{Context, bail};
use souk_actors::{Carts, Checkout};
use souk_store::Db;
use souk_store::ledger::{Done, PlaceOrder, Work, commit};
use souk_store::model::{OrderId, UserId};
use souk_store::testing::load::place_alone;
use uuid::Uuid;

use crate::measure::{self, Client, Round, Spread, Table, median_latency, rates, turns, whole};
use crate::report::Report;
use crate::shop::{self, Basket, DRAIN, Place, Shop};

/// With how many clients it is judged how much faster the ledger is.
const JUDGED_CLIENTS: usize = 64;

/// How much faster than by hand the ledger must be, where that is judged. On SQLite every transaction waits for every
/// other, on Postgres only those that want the same product.
fn floor(options: &Options, basket: Basket) -> Option<f64> {
    match (&options.place.postgres, basket.hot) {
        (None, _) => (basket.lines == 1).then_some(8.0),
        (Some(_), false) => Some(5.0),
        (Some(_), true) => Some(12.0),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many clients order at the same time, each one order after the other; one group of rows for each
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256])]
    clients: Vec<usize>,
    /// How many rounds each side gets; what is printed is the median
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many orders the ledger gets a round; the rivals get an eighth, so that all take about as long
    #[arg(long, default_value_t = 20_000)]
    orders: usize,
    /// Over how many products orders are spread
    #[arg(long, default_value_t = 1_000)]
    products: usize,
    /// How many lines the orders have; one group of rows for each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3])]
    lines: Vec<usize>,
    /// Leave out the rivals, for a profiler or to compare two builds; no ratio is judged then
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    place: Place,
}

/// The sides, in the order of the table's columns.
const SIDES: usize = 3;
const LEDGER: usize = 0;
const BATCH_OF_ONE: usize = 1;
const BY_HAND: usize = 2;

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    report.set_in(options.place.describe());
    let mut table = Table::new(&[
        "clients",
        "lines",
        "products",
        "to by hand",
        "to a batch of one",
        "ledger orders/s",
        "p50",
        "p99",
        "by hand orders/s",
        "p99",
        "batch of one orders/s",
        "p99",
    ]);
    for &clients in &options.clients {
        for &lines in &options.lines {
            for hot in [false, true] {
                compare(options, clients, Basket { hot, lines }, &mut table, report).await?;
            }
        }
    }
    report.table(&table);
    Ok(())
}

async fn compare(
    options: &Options,
    clients: usize,
    basket: Basket,
    table: &mut Table,
    report: &mut Report,
) -> anyhow::Result<()> {
    let products = if basket.hot { "hot" } else { "spread" };
    let what = format!("{clients} clients, {} lines, {products}", basket.lines);
    let shop = Shop::open(&options.place, options.orders, options.products.max(3)).await?;
    let mut placed = Vec::new();
    let mut sides: [Vec<Round>; SIDES] = Default::default();
    // The round before the first warms up files, statements and memory, and is not counted.
    for round in 0..=options.rounds {
        for side in turns(if options.alone { 1 } else { SIDES }, round) {
            let jobs = if side == LEDGER { options.orders } else { options.orders.div_ceil(8) };
            let (measured, orders) = match side {
                LEDGER => through_the_ledger(&shop, clients, jobs, basket).await?,
                BATCH_OF_ONE => {
                    let works: Arc<[Work]> =
                        shop.fill_carts(jobs, basket).await?.into_iter().map(Work::Place).collect();
                    let client =
                        || BatchOfOne { db: shop.db.clone(), works: works.clone(), placed: Vec::new() };
                    let buying = (0..clients).map(|_| client()).collect();
                    round_of_orders(buying, jobs, |client: BatchOfOne| client.placed).await?
                }
                _ => {
                    let orders: Arc<[PlaceOrder]> = shop.fill_carts(jobs, basket).await?.into();
                    let client =
                        || ByHand { db: shop.db.clone(), orders: orders.clone(), placed: Vec::new() };
                    let buying = (0..clients).map(|_| client()).collect();
                    round_of_orders(buying, jobs, |client: ByHand| client.placed).await?
                }
            };
            placed.extend(orders);
            if round > 0 {
                sides[side].push(measured);
            }
        }
    }
    let rates = |side: usize| rates(&sides[side]);
    let median = |side: usize| Spread::of(rates(side)).median;
    let ratio_to = |rival: usize| Spread::of_ratios(&rates(LEDGER), &rates(rival));
    let latency = |side: usize, permille| median_latency(&sides[side], permille);
    table.row([
        clients.to_string(),
        basket.lines.to_string(),
        products.to_owned(),
        ratio_to(BY_HAND).as_ratio(1),
        ratio_to(BATCH_OF_ONE).as_ratio(1),
        whole(median(LEDGER)),
        latency(LEDGER, 500),
        latency(LEDGER, 990),
        whole(median(BY_HAND)),
        latency(BY_HAND, 990),
        whole(median(BATCH_OF_ONE)),
        latency(BATCH_OF_ONE, 990),
    ]);
    if let Some(floor) = floor(options, basket).filter(|_| clients == JUDGED_CLIENTS && !options.alone) {
        report.floor(&what, ratio_to(BY_HAND), floor);
    }
    shop.close(&what, &placed, report).await
}

async fn through_the_ledger(
    shop: &Shop,
    clients: usize,
    jobs: usize,
    basket: Basket,
) -> anyhow::Result<(Round, Vec<OrderId>)> {
    shop.fill_carts(jobs, basket).await?;
    // New actors for each round: those of the last one know their carts as empty.
    let tree = shop.start_actors().await?;
    let carts = &tree.handles().carts;
    let users: Arc<[UserId]> = shop.users[..jobs].into();
    let lookers = (0..64).map(|_| Looker { carts: carts.clone(), users: users.clone() });
    measure::round(lookers.collect(), jobs).await?;
    let shoppers =
        (0..clients).map(|_| Shopper { carts: carts.clone(), users: users.clone(), placed: Vec::new() });
    let round = round_of_orders(shoppers.collect(), jobs, |shopper| shopper.placed).await?;
    tree.drain(DRAIN).await;
    Ok(round)
}

/// A round, and the orders that its clients placed.
async fn round_of_orders<C: Client>(
    clients: Vec<C>,
    jobs: usize,
    placed: impl Fn(C) -> Vec<OrderId>,
) -> anyhow::Result<(Round, Vec<OrderId>)> {
    let (measured, clients) = measure::round(clients, jobs).await?;
    Ok((measured, clients.into_iter().flat_map(placed).collect()))
}

/// Has a cart loaded.
struct Looker {
    carts: Carts,
    users: Arc<[UserId]>,
}

impl Client for Looker {
    async fn work(&mut self, job: usize) -> anyhow::Result<()> {
        self.carts.look(self.users[job]).await?;
        Ok(())
    }
}

/// Checks out as HTTP does.
struct Shopper {
    carts: Carts,
    users: Arc<[UserId]>,
    placed: Vec<OrderId>,
}

impl Client for Shopper {
    async fn work(&mut self, job: usize) -> anyhow::Result<()> {
        let checkout = Checkout {
            shipping_address: shop::SHIPPING_ADDRESS.to_owned(),
            phone: shop::PHONE.to_owned(),
            ..Checkout::default()
        };
        match self.carts.check_out(self.users[job], checkout).await? {
            Done::Placed(order) => self.placed.push(order.id),
            other => bail!("instead of an order: {other:?}"),
        }
        Ok(())
    }
}

/// The ledger's code, one order a transaction.
struct BatchOfOne {
    db: Db,
    works: Arc<[Work]>,
    placed: Vec<OrderId>,
}

impl Client for BatchOfOne {
    async fn work(&mut self, job: usize) -> anyhow::Result<()> {
        let batch = commit(&self.db, Uuid::new_v4(), slice::from_ref(&self.works[job])).await?;
        match batch.outcomes.as_slice() {
            [Ok(Done::Placed(order))] => self.placed.push(order.id),
            other => bail!("instead of an order: {other:?}"),
        }
        Ok(())
    }
}

/// A transaction written by hand.
struct ByHand {
    db: Db,
    orders: Arc<[PlaceOrder]>,
    placed: Vec<OrderId>,
}

impl Client for ByHand {
    async fn work(&mut self, job: usize) -> anyhow::Result<()> {
        let id = place_alone(&self.db, &self.orders[job]).await?;
        self.placed.push(id.context("an order was refused")?);
        Ok(())
    }
}
