//! 80 % lists, 15 % products and 5 % checkouts at a fixed rate, while an admin changes prices: nothing may be stale.
//!
//! The admin raises the prices of the products on the first page, a cent at a time. An answer that was asked for after such
//! a write was acknowledged must show that price or a later one; and of a product that was sold meanwhile at most what the
//! acknowledged orders had left. So what is cached is held against what was promised, under load.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use hyper::Method;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::json;
use souk_store::model::{Money, ProductId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::arrivals::{Load, Usual, at_their_times, must_be_positive};
use crate::buyer::{Bought, SOLD_OUT, buy};
use crate::client::{Answer, Pool, get, with_json};
use crate::progress::Progress;
use crate::report::Report;
use crate::shop::Basket;
use crate::stage::{Acknowledged, Aim, Goods, Needs, Stage, expected};
use crate::tally::{Ending, Tally};
use crate::verdict::Fault;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    load: Load,
    /// How many prices the admin changes a second
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    writes: f64,
    #[command(flatten)]
    aim: Aim,
}

const USUAL: Usual = Usual { rate: 2_000.0, seconds: 20.0 };
/// Of a hundred arrivals.
const LISTS: usize = 80;
const DETAILS: usize = 15;
const CHECKOUTS: usize = 100 - LISTS - DETAILS;
const PRODUCTS: usize = 1_000;
const BASKET: Basket = Basket { hot: false, lines: 1 };
const FIRST_PAGE: &str = "/api/products/";

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    must_be_positive("--writes", options.writes)?;
    let plan = options.load.plan(USUAL)?;
    let needs = Needs {
        shoppers: (plan.arrivals() / 100 + 1) * CHECKOUTS,
        goods: Goods::Plenty(PRODUCTS),
        basket: Some(BASKET),
        admin: true,
    };
    let stage = Stage::set(&options.aim, needs, report).await?;
    let pool = stage.pool(options.load.connections.get());
    let visit = Visit {
        shelf: Shelf::look(&pool, &stage.products).await?,
        products: stage.products.clone(),
        shoppers: stage.shoppers.clone(),
        tally: Tally::new().into(),
        run: uuid::Uuid::new_v4().simple().to_string(),
        pool,
    };
    let visit = Arc::new(visit);
    let progress = Progress::of("mixed", plan.seconds(), &visit.tally);
    let (closed, mut writing) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    writing.spawn(change_prices(visit.clone(), stage.admin()?.clone(), options.writes, closed.clone()));
    let made = at_their_times(plan, |arrival| {
        let visit = Arc::clone(&visit);
        async move { visit.pay(arrival.number, arrival.planned).await }
    })
    .await;
    closed.store(true, Ordering::Relaxed);
    while let Some(written) = writing.join_next().await {
        written?;
    }
    drop(progress);
    report.run("mixed", &visit.tally);
    report.faults(
        Fault::Undersold,
        visit.tally.good(SOLD_OUT),
        "there is plenty, and somebody was sent away",
    );
    let (judged, writes) = (visit.shelf.judged.load(Ordering::Relaxed), visit.tally.good("price"));
    report.figure("prices_and_levels_judged", judged);
    report.say(&format!(
        "{judged} prices and levels were held against {writes} acknowledged prices and the orders"
    ));
    report.claim(
        "prices were changed and shown meanwhile, so that something was proved",
        judged > 0 && writes > 0,
    );
    let acknowledged: Vec<_> = made.into_iter().flatten().collect();
    stage.close(&acknowledged, report).await
}

/// What every arrival shares.
struct Visit {
    pool: Arc<Pool>,
    tally: Arc<Tally>,
    shelf: Shelf,
    products: Vec<i64>,
    shoppers: Vec<HeaderValue>,
    run: String,
}

