//! What goes wrong between nodes: Redis is killed, frozen, slow, restarted empty or never there, and a node dies.
//! Nothing that was answered is lost, nobody waits, and afterwards nothing old is shown. Needs the servers that
//! `scripts/test` starts; without them each test says that it is not run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::harness::{
    DEADLINE, PASSWORD, Product, Redis, Shop, Shopper, eventually, nodes, nodes_on, redis_of_the_run, within,
};

/// How long a change may take to be seen on another node, as promised, with as much again for a slow machine.
const SOON: Duration = Duration::from_secs(2);

/// How long any answer may take while Redis is ill: the breaker allows a fraction of it, the machine needs the rest.
/// Whoever waited for Redis would wait far longer.
const NOBODY_WAITS: Duration = Duration::from_secs(4);

/// Buyers and readers on all nodes, who note what they are told.
struct Crowd {
    done: Arc<AtomicBool>,
    orders: watch::Sender<usize>,
    buying: JoinSet<(Shopper, BTreeSet<i64>)>,
    reading: JoinSet<Duration>,
}

impl Crowd {
    async fn gather(nodes: &[Shop], product: &Product) -> Self {
        let mut crowd = Self {
            done: Arc::default(),
            orders: watch::Sender::new(0),
            buying: JoinSet::new(),
            reading: JoinSet::new(),
        };
        let buyers = nodes[0].register_many("buyer", 6).await;
        for (number, buyer) in buyers.iter().enumerate() {
            let node = &nodes[number % nodes.len()];
            let (buyer, product) = (node.greet(buyer), product.clone());
            let (done, orders) = (Arc::clone(&crowd.done), crowd.orders.clone());
            crowd.buying.spawn(async move {
                let mut told = BTreeSet::new();
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let added = buyer.put_in_cart(&product, 1).await;
                    assert!([201, 503].contains(&added.status), "{added}");
                    if added.status == 503 {
                        continue;
                    }
                    let answer = buyer.checkout_with_key(&number.to_string()).send().await;
                    assert!([201, 409, 503].contains(&answer.status), "{answer}");
                    if answer.status == 201 {
                        told.insert(answer.id());
                        orders.send_modify(|orders| *orders += 1);
                    }
                }
                (buyer, told)
            });
        }
        for node in nodes {
            let (reader, path, done) = (node.anyone(), product.path(), Arc::clone(&crowd.done));
            crowd.reading.spawn(async move {
                let mut longest = Duration::ZERO;
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let began = Instant::now();
                    // Every second one is in no cache of answers that are ready.
                    let asked = if number % 2 == 0 { path.clone() } else { format!("{path}?nonce={number}") };
                    reader.get(&asked).await.is(200);
                    longest = longest.max(began.elapsed());
                }
                longest
            });
        }
        crowd
    }

    /// Waits until so many more orders were answered.
    async fn buys(&self, more: usize) {
        let mut orders = self.orders.subscribe();
        let goal = *orders.borrow() + more;
        let enough = timeout(DEADLINE, orders.wait_for(|orders| *orders >= goal)).await;
        assert!(enough.is_ok(), "orders are answered");
    }

    /// Ends it: nobody waited, and every order that was answered is there, once.
    async fn leaves(mut self) {
        self.done.store(true, Ordering::Relaxed);
        while let Some(longest) = self.reading.join_next().await {
            let longest = longest.expect("a reader");
            assert!(longest < NOBODY_WAITS, "somebody waited {longest:?}");
        }
        while let Some(told) = self.buying.join_next().await {
            let (buyer, told) = told.expect("a buyer");
            let mut stored = BTreeSet::new();
            let mut next = Some("/api/orders/?page_size=100".to_owned());
            while let Some(path) = next {
                let page = buyer.get(&path).await.is(200);
                for order in page.results() {
                    assert!(stored.insert(order["id"].as_i64().expect("an id")), "an order is there twice");
                }
                next = page["next"].as_str().map(str::to_owned);
            }
            assert!(told.is_subset(&stored), "orders are lost: {:?}", told.difference(&stored));
        }
    }
}

async fn price_on(node: &Shop, product: &Product) -> Value {
    node.anyone().get(&product.path()).await.is(200)["price"].clone()
}

