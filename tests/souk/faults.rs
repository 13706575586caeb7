//! What the machine and the neighbours do to a shop: no more file descriptors, files that may not grow, a disk that is full,
//! rows that somebody else holds, peers that vanish without a word, a clock that jumps. Every request ends with an answer or
//! a 503, and afterwards the books are right and every order that was acknowledged is there.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::harness::{
    Answer, DEADLINE, Form, PASSWORD, Product, Proxy, Shop, Shopper, SmallDisk, eventually, jpeg,
};

/// The contract gives a request three seconds; a machine that is busy with other tests gets more.
const LONGEST_ANSWER: Duration = Duration::from_secs(6);
/// How long somebody else holds a row: ten times as long as a request may take.
const LOCKED_FOR: Duration = Duration::from_secs(30);

/// Orders that were acknowledged, and who placed them.
struct Receipts {
    buyer: Shopper,
    orders: Vec<i64>,
}

impl Receipts {
    fn of(buyer: &Shopper) -> Self {
        Self { buyer: buyer.clone(), orders: Vec::new() }
    }

    /// Fills the cart if it can and orders; gives whether it got an order. Whatever comes is an answer in time.
    async fn try_to_buy(&mut self, product: &Product) -> bool {
        let item = json!({ "product_id": product.id, "quantity": 1 });
        let adding = self.buyer.call(Method::POST, "/api/cart/items/").json(&item);
        if in_time(adding.send()).await.status != 201 {
            return false;
        }
        let ordering = self.buyer.call(Method::POST, "/api/orders/").json(&json!({}));
        let answer = in_time(ordering.send()).await;
        if answer.status == 201 {
            self.orders.push(answer.id());
        }
        answer.status == 201
    }

    /// Buys again and again until it gets an order.
    async fn buys_again(&mut self, product: &Product) {
        let until = Instant::now() + DEADLINE;
        while !self.try_to_buy(product).await {
            assert!(Instant::now() < until, "the shop sells again");
        }
    }

    async fn are_all_there(&self) {
        for order in &self.orders {
            self.buyer.get(&format!("/api/orders/{order}/")).await.is(200);
        }
    }
}

/// The answer, which must not take too long nor be anything but a success, a conflict with what came of an earlier try, or
/// the documented refusal.
async fn in_time(asked: impl Future<Output = Answer>) -> Answer {
    let Ok(answer) = timeout(LONGEST_ANSWER, asked).await else {
        panic!("a request hangs for longer than {LONGEST_ANSWER:?}");
    };
    assert!([200, 201, 204, 400, 409, 503].contains(&answer.status), "{answer}");
    if answer.status == 503 {
        answer.header("retry-after");
    }
    answer
}

/// Creates a product with an image; what came of it.
async fn upload(admin: &Shopper, category: i64, name: &str) -> u16 {
    let category = category.to_string();
    let form = Form::new().text("name", name).text("price", "1.00").text("category", &category);
    let form = form.file("image", &jpeg(400, 400, 9));
    in_time(form.put_into(admin.call(Method::POST, "/api/products/")).send()).await.status
}

async fn shop_with_a_lamp() -> (Shop, Product, Shopper) {
    let shop = Shop::start().await;
    let lamp = shop.product("Lamp").stock(1_000).create().await;
    let ada = shop.register("ada").await;
    (shop, lamp, ada)
}

#[tokio::test]
async fn rows_that_somebody_else_holds_are_waited_for_briefly_and_nothing_hangs() {
    let (shop, lamp, ada) = shop_with_a_lamp().await;
    let mut receipts = Receipts::of(&ada);
    assert!(receipts.try_to_buy(&lamp).await);
    let buyers = shop.register_many("buyer", 6).await;
    let held = shop.hold(&lamp).await;
    let mut buying = JoinSet::new();
    for buyer in buyers {
        let lamp = lamp.clone();
        buying.spawn(async move { in_time(buyer.put_in_cart(&lamp, 1)).await.status });
    }
    let began = Instant::now();
    let mut refused = 0;
    while began.elapsed() < LOCKED_FOR {
        refused += usize::from(!receipts.try_to_buy(&lamp).await);
        shop.anyone().get(&lamp.path()).await.is(200);
    }
    assert!(refused > 0, "somebody else held the row");
    for status in buying.join_all().await {
        assert!([201, 503].contains(&status), "{status}");
    }
    held.let_go().await;
    receipts.buys_again(&lamp).await;
    receipts.are_all_there().await;
    shop.audit().await;
}

#[tokio::test]
async fn files_that_may_not_grow_cost_refusals_and_no_order() {
    let (shop, lamp, ada) = shop_with_a_lamp().await;
    let mut receipts = Receipts::of(&ada);
    for _ in 0..3 {
        assert!(receipts.try_to_buy(&lamp).await);
    }
    let (category, admin) = (shop.some_category().await, shop.admin().await);
    let upload = async |name: &str| upload(&admin, category, name).await;
    // What is written now is the end of it: the next page of the log, the first piece of an image.
    shop.limit("fsize", Some(4096)).await;
    assert_eq!(upload("Rug").await, 503, "an image without a place");
    if !shop.is_on_postgres() {
        for _ in 0..4 {
            assert!(!receipts.try_to_buy(&lamp).await, "an order without a place");
        }
        shop.anyone().get(&lamp.path()).await.is(200);
    }
    shop.limit("fsize", None).await;
    receipts.buys_again(&lamp).await;
    eventually("images are stored again", async || upload("Rug").await == 201).await;
    receipts.are_all_there().await;
    shop.audit().await;
}