impl Visit {
    /// One visit; the order, if it was to make one and did.
    async fn pay(&self, number: usize, planned: Instant) -> Option<Acknowledged> {
        // In each hundred arrivals the three kinds are mixed, by a stride that meets each number once.
        let (hundred, place) = (number / 100, number % 100 * 37 % 100);
        if place < CHECKOUTS {
            return self.check_out(hundred * CHECKOUTS + place, planned).await;
        }
        let (kind, path) = if place < CHECKOUTS + LISTS {
            ("list", FIRST_PAGE.to_owned())
        } else {
            // Every other look is at a product that changes.
            let all = if number.is_multiple_of(2) { &self.shelf.ids } else { &self.products };
            ("detail", format!("/api/products/{}/", all[number.wrapping_mul(389) % all.len()]))
        };
        let before = self.shelf.promised();
        let ending = Ending::of_asking(&self.pool, get(&path, None), &[200]).await;
        if let Some(answer) = self.tally.count(kind, planned, ending) {
            match shown(&answer, kind) {
                Ok(products) => self.shelf.judge(&before, &products, &self.tally),
                Err(error) => self.tally.fault(Fault::Unexpected, format!("{kind}: {error:#}")),
            }
        }
        None
    }

    async fn check_out(&self, shopper: usize, planned: Instant) -> Option<Acknowledged> {
        let key = format!("{}-{shopper}", self.run);
        let bought = buy(&self.pool, &self.tally, &self.shoppers[shopper], &key, planned).await;
        let Bought::Order(order) = bought else { return None };
        let products: Vec<_> = self.products.iter().copied().map(ProductId).collect();
        for (product, quantity) in BASKET.lines(&products, shopper) {
            self.shelf.sold(product.0, quantity);
        }
        Some(Acknowledged { shopper, order })
    }
}

/// The products on the first page, and what was promised of them.
struct Shelf {
    ids: Vec<i64>,
    places: HashMap<i64, usize>,
    /// Cents of the last acknowledged price.
    prices: Vec<AtomicI64>,
    /// Units that acknowledged orders have left at most.
    levels: Vec<AtomicI64>,
    judged: AtomicI64,
}

/// What a product's answer shows.
#[derive(Debug, Deserialize)]
struct Shown {
    id: i64,
    price: String,
    stock: i64,
}

fn shown(answer: &Answer, kind: &str) -> anyhow::Result<Vec<Shown>> {
    #[derive(Deserialize)]
    struct Page {
        results: Vec<Shown>,
    }
    Ok(if kind == "list" { answer.json::<Page>()?.results } else { vec![answer.json()?] })
}

fn cents(price: &str) -> anyhow::Result<i64> {
    Ok(price.parse::<Money>().ok().with_context(|| format!("{price:?} is no price"))?.0)
}

impl Shelf {
    async fn look(pool: &Pool, products: &[i64]) -> anyhow::Result<Self> {
        let page = expected(pool.send(get(FIRST_PAGE, None)?).await?, 200)?;
        let found: Vec<_> =
            shown(&page, "list")?.into_iter().filter(|product| products.contains(&product.id)).collect();
        ensure!(!found.is_empty(), "none of the products is on the first page");
        let prices = found.iter().map(|product| cents(&product.price).map(AtomicI64::new));
        Ok(Self {
            ids: found.iter().map(|product| product.id).collect(),
            places: found.iter().enumerate().map(|(place, product)| (product.id, place)).collect(),
            prices: prices.collect::<Result<_, _>>()?,
            levels: found.iter().map(|product| AtomicI64::new(product.stock)).collect(),
            judged: AtomicI64::new(0),
        })
    }

    fn sold(&self, product: i64, quantity: i64) {
        if let Some(&place) = self.places.get(&product) {
            self.levels[place].fetch_sub(quantity, Ordering::SeqCst);
        }
    }

