//! The server dies in the middle of it all, again and again. What it had answered is there once; what it had
//! not is there once or not at all, and asking again with the same key settles which.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{DEADLINE, Product, Shop, Shopper};

/// What a buyer knows when the server is gone.
struct Receipts {
    buyer: Shopper,
    /// Orders that were answered with 201, by their keys.
    answered: BTreeMap<String, i64>,
    /// Keys of orders that went out and got no answer, or a 503.
    unanswered: Vec<String>,
}

/// Buys until the server is gone, and tells of each order that was answered.
async fn buy_on_and_on(
    buyer: Shopper,
    round: usize,
    product: Product,
    told: mpsc::UnboundedSender<()>,
) -> Receipts {
    let mut receipts = Receipts { buyer, answered: BTreeMap::new(), unanswered: Vec::new() };
    let item = json!({ "product_id": product.id, "quantity": 1 });
    for number in 0.. {
        let adding = receipts.buyer.call(Method::POST, "/api/cart/items/").json(&item);
        match adding.try_send().await {
            Ok(answer) if answer.status == 503 => break,
            Ok(answer) => {
                answer.is(201);
            }
            Err(_) => break,
        }
        let key = format!("{round}-{number}");
        match receipts.buyer.checkout_with_key(&key).try_send().await {
            Ok(answer) if answer.status == 503 => {
                receipts.unanswered.push(key);
                break;
            }
            Ok(answer) => {
                receipts.answered.insert(key, answer.is(201).id());
                let _ = told.send(());
            }
            Err(_) => {
                receipts.unanswered.push(key);
                break;
            }
        }
    }
    receipts
}

/// Starts the buyers, and waits until so many orders have been answered.
async fn load(buyers: Vec<Shopper>, round: usize, product: &Product, orders: usize) -> JoinSet<Receipts> {
    let (told, mut answered) = mpsc::unbounded_channel();
    let mut buying = JoinSet::new();
    for buyer in buyers {
        buying.spawn(buy_on_and_on(buyer, round, product.clone(), told.clone()));
    }
    drop(told);
    let enough = async {
        for _ in 0..orders {
            answered.recv().await.expect("the buyers go on buying");
        }
    };
    timeout(DEADLINE * 2, enough).await.expect("orders are answered");
    buying
}

/// Every order of this buyer that is stored: how often each id is listed.
async fn stored(buyer: &Shopper) -> BTreeMap<i64, usize> {
    let mut found = BTreeMap::new();
    let mut next = Some("/api/orders/?page_size=100&ordering=created_at".to_owned());
    while let Some(path) = next {
        let page = buyer.get(&path).await.is(200);
        for order in page.results() {
            *found.entry(order["id"].as_i64().expect("an id")).or_default() += 1;
        }
        next = page["next"].as_str().map(str::to_owned);
    }
    found
}

/// Asserts the promises to this buyer, and settles what was left open.
async fn settle(receipts: &mut Receipts) {
    let buyer = &receipts.buyer;
    let before = stored(buyer).await;
    assert!(before.values().all(|times| *times == 1), "{before:?}");
    for (key, order) in &receipts.answered {
        assert!(before.contains_key(order), "order {order} was answered with 201 and is gone");
        let again = buyer.checkout_with_key(key).send().await.is(201);
        assert_eq!(again.id(), *order, "the same key gives the same order\n{again}");
        assert_eq!(again.header("idempotent-replayed"), "true", "{again}");
    }
    for key in std::mem::take(&mut receipts.unanswered) {
        let first = buyer.checkout_with_key(&key).send().await.is(201);
        let again = buyer.checkout_with_key(&key).send().await.is(201);
        assert_eq!(again.json, first.json, "the same key gives the same order");
        receipts.answered.insert(key, first.id());
    }
    let mut known: Vec<i64> = receipts.answered.values().copied().collect();
    known.sort_unstable();
    let after: Vec<i64> = stored(buyer).await.into_keys().collect();
    assert_eq!(after, known, "each order belongs to one key, and each key to one order");
}

