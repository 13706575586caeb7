//! Postgres dies or falls silent while people buy. Every request is answered soon, with what became of it or with a
//! 503; what was acknowledged is there, once; and what is cached can be read all the while.
//!
//! The contract gives a request three seconds and the recovery two; a machine that is busy with other tests gets more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::harness::{Answer, Call, DEADLINE, Postgres, Product, Shop, Shopper, eventually};

const LONGEST_ANSWER: Duration = Duration::from_secs(5);
const LONGEST_RECOVERY: Duration = Duration::from_secs(5);
const BUYERS: usize = 12;
const STOCK: i64 = 1_000_000;

/// People who buy until they are told to stop.
struct Crowd {
    buying: JoinSet<Receipts>,
    enough: Arc<AtomicBool>,
    orders: Arc<AtomicUsize>,
}

/// What one of them knows in the end.
struct Receipts {
    buyer: Shopper,
    /// Orders that were answered with 201, by their keys.
    answered: BTreeMap<String, i64>,
    /// Keys of orders that were answered with 503.
    unanswered: Vec<String>,
    slowest: Duration,
}

impl Receipts {
    /// Sends, and holds the answer to the contract.
    async fn ask(&mut self, call: Call, expected: &[u16]) -> Answer {
        let began = Instant::now();
        let answer = call.send().await;
        let took = began.elapsed();
        self.slowest = self.slowest.max(took);
        assert!(expected.contains(&answer.status), "after {took:?}\n{answer}");
        assert!(took < LONGEST_ANSWER, "an answer after {took:?}\n{answer}");
        if answer.status == 503 {
            answer.header("retry-after");
        }
        answer
    }

    async fn buy(&mut self, product: &Product, key: String) -> bool {
        let item = json!({ "product_id": product.id, "quantity": 1 });
        let adding = self.buyer.call(Method::POST, "/api/cart/items/").json(&item);
        if self.ask(adding, &[201, 503]).await.status == 503 {
            return false;
        }
        let ordering = self.buyer.checkout_with_key(&key);
        let answer = self.ask(ordering, &[201, 503]).await;
        if answer.status == 503 {
            self.unanswered.push(key);
            return false;
        }
        self.answered.insert(key, answer.id());
        true
    }

    /// Holds the shop to what this buyer was told, and settles what was left open.
    async fn settle(self) {
        let Self { buyer, answered, unanswered, .. } = self;
        let mut known: BTreeSet<i64> = BTreeSet::new();
        for (key, order) in answered {
            let again = buyer.checkout_with_key(&key).send().await.is(201);
            assert_eq!(again.id(), order, "the same key gives the same order\n{again}");
            assert!(known.insert(order), "order {order} has two keys");
        }
        for key in unanswered {
            let answer = buyer.checkout_with_key(&key).send().await;
            if answer.status == 201 {
                assert!(known.insert(answer.id()), "one order has two keys\n{answer}");
            } else {
                // It never was, and what it would have bought went with a later order.
                answer.is(400);
            }
        }
        let mut stored = Vec::new();
        let mut next = Some("/api/orders/?page_size=100".to_owned());
        while let Some(path) = next {
            let page = buyer.get(&path).await.is(200);
            stored.extend(page.results().iter().map(|order| order["id"].as_i64().expect("an id")));
            next = page["next"].as_str().map(str::to_owned);
        }
        stored.sort_unstable();
        assert_eq!(stored, known.into_iter().collect::<Vec<_>>(), "each order is there, once");
    }
}

impl Crowd {
    fn start(buyers: Vec<Shopper>, product: &Product) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let orders = Arc::new(AtomicUsize::new(0));
        let mut buying = JoinSet::new();
        for buyer in buyers {
            let (enough, orders, product) = (Arc::clone(&enough), Arc::clone(&orders), product.clone());
            buying.spawn(async move {
                let mut receipts = Receipts {
                    buyer,
                    answered: BTreeMap::new(),
                    unanswered: Vec::new(),
                    slowest: Duration::ZERO,
                };
                for number in 0.. {
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                    if receipts.buy(&product, format!("order-{number}")).await {
                        orders.fetch_add(1, Ordering::Relaxed);
                    }
                }
                receipts
            });
        }
        Self { buying, enough, orders }
    }

    /// Waits for so many more orders; gives how long that took.
    async fn sells(&self, shop: &Shop, more: usize) -> Duration {
        let (began, until) = (Instant::now(), self.orders.load(Ordering::Relaxed) + more);
        eventually("orders are answered", async || {
            shop.anyone().get("/healthz").await.is(200);
            self.orders.load(Ordering::Relaxed) >= until
        })
        .await;
        began.elapsed()
    }

    /// Lets everybody go home, and holds the shop to what it told them.
    async fn closes(self, shop: &Shop, product: &Product) {
        self.enough.store(true, Ordering::Relaxed);
        let gathered = timeout(DEADLINE, self.buying.join_all()).await.expect("the buyers stop");
        let slowest = gathered.iter().map(|receipts| receipts.slowest).max().unwrap_or_default();
        let answered: usize = gathered.iter().map(|receipts| receipts.answered.len()).sum();
        let unanswered: usize = gathered.iter().map(|receipts| receipts.unanswered.len()).sum();
        eprintln!("{answered} orders, {unanswered} checkouts with 503, the slowest answer after {slowest:?}");
        shop.audit().await;
        for receipts in gathered {
            receipts.settle().await;
        }
        shop.audit().await;
        let sold = STOCK - shop.stock_of(product).await;
        assert!(sold >= i64::try_from(answered).expect("a small number"), "{sold} sold");
    }
}