    /// The prices and levels that are promised now.
    fn promised(&self) -> Vec<(i64, i64)> {
        let load = |(price, level): (&AtomicI64, &AtomicI64)| {
            (price.load(Ordering::SeqCst), level.load(Ordering::SeqCst))
        };
        self.prices.iter().zip(&self.levels).map(load).collect()
    }

    /// Holds an answer against what was promised before it was asked for.
    fn judge(&self, before: &[(i64, i64)], products: &[Shown], tally: &Tally) {
        for product in products {
            let Some(&place) = self.places.get(&product.id) else { continue };
            let (price, level) = before[place];
            self.judged.fetch_add(1, Ordering::Relaxed);
            match cents(&product.price) {
                Ok(shown) if shown < price => {
                    let example =
                        format!("product {}: price {shown}, when {price} was acknowledged", product.id);
                    tally.fault(Fault::Stale, example);
                }
                Ok(_) => {}
                Err(error) => tally.fault(Fault::Unexpected, error.to_string()),
            }
            if product.stock > level {
                let example =
                    format!("product {}: {} units, when {level} were left", product.id, product.stock);
                tally.fault(Fault::Stale, example);
            }
        }
    }
}

/// One after the other, so that a later price is a higher one.
async fn change_prices(visit: Arc<Visit>, admin: HeaderValue, rate: f64, closed: Arc<AtomicBool>) {
    let shelf = &visit.shelf;
    for place in (0..shelf.ids.len()).cycle() {
        if closed.load(Ordering::Relaxed) {
            return;
        }
        let (planned, price) = (Instant::now(), shelf.prices[place].load(Ordering::SeqCst) + 1);
        let body = json!({ "price": Money(price).to_string() }).to_string();
        let path = format!("/api/products/{}/", shelf.ids[place]);
        let change = with_json(Method::PATCH, &path, Some(&admin), body.into());
        let ending = Ending::of_asking(&visit.pool, change, &[200]).await;
        if visit.tally.count("price", planned, ending).is_some() {
            shelf.prices[place].store(price, Ordering::SeqCst);
        }
        sleep(Duration::from_secs_f64(rate.recip()).saturating_sub(planned.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> Shelf {
        Shelf {
            ids: vec![5],
            places: HashMap::from([(5, 0)]),
            prices: vec![AtomicI64::new(1_000)],
            levels: vec![AtomicI64::new(20)],
            judged: AtomicI64::new(0),
        }
    }

    #[test]
    fn an_answer_from_before_a_promise_is_stale() {
        let (shelf, tally) = (shelf(), Tally::new());
        let product = |price: &str, stock| vec![Shown { id: 5, price: price.to_owned(), stock }];
        let before = shelf.promised();
        shelf.prices[0].store(1_001, Ordering::SeqCst);
        shelf.sold(5, 2);
        // What was asked for before may show either.
        shelf.judge(&before, &product("10.00", 20), &tally);
        shelf.judge(&before, &product("10.01", 18), &tally);
        assert_eq!(tally.take_faults().times(Fault::Stale), 0);
        let before = shelf.promised();
        shelf.judge(&before, &product("10.02", 17), &tally);
        assert_eq!(tally.take_faults().times(Fault::Stale), 0, "later ones may be under way");
        shelf.judge(&before, &product("10.00", 18), &tally);
        shelf.judge(&before, &product("10.01", 19), &tally);
        assert_eq!(tally.take_faults().times(Fault::Stale), 2);
        shelf.judge(&before, &[Shown { id: 6, price: "1.00".to_owned(), stock: 99 }], &tally);
        assert_eq!(tally.take_faults().times(Fault::Stale), 0, "nothing was promised of another product");
    }

    #[test]
    fn a_hundred_arrivals_are_mixed_as_promised() {
        let places: std::collections::BTreeSet<_> = (0..100).map(|number| number * 37 % 100).collect();
        assert_eq!(places.len(), 100);
        assert_eq!((LISTS, DETAILS, CHECKOUTS), (80, 15, 5));
    }
}