async fn units_sold(shop: &Shop) -> i64 {
    let admin = shop.admin().await;
    let mut sold = 0;
    let mut next = Some("/api/orders/?page_size=100".to_owned());
    while let Some(path) = next {
        let page = admin.get(&path).await.is(200);
        sold += page.results().iter().filter_map(|order| order["total_items"].as_i64()).sum::<i64>();
        next = page["next"].as_str().map(str::to_owned);
    }
    sold
}

#[tokio::test]
async fn killed_under_load_again_and_again_it_keeps_every_promise() {
    const STOCK: i64 = 1_000_000;
    let mut shop = Shop::start().await;
    let mut buyers = shop.register_many("buyer", 16).await;
    let lamp = shop.product("Lamp").stock(STOCK).create().await;
    let mut all: BTreeMap<i64, Receipts> = BTreeMap::new();
    for round in 0..5 {
        // A different number each time, so that the blow falls at different moments of a batch.
        let buying = load(buyers, round, &lamp, 60 + round * 23).await;
        shop.kill9().await;
        let gathered = timeout(DEADLINE, buying.join_all()).await.expect("the buyers notice");
        shop.open().await;
        shop.audit().await;
        buyers = Vec::new();
        for mut receipts in gathered {
            if let Some(earlier) = all.remove(&receipts.buyer.id) {
                receipts.answered.extend(earlier.answered);
            }
            settle(&mut receipts).await;
            buyers.push(receipts.buyer.clone());
            all.insert(receipts.buyer.id, receipts);
        }
        shop.audit().await;
        assert_eq!(shop.stock_of(&lamp).await, STOCK - units_sold(&shop).await);
    }
    shop.kill9().await;
    shop.audit().await;
}

#[tokio::test]
async fn stopped_under_load_it_ends_well() {
    let mut shop = Shop::start().await;
    let buyers = shop.register_many("buyer", 16).await;
    let lamp = shop.product("Lamp").stock(1_000_000).create().await;
    let buying = load(buyers, 0, &lamp, 60).await;
    let ended = shop.terminate().await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let gathered = timeout(DEADLINE, buying.join_all()).await.expect("the buyers notice");
    shop.audit().await;
    shop.open().await;
    for mut receipts in gathered {
        settle(&mut receipts).await;
    }
    shop.audit().await;
}

#[tokio::test]
async fn events_of_stored_orders_survive_a_kill() {
    let mut shop = Shop::start().await;
    let buyers = shop.register_many("buyer", 6).await;
    let lamp = shop.product("Lamp").stock(1_000_000).create().await;
    let buying = load(buyers, 0, &lamp, 60).await;
    shop.kill9().await;
    let gathered = timeout(DEADLINE, buying.join_all()).await.expect("the buyers notice");
    shop.open().await;
    for receipts in &gathered {
        let buyer = &receipts.buyer;
        let orders: Vec<i64> = stored(buyer).await.into_keys().collect();
        let mut socket = buyer.socket_from(0).await;
        let mut told = Vec::new();
        for _ in &orders {
            told.push(socket.next_of("order_created").await["order_id"].as_i64().expect("an order"));
        }
        socket.is_quiet().await;
        told.sort_unstable();
        assert_eq!(told, orders, "an event for each stored order, and no other");
    }
}

#[tokio::test]
async fn a_restart_forgets_nothing_that_was_written() {
    let mut shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    admin.patch(&lamp.path(), json!({ "description": "Bright" })).await.is(200);
    let order = ada.buy(&lamp, 2).await.id();
    admin.set_status(order, "shipped").await.is(200);
    shop.restart().await;
    let product = shop.anyone().get(&lamp.path()).await.is(200);
    assert_eq!((&product["description"], &product["stock"]), (&json!("Bright"), &json!(18)), "{product}");
    assert_eq!(ada.get(&format!("/api/orders/{order}/")).await.is(200)["status"], "shipped");
    // Without slack either: the next one is right as well.
    assert!(ada.buy(&lamp, 1).await.id() > order);
    assert_eq!(shop.stock_of(&lamp).await, 17);
}
