//! Two and three nodes on one database and one Redis: what is done on one is so on all, whichever a client happens to
//! reach. Needs the servers that `scripts/test` starts; without them each test says that it is not run.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{
    PASSWORD, Product, Shop, Shopper, ask, at_once, count, nodes, redis_of_the_run, within,
};

/// How long a change may take to be seen on another node, as promised, with as much again for a slow machine.
const SOON: Duration = Duration::from_secs(2);

/// Places that show a product: its own page, and lists.
async fn shown(node: &Shop, product: &Product, field: &str) -> Vec<Value> {
    let anyone = node.anyone();
    let mut seen = vec![anyone.get(&product.path()).await.is(200)[field].clone()];
    for list in
        ["/api/products/", "/api/products/?search=lamp", "/api/products/?in_stock=true&ordering=price"]
    {
        let page = anyone.get(list).await.is(200);
        let row = page.results().iter().find(|row| row["id"] == product.id);
        seen.push(row.map_or(Value::Null, |row| row[field].clone()));
    }
    seen
}

#[tokio::test]
async fn a_write_is_seen_at_once_where_it_was_made_and_soon_everywhere() {
    let Some([a, b, c]) = nodes().await else { return };
    let lamp = a.product("Lamp").stock(50).create().await;
    for round in 0..6 {
        let writer = [&a, &b, &c][round % 3];
        let admin = writer.admin().await;
        let price = format!("{round}.50");
        admin.patch(&lamp.path(), json!({ "price": price })).await.is(200);
        let everywhere = vec![json!(price); 4];
        assert_eq!(shown(writer, &lamp, "price").await, everywhere, "at once on the node of the write");
        for node in [&a, &b, &c] {
            within(SOON, "a new price is seen", async || shown(node, &lamp, "price").await == everywhere)
                .await;
        }
        // Stock moves without a change of the product.
        let stock = 60 + round;
        admin
            .post(&lamp.path_of("stock"), json!({ "stock": stock, "was": writer.stock_of(&lamp).await }))
            .await
            .is(200);
        let everywhere = vec![json!(stock); 4];
        assert_eq!(shown(writer, &lamp, "stock").await, everywhere, "at once on the node of the write");
        for node in [&a, &b, &c] {
            within(SOON, "a new level is seen", async || shown(node, &lamp, "stock").await == everywhere)
                .await;
        }
    }
}