/// Writes on one node: seen there at once, and soon on the others.
async fn a_write_is_seen(nodes: &[Shop], writer: usize, product: &Product, price: &str) {
    nodes[writer].admin().await.patch(&product.path(), json!({ "price": price })).await.is(200);
    assert_eq!(price_on(&nodes[writer], product).await, price, "at once on the node of the write");
    for node in nodes {
        within(SOON, "a new price is seen", async || price_on(node, product).await == price).await;
    }
}

/// Waits until this node uses Redis, or does not.
async fn uses_redis(node: &Shop, uses: bool) {
    let line = format!("souk_redis_in_use {}", u8::from(uses));
    let what = if uses { "Redis is used" } else { "Redis is passed by" };
    eventually(what, async || node.anyone().get("/metrics").await.is(200).plain().contains(&line)).await;
}

/// Two nodes under load; Redis falls ill and gets well again.
async fn through_an_illness(fall_ill: impl AsyncFnOnce(&mut Redis), get_well: impl AsyncFnOnce(&mut Redis)) {
    if redis_of_the_run().is_none() {
        return;
    }
    let mut redis = Redis::start().await;
    let nodes: [Shop; 2] = nodes_on(&redis.url()).await;
    let lamp = nodes[0].product("Lamp").stock(1_000_000).create().await;
    for node in &nodes {
        uses_redis(node, true).await;
    }
    a_write_is_seen(&nodes, 0, &lamp, "1.00").await;
    let crowd = Crowd::gather(&nodes, &lamp).await;
    crowd.buys(20).await;

    fall_ill(&mut redis).await;
    for node in &nodes {
        uses_redis(node, false).await;
    }
    crowd.buys(20).await;
    a_write_is_seen(&nodes, 0, &lamp, "2.00").await;
    a_write_is_seen(&nodes, 1, &lamp, "3.00").await;

    get_well(&mut redis).await;
    for node in &nodes {
        uses_redis(node, true).await;
    }
    for node in &nodes {
        assert_eq!(price_on(node, &lamp).await, "3.00", "nothing of before is shown");
    }
    crowd.buys(20).await;
    a_write_is_seen(&nodes, 1, &lamp, "4.00").await;
    a_write_is_seen(&nodes, 0, &lamp, "5.00").await;
    crowd.leaves().await;
    // What was sold under way is seen on both.
    let (one, two) = (nodes[0].stock_of(&lamp).await, nodes[1].stock_of(&lamp).await);
    within(SOON, "levels agree", async || nodes[0].stock_of(&lamp).await == nodes[1].stock_of(&lamp).await)
        .await;
    assert!(one < 1_000_000 && two < 1_000_000);
    nodes[0].audit().await;
}

#[tokio::test]
async fn redis_is_killed_and_comes_back_empty() {
    through_an_illness(async |redis| redis.kill9().await, async |redis| redis.open().await).await;
}

#[tokio::test]
async fn redis_is_frozen_and_goes_on() {
    through_an_illness(async |redis| redis.freeze().await, async |redis| redis.thaw().await).await;
}

#[tokio::test]
async fn redis_answers_nobody_and_then_everybody() {
    // It gets well by itself.
    let fall_ill = async |redis: &mut Redis| drop(redis.ask(&["client", "pause", "8000", "all"]).await);
    through_an_illness(fall_ill, async |_| {}).await;
}

#[tokio::test]
async fn redis_gets_slow_and_quick_again() {
    let fall_ill = async |redis: &mut Redis| redis.delay(Duration::from_millis(400));
    through_an_illness(fall_ill, async |redis| redis.delay(Duration::ZERO)).await;
}

#[tokio::test]
async fn redis_is_emptied_again_and_again() {
    if redis_of_the_run().is_none() {
        return;
    }
    let redis = Redis::start().await;
    let nodes: [Shop; 2] = nodes_on(&redis.url()).await;
    let lamp = nodes[0].product("Lamp").stock(1_000_000).create().await;
    let crowd = Crowd::gather(&nodes, &lamp).await;
    for round in 0..10 {
        redis.ask(&["flushall"]).await;
        a_write_is_seen(&nodes, round % 2, &lamp, &format!("{round}.10")).await;
        redis.ask(&["flushall"]).await;
        for node in &nodes {
            assert_eq!(price_on(node, &lamp).await, format!("{round}.10"));
        }
        crowd.buys(5).await;
    }
    crowd.leaves().await;
    nodes[0].audit().await;
}