#[tokio::test]
async fn a_disk_that_is_full_costs_refusals_and_no_order() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let (database, media) = (format!("sqlite://{}", disk.path("souk.db")), disk.path("media"));
    let mut shop = Shop::embedded(&[("DATABASE_URL", &database), ("MEDIA_ROOT", &media)]);
    shop.open().await;
    let lamp = shop.product("Lamp").stock(1_000).create().await;
    let mut receipts = Receipts::of(&shop.register("ada").await);
    let (category, admin) = (shop.some_category().await, shop.admin().await);
    let upload = async |name: &str| upload(&admin, category, name).await;
    assert_eq!(upload("Rug").await, 201);
    for killed in [false, true] {
        for _ in 0..3 {
            assert!(receipts.try_to_buy(&lamp).await);
        }
        disk.fill();
        for _ in 0..4 {
            assert!(!receipts.try_to_buy(&lamp).await, "an order without a place");
        }
        assert_eq!(upload("Pot").await, 503, "an image without a place");
        shop.anyone().get(&lamp.path()).await.is(200);
        if killed {
            shop.kill9().await;
        }
        disk.clear();
        if killed {
            shop.open().await;
        }
        receipts.buys_again(&lamp).await;
    }
    eventually("images are stored again", async || upload("Pot").await == 201).await;
    receipts.are_all_there().await;
    shop.audit().await;
}

#[tokio::test]
async fn descriptors_that_are_used_up_keep_nobody_out_for_longer_than_they_are() {
    let (shop, lamp, ada) = shop_with_a_lamp().await;
    let mut receipts = Receipts::of(&ada);
    // Until now on a connection that stays open.
    assert!(receipts.try_to_buy(&lamp).await);
    let address = shop.address();
    shop.limit("nofile", Some(shop.open_files() as u64 + 8)).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        // The system connects; the server cannot accept all of them.
        idle.push(TcpStream::connect(&address).await.expect("a queue that is not full"));
    }
    for _ in 0..5 {
        receipts.try_to_buy(&lamp).await;
    }
    let lines = shop.log().lines().count();
    assert!(lines < 500, "{lines} lines were logged");
    drop(idle);
    shop.limit("nofile", None).await;
    eventually("new connections are accepted", async || {
        let Ok(mut stream) = TcpStream::connect(&address).await else { return false };
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok()
            && matches!(timeout(LONGEST_ANSWER, stream.read_u8()).await, Ok(Ok(b'H')))
    })
    .await;
    receipts.buys_again(&lamp).await;
    receipts.are_all_there().await;
    shop.audit().await;
}

#[tokio::test]
async fn peers_that_vanish_without_a_word_hold_up_nobody() {
    let (mut shop, lamp, ada) = shop_with_a_lamp().await;
    let proxy = Proxy::before(&shop).await;
    let mut receipts = Receipts::of(&ada);
    let mut lost = Vec::new();
    for _ in 0..10 {
        lost.push(ada.knock_at(&proxy.url()).bearer(&ada.access).open().await);
    }
    let mut live = ada.socket().await;
    // Half of a request each, of whose rest nobody hears any more.
    let mut halves = Vec::new();
    for _ in 0..10 {
        let mut half = TcpStream::connect(proxy.address()).await.expect("the proxy listens");
        let head = b"POST /api/orders/ HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
        half.write_all(head).await.expect("a half");
        halves.push(half);
    }
    proxy.fall_silent();
    for _ in 0..5 {
        assert!(receipts.try_to_buy(&lamp).await);
        live.next_of("order_created").await;
    }
    receipts.are_all_there().await;
    let began = Instant::now();
    assert_eq!(shop.terminate().await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15), "a stop took {:?}", began.elapsed());
    drop((lost, halves));
    shop.audit().await;
}

#[tokio::test]
async fn a_clock_that_jumps_an_hour_and_back_loses_nothing() {
    let Some(library) = Shop::clock_library() else {
        eprintln!("not run: there is no libfaketime (the package faketime, which scripts/test installs)");
        return;
    };
    let (mut shop, lamp, ada) = shop_with_a_lamp().await;
    let mut receipts = Receipts::of(&ada);
    let key = |buyer: &Shopper| buyer.checkout_with_key("over-the-hour");
    ada.fill_cart(&lamp, 1).await;
    let first = key(&ada).send().await.is(201);
    receipts.orders.push(first.id());
    for hour in ["+3600", "-3600", "+0"] {
        shop.kill9().await;
        shop.set("LD_PRELOAD", &library);
        shop.set("FAKETIME", hour);
        shop.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        shop.open().await;
        // A token of another hour is taken or refused; a new one is good.
        let old = ada.get("/auth/api/profile/").await;
        assert!([200, 401].contains(&old.status), "{old}");
        let login = json!({ "email": ada.email, "password": PASSWORD });
        let tokens = shop.anyone().post("/auth/api/token/", login).await.is(200);
        receipts.buyer = ada.bearing(tokens.text("access"));
        for _ in 0..3 {
            assert!(receipts.try_to_buy(&lamp).await, "at {hour} the shop sells");
        }
        let again = key(&receipts.buyer).send().await.is(201);
        assert_eq!(again.id(), first.id(), "at {hour} the key is known");
        receipts.are_all_there().await;
        let mut socket = receipts.buyer.socket_from(0).await;
        for order in &receipts.orders {
            assert_eq!(socket.next_of("order_created").await["order_id"], *order, "events keep their order");
        }
        // With a clock of its own, since nothing of that depends on it.
        shop.audit().await;
    }
}