/// A shop on a server of its own, its buyers, and what they buy.
async fn shop_on(postgres: &Postgres) -> (Shop, Vec<Shopper>, Product) {
    let mut shop = Shop::on(postgres);
    shop.open().await;
    let buyers = shop.register_many("buyer", BUYERS).await;
    let lamp = shop.product("Lamp").stock(STOCK).create().await;
    // So that it is cached, and stays so: the admin was made by a command that ran beside the server, whose nodes forget
    // everything when they next look for such changes, once a second.
    let made = Instant::now();
    reads_for(&shop, &lamp, || made.elapsed() < Duration::from_millis(1_500)).await;
    (shop, buyers, lamp)
}

/// Reads what is cached, again and again: every answer is a 200.
async fn reads_for(shop: &Shop, product: &Product, while_holds: impl Fn() -> bool) {
    while while_holds() {
        let began = Instant::now();
        read(shop, product).await;
        assert!(began.elapsed() < LONGEST_ANSWER, "two reads took {:?}", began.elapsed());
    }
}

async fn read(shop: &Shop, product: &Product) {
    let anyone = shop.anyone();
    anyone.get(&product.path()).await.is(200);
    anyone.get("/api/products/").await.is(200);
}

#[tokio::test]
async fn a_database_that_is_killed_and_recovers_under_load_costs_nobody_an_order() {
    let Some(postgres) = Postgres::start().map(Arc::new) else { return };
    let (shop, buyers, lamp) = shop_on(&postgres).await;
    let crowd = Crowd::start(buyers, &lamp);
    for round in 0..3 {
        crowd.sells(&shop, 40 + round * 17).await;
        let killed = Arc::clone(&postgres);
        let restart = tokio::task::spawn_blocking(move || killed.restart_immediately());
        reads_for(&shop, &lamp, || !restart.is_finished()).await;
        restart.await.expect("the server starts again");
        let recovered = crowd.sells(&shop, 1).await;
        eprintln!("sells again after {recovered:?}");
        assert!(recovered < LONGEST_RECOVERY, "sells again after {recovered:?}");
    }
    crowd.sells(&shop, 40).await;
    crowd.closes(&shop, &lamp).await;
}

#[tokio::test]
async fn a_database_that_falls_silent_for_ten_seconds_holds_nobody_up() {
    let Some(postgres) = Postgres::start() else { return };
    let (shop, buyers, lamp) = shop_on(&postgres).await;
    let crowd = Crowd::start(buyers, &lamp);
    crowd.sells(&shop, 60).await;
    let frozen = postgres.freeze();
    let began = Instant::now();
    reads_for(&shop, &lamp, || began.elapsed() < Duration::from_secs(10)).await;
    shop.anyone().get("/readyz").await.is(503);
    drop(frozen);
    let recovered = crowd.sells(&shop, 1).await;
    eprintln!("sells again after {recovered:?}");
    assert!(recovered < LONGEST_RECOVERY, "sells again after {recovered:?}");
    crowd.sells(&shop, 60).await;
    shop.anyone().get("/readyz").await.is(200);
    crowd.closes(&shop, &lamp).await;
}

#[tokio::test]
async fn a_database_that_was_restarted_while_nobody_asked_costs_not_even_one_answer() {
    let Some(postgres) = Postgres::start() else { return };
    let (shop, buyers, lamp) = shop_on(&postgres).await;
    let ada = &buyers[0];
    ada.buy(&lamp, 1).await;
    postgres.restart_immediately();
    // The connections of before are dead, and only what has rested for a second is tried before it is used.
    let restarted = Instant::now();
    reads_for(&shop, &lamp, || restarted.elapsed() < Duration::from_millis(1_200)).await;
    ada.buy(&lamp, 1).await;
    shop.audit().await;
}