#[tokio::test]
async fn what_is_sold_out_renamed_or_gone_on_one_node_is_so_on_the_other() {
    let Some([a, b]) = nodes().await else { return };
    let lamp = a.product("Lamp").stock(1).create().await;
    let find = async |query: &str| b.anyone().get(&format!("/api/products/?{query}")).await.is(200).count();
    within(SOON, "it can be bought", async || find("in_stock=true").await == 1).await;
    let ada = a.register("ada").await;
    ada.buy(&lamp, 1).await;
    within(SOON, "it is sold out", async || {
        find("in_stock=true").await == 0 && find("in_stock=false").await == 1
    })
    .await;

    let category = a.new_category("Bath").await;
    a.admin().await.patch(&lamp.path(), json!({ "category": category })).await.is(200);
    within(SOON, "it is in the bath", async || find("search=bath").await == 1).await;
    a.admin().await.patch(&format!("/api/categories/{category}/"), json!({ "name": "Spa" })).await.is(200);
    within(SOON, "it is in the spa", async || {
        find("search=spa").await == 1 && find("search=bath").await == 0
    })
    .await;
    a.admin().await.delete(&lamp.path()).await.is(204);
    within(SOON, "it is gone", async || {
        b.anyone().get(&lamp.path()).await.status == 404 && find("").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_cart_is_one_cart_on_every_node() {
    let Some([a, b]) = nodes().await else { return };
    let lamp = a.product("Lamp").create().await;
    let here = a.register("ada").await;
    let there = b.greet(&here);
    // Both remember it as empty.
    assert_eq!(
        (here.cart().await["total_items"].clone(), there.cart().await["total_items"].clone()),
        (json!(0), json!(0))
    );
    // What was put in on one node can be bought on the other in the next breath, whoever remembers what.
    for _ in 0..10 {
        here.fill_cart(&lamp, 1).await;
        there.fill_cart(&lamp, 1).await;
        let line = here.put_in_cart(&lamp, 1).await.is(201);
        assert_eq!(line["quantity"], 3, "{line}");
        let item = format!("/api/cart/items/{}/", line.id());
        there.patch(&item, json!({ "quantity": 2 })).await.is(200);
        let order = here.checkout().await.is(201);
        assert_eq!(order["total_items"], 2, "{order}");
        let empty = there.checkout().await.is(400);
        assert_eq!(empty["detail"], "Cart is empty.");
    }
    there.fill_cart(&lamp, 5).await;
    within(SOON, "what is in the cart is seen", async || here.cart().await["total_items"] == 5).await;
    here.delete("/api/cart/").await.is(204);
    within(SOON, "that it is empty is seen", async || there.cart().await["total_items"] == 0).await;
    a.audit().await;
}

#[tokio::test]
async fn a_key_used_on_two_nodes_at_once_makes_one_order() {
    let Some([a, b]) = nodes().await else { return };
    let lamp = a.product("Lamp").stock(1_000).create().await;
    let ada = a.register("ada").await;
    for round in 0..10 {
        ada.fill_cart(&lamp, 1).await;
        let key = format!("round-{round}");
        let calls = (0..8).map(|number| if number % 2 == 0 { ada.clone() } else { b.greet(&ada) });
        let answers = at_once(calls.map(|ada| ada.checkout_with_key(&key).send())).await;
        let first = answers.iter().find(|answer| !answer.headers.contains_key("idempotent-replayed"));
        let first = first.expect("one of them is the first").json.clone();
        for answer in answers {
            assert_eq!(answer.is(201).json, first, "all get the one order");
        }
    }
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 10);
    a.audit().await;
}

#[tokio::test]
async fn twenty_units_sold_over_three_nodes_are_twenty_orders() {
    let Some([a, b, c]) = nodes().await else { return };
    let lamp = a.product("Lamp").stock(20).create().await;
    let buyers = a.register_many("buyer", 48).await;
    let doors = [&a, &b, &c];
    let buyers: Vec<_> =
        buyers.iter().enumerate().map(|(number, buyer)| doors[number % 3].greet(buyer)).collect();
    for buyer in &buyers {
        buyer.fill_cart(&lamp, 1).await;
    }
    let checkouts =
        buyers.iter().map(|buyer| buyer.call(Method::POST, "/api/orders/").json(&json!({})).send());
    let answers = at_once(checkouts).await;
    assert_eq!((count(&answers, 201), count(&answers, 409)), (20, 28));
    for node in doors {
        within(SOON, "that there is none left is seen", async || node.stock_of(&lamp).await == 0).await;
    }
    assert_eq!(b.admin().await.get("/api/orders/").await.is(200).count(), 20);
    a.audit().await;
}

#[tokio::test]
async fn a_status_change_on_one_node_reaches_a_socket_on_another_once() {
    let Some([a, b, c]) = nodes().await else { return };
    let lamp = a.product("Lamp").stock(1_000).create().await;
    let ada = a.register("ada").await;
    let mut sockets = [ada.socket().await, b.greet(&ada).socket().await, b.greet(&ada).socket().await];
    for round in 0..10 {
        let order = [&a, &b, &c][round % 3].greet(&ada).buy(&lamp, 1).await.id();
        let admin = [&b, &c, &a][round % 3].admin().await;
        admin.set_status(order, "shipped").await.is(200);
        for socket in &mut sockets {
            let created = socket.next_of("order_created").await;
            assert_eq!((&created["order_id"], &created["id"]), (&json!(order), &json!(2 * round + 1)));
            let shipped = socket.next_of("order_status_update").await;
            assert_eq!((&shipped["order_id"], &shipped["id"]), (&json!(order), &json!(2 * round + 2)));
        }
    }
    for mut socket in sockets {
        socket.is_quiet().await;
    }
}

#[tokio::test]
async fn a_refresh_token_is_used_once_on_whichever_node() {
    let Some([a, b]) = nodes().await else { return };
    let ada = a.register("ada").await;
    let there = b.greet(&ada);
    let refresh = |who: &Shopper, token: &str| {
        who.call(Method::POST, "/auth/api/token/refresh/").json(&json!({ "refresh": token })).send()
    };
    let doors = [&ada, &there, &ada, &there, &ada, &there];
    let answers = at_once(doors.map(|who| refresh(who, &ada.refresh))).await;
    assert_eq!((count(&answers, 200), count(&answers, 401)), (1, 5));
    // Used again, it has killed its family, on both.
    let newest = answers.iter().find(|answer| answer.status == 200).expect("one").text("refresh").to_owned();
    refresh(&there, &newest).await.is(401);
    let again = a.anyone().signed_in_as(&ada.email, PASSWORD).await;
    b.greet(&again).post("/auth/api/logout/", json!({ "refresh": again.refresh })).await.is(204);
    refresh(&ada, &again.refresh).await.is(401);
}

#[tokio::test]
async fn who_is_deactivated_on_one_node_is_out_on_the_others() {
    let Some([a, b]) = nodes().await else { return };
    let ada = a.register("ada").await;
    let there = b.greet(&ada);
    there.get("/auth/api/profile/").await.is(200);
    let mut socket = there.socket().await;
    a.admin()
        .await
        .patch(&format!("/auth/api/users/{}/", ada.id), json!({ "is_active": false }))
        .await
        .is(200);
    ada.get("/auth/api/profile/").await.is(401);
    within(SOON, "the token is no good", async || there.get("/auth/api/profile/").await.status == 401).await;
    assert_eq!(socket.closed_with().await, Some(4401));
}

#[tokio::test]
async fn a_ticket_of_one_node_opens_one_socket_on_another() {
    let Some([a, b]) = nodes().await else { return };
    let ada = a.register("ada").await;
    let there = b.greet(&ada);
    let ticket = ada.post("/auth/api/ws-ticket/", json!({})).await.is(201).text("ticket").to_owned();
    let mut socket = there.knock().query("ticket", &ticket).open().await;
    socket.is_quiet().await;
    for door in [&ada, &there] {
        assert_eq!(door.knock().query("ticket", &ticket).refused().await.0, 401, "once is once");
    }
    // Of more than ten that wait the oldest is no good any more.
    let mut tickets = Vec::new();
    for number in 0..11 {
        let door = if number % 2 == 0 { &ada } else { &there };
        tickets.push(door.post("/auth/api/ws-ticket/", json!({})).await.is(201).text("ticket").to_owned());
    }
    assert_eq!(there.knock().query("ticket", &tickets[0]).refused().await.0, 401);
    ada.knock().query("ticket", &tickets[1]).open().await.leave().await;
}

#[tokio::test]
async fn failed_logins_are_counted_over_all_nodes() {
    let Some([a, b]) = nodes().await else { return };
    let ada = a.register("ada").await;
    let bert = a.register("bert").await;
    let log_in = async |node: &Shop, who: &Shopper, password: &str| {
        node.anyone()
            .post("/auth/api/token/", json!({ "email": who.email, "password": password }))
            .await
            .status
    };
    for number in 0..10 {
        let node = if number % 2 == 0 { &a } else { &b };
        assert_eq!(log_in(node, &ada, "Wrong-Kite-42").await, 401);
    }
    for node in [&a, &b] {
        assert_eq!(log_in(node, &ada, PASSWORD).await, 429);
        assert_eq!(log_in(node, &bert, PASSWORD).await, 200);
    }
    // A success on one forgets the failures of the other.
    for number in 0..4 {
        for _ in 0..9 {
            assert_eq!(log_in(&a, &bert, "Wrong-Kite-42").await, 401);
        }
        assert_eq!(log_in(if number % 2 == 0 { &b } else { &a }, &bert, PASSWORD).await, 200);
    }
}

#[tokio::test]
async fn nothing_of_a_person_and_nothing_that_visitors_make_up_stands_in_redis() {
    let Some(redis) = redis_of_the_run() else { return };
    let Some([a, b]) = nodes().await else { return };
    let lamp = a.product("Lamp").stock(1_000).create().await;
    let ada = a.register("persephone").await;
    let secret_place = "17 Hidden Lane";
    ada.patch("/auth/api/profile/", json!({ "phone": "+49 30 555 017", "address": secret_place }))
        .await
        .is(200);
    let ticket = ada.post("/auth/api/ws-ticket/", json!({})).await.is(201).text("ticket").to_owned();
    a.anyone()
        .post("/auth/api/token/", json!({ "email": ada.email, "password": "Wrong-Kite-42" }))
        .await
        .is(401);
    ada.fill_cart(&lamp, 1).await;
    let body = json!({ "shipping_address": secret_place, "phone": "+49 30 555 017" });
    ada.post("/api/orders/", body).await.is(201);
    for node in [&a, &b] {
        shown(node, &lamp, "price").await;
        node.greet(&ada).get("/auth/api/profile/").await.is(200);
        node.anyone().get("/api/products/?search=persephone@example.com").await.is(200);
    }
    // Other tests use the same Redis: only this shop's keys, told by its product.
    let keys = ask(&redis, &["--scan", "--pattern", "souk:*"]).await;
    let mut of_shop = None;
    for key in keys.lines().filter(|key| key.ends_with(&format!(":product:{}", lamp.id))) {
        let value = ask(&redis, &["get", key]).await;
        if value.contains(&lamp.json["created_at"].as_str().unwrap()[..26]) {
            of_shop = key.split(':').nth(1).map(str::to_owned);
        }
    }
    let prefix = format!("souk:{}:", of_shop.expect("the shop's product is in Redis"));
    let keys_of_shop = async || -> Vec<String> {
        let keys = ask(&redis, &["--scan", "--pattern", &format!("{prefix}*")]).await;
        keys.lines().map(str::to_owned).collect()
    };
    let before = keys_of_shop().await;
    let mut all = String::new();
    for key in &before {
        let command = match ask(&redis, &["type", key]).await.trim() {
            "hash" => vec!["hgetall", key],
            "list" => vec!["lrange", key, "0", "-1"],
            _ => vec!["get", key],
        };
        all += &format!("{key}\n{}\n", ask(&redis, &command).await);
    }
    assert!(all.contains("tries-at:") && all.contains("ticket:") && all.contains("page:"), "{all}");
    for personal in ["persephone", "30 555 017", "Hidden Lane", &ticket, &ada.access, &ada.refresh, PASSWORD]
    {
        assert!(!all.contains(personal), "{personal} stands in Redis:\n{all}");
    }

    let mut readers = JoinSet::new();
    for reader in 0..16 {
        let (anyone, lamp) = (if reader % 2 == 0 { a.anyone() } else { b.anyone() }, lamp.clone());
        readers.spawn(async move {
            for number in 0..10_000 / 16 {
                let path = match number % 4 {
                    0 => format!("/api/products/?utm_{reader}_{number}=x"),
                    1 => format!("{}?x{reader}={number}", lamp.path()),
                    2 => format!("/api/categories/?nonce={reader}.{number}"),
                    _ => format!("/api/products/?cachebuster={}&page=1", reader * 10_000 + number),
                };
                anyone.get(&path).await.is(200);
            }
        });
    }
    readers.join_all().await;
    let after = keys_of_shop().await;
    assert!(after.len() <= before.len() + 5, "{} keys became {}: {after:?}", before.len(), after.len());
}

#[tokio::test]
async fn two_shops_on_one_redis_do_not_know_each_other() {
    let Some([a]) = nodes::<1>().await else { return };
    let Some([other]) = nodes::<1>().await else { return };
    let (lamp, vase) = (a.product("Lamp").create().await, other.product("Vase").create().await);
    assert_eq!(lamp.id, vase.id, "the test is about products of the same id");
    for _ in 0..3 {
        assert_eq!(a.anyone().get(&lamp.path()).await.is(200)["name"], "Lamp");
        assert_eq!(other.anyone().get(&vase.path()).await.is(200)["name"], "Vase");
    }
    let ada = a.register("ada").await;
    let stranger = other.register("bert").await;
    assert_eq!(ada.id, stranger.id);
    let mut socket = stranger.socket().await;
    ada.buy(&lamp, 1).await;
    socket.is_quiet().await;
}