#[tokio::test]
async fn a_shop_opens_without_its_redis_and_meets_it_later() {
    if redis_of_the_run().is_none() {
        return;
    }
    let mut redis = Redis::start().await;
    redis.kill9().await;
    let nodes: [Shop; 2] = nodes_on(&redis.url()).await;
    let lamp = nodes[0].product("Lamp").create().await;
    a_write_is_seen(&nodes, 0, &lamp, "1.00").await;
    a_write_is_seen(&nodes, 1, &lamp, "2.00").await;
    assert!(nodes[0].log().contains("no connection to Redis"), "{}", nodes[0].log());
    redis.open().await;
    for node in &nodes {
        uses_redis(node, true).await;
    }
    a_write_is_seen(&nodes, 0, &lamp, "3.00").await;
}

#[tokio::test]
async fn a_node_that_alone_has_lost_redis_is_heard_of_by_the_database() {
    if redis_of_the_run().is_none() {
        return;
    }
    let redis = Redis::start().await;
    let line = redis.line().await;
    let a = Shop::start_with(&[("REDIS_URL", &redis.url())]).await;
    let b = a.node(&[("REDIS_URL", &line.url())]).await;
    let lamp = a.product("Lamp").stock(1_000).create().await;
    let ada = a.register("ada").await;
    let there = b.greet(&ada);
    let mut socket = ada.socket().await;
    let nodes = [a, b];
    a_write_is_seen(&nodes, 1, &lamp, "1.00").await;
    ada.cart().await;
    line.delay(DEADLINE);
    uses_redis(&nodes[1], false).await;
    uses_redis(&nodes[0], true).await;
    a_write_is_seen(&nodes, 0, &lamp, "2.00").await;
    nodes[1].admin().await.patch(&lamp.path(), json!({ "price": "3.00" })).await.is(200);
    let order = there.buy(&lamp, 1).await.id();
    there.fill_cart(&lamp, 2).await;
    within(2 * SOON, "a new price is seen", async || price_on(&nodes[0], &lamp).await == "3.00").await;
    within(2 * SOON, "a new level is seen", async || nodes[0].stock_of(&lamp).await == 999).await;
    within(2 * SOON, "the cart is seen", async || ada.cart().await["total_items"] == 2).await;
    assert_eq!(socket.next_of("order_created").await["order_id"], order);
}

#[tokio::test]
async fn tickets_and_sockets_live_through_an_outage() {
    if redis_of_the_run().is_none() {
        return;
    }
    let mut redis = Redis::start().await;
    let [a, b]: [Shop; 2] = nodes_on(&redis.url()).await;
    let lamp = a.product("Lamp").create().await;
    let ada = a.register("ada").await;
    let mut socket = b.greet(&ada).socket().await;
    redis.kill9().await;
    uses_redis(&a, false).await;
    // A ticket is good where it was given out, and the socket on the other node finds the events in the rows.
    let ticket = ada.post("/auth/api/ws-ticket/", json!({})).await.is(201).text("ticket").to_owned();
    ada.knock().query("ticket", &ticket).open().await.leave().await;
    let first = ada.buy(&lamp, 1).await.id();
    assert_eq!(socket.next_of("order_created").await["order_id"], first);
    redis.open().await;
    uses_redis(&a, true).await;
    uses_redis(&b, true).await;
    let second = ada.buy(&lamp, 1).await.id();
    assert_eq!(socket.next_of("order_created").await["order_id"], second);
    socket.is_quiet().await;
}

#[tokio::test]
async fn without_redis_for_a_moment_guesses_are_counted_and_a_success_counts() {
    if redis_of_the_run().is_none() {
        return;
    }
    let mut redis = Redis::start().await;
    let nodes: [Shop; 2] = nodes_on(&redis.url()).await;
    let [ada, bert] = [nodes[0].register("ada").await, nodes[0].register("bert").await];
    let log_in = async |node: &Shop, who: &Shopper, password: &str| {
        node.anyone()
            .post("/auth/api/token/", json!({ "email": who.email, "password": password }))
            .await
            .status
    };
    let guess = async |who: &Shopper, times: usize| {
        for _ in 0..times {
            assert_eq!(log_in(&nodes[0], who, "Wrong-Kite-42").await, 401);
        }
    };
    let all_use_redis = async || {
        for node in &nodes {
            uses_redis(node, true).await;
        }
    };
    all_use_redis().await;
    guess(&ada, 4).await;
    redis.freeze().await;
    uses_redis(&nodes[0], false).await;
    guess(&ada, 3).await;
    guess(&bert, 9).await;
    redis.thaw().await;
    all_use_redis().await;
    // Of the nine guesses Redis hears after this.
    assert_eq!(log_in(&nodes[1], &bert, PASSWORD).await, 200);
    guess(&bert, 1).await;
    assert_eq!(log_in(&nodes[0], &bert, PASSWORD).await, 200);

    guess(&ada, 2).await;
    redis.kill9().await;
    redis.open().await;
    all_use_redis().await;
    guess(&ada, 1).await;
    for node in &nodes {
        assert_eq!(log_in(node, &ada, PASSWORD).await, 429);
    }
}

#[tokio::test]
async fn a_redis_that_lets_nobody_in_ends_the_start_with_one_line() {
    if redis_of_the_run().is_none() {
        return;
    }
    let redis = Redis::start().await;
    redis.ask(&["config", "set", "requirepass", "open-sesame"]).await;
    let good = redis.url().replace("redis://", "redis://:open-sesame@");
    for (url, fails) in [
        (redis.url(), true),
        (redis.url().replace("redis://", "redis://:hunter2@"), true),
        (format!("{good}/200"), true),
        (good, false),
    ] {
        let mut shop = Shop::closed(&[("REDIS_URL", &url)]);
        if fails {
            let ran = shop.souk(&["serve"]).await.fails();
            let said: Vec<&str> = ran.err.lines().filter(|line| line.contains("souk: ")).collect();
            assert!(said.len() == 1 && said[0].contains("REDIS_URL"), "{}", ran.all());
            assert!(
                !ran.all().contains("hunter2") && !ran.all().contains("sesame"),
                "a secret\n{}",
                ran.all()
            );
        } else {
            shop.open().await;
            uses_redis(&shop, true).await;
        }
    }
}

#[tokio::test]
async fn a_node_is_killed_and_the_other_goes_on() {
    let Some([a, mut b]) = nodes().await else { return };
    let lamp = a.product("Lamp").stock(1_000).create().await;
    let ada = a.register("ada").await;
    let there = b.greet(&ada);
    let mut socket = there.socket().await;
    let mut orders = vec![ada.buy(&lamp, 1).await.id(), there.buy(&lamp, 1).await.id()];
    let mut last = 0;
    for order in &orders {
        let event = socket.next_of("order_created").await;
        assert_eq!(event["order_id"], *order);
        last = event["id"].as_i64().expect("a number");
    }
    b.admin().await.patch(&lamp.path(), json!({ "price": "7.00" })).await.is(200);
    orders.push(there.buy(&lamp, 1).await.id());
    b.kill9().await;
    let (_, code) = socket.rest().await;
    assert_eq!(code, None, "no farewell");
    // What it did is seen, and its socket goes on here where it was.
    within(SOON, "the last write of the dead is seen", async || price_on(&a, &lamp).await == "7.00").await;
    orders.push(ada.buy(&lamp, 1).await.id());
    let mut socket = ada.socket_from(last).await;
    for order in &orders[2..] {
        assert_eq!(socket.next_of("order_created").await["order_id"], *order);
    }
    socket.is_quiet().await;
    eventually("the silence is noticed", async || a.log().contains("another node fell silent")).await;
    orders.push(ada.buy(&lamp, 1).await.id());
    assert_eq!(socket.next_of("order_created").await["order_id"], orders[4]);
    assert_eq!(a.stock_of(&lamp).await, 1_000 - 5);
    b.open().await;
    assert_eq!(b.stock_of(&lamp).await, 1_000 - 5);
    assert_eq!(b.greet(&ada).get("/api/orders/").await.is(200).count(), 5);
    a.audit().await;
}
