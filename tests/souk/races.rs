//! Many at once, for real: whatever interleaving there is, what is sold adds up, and of those who ask for the
//! same thing exactly one gets it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Product, Shop, Shopper, at_once, count};

fn checkout_of(shopper: &Shopper) -> impl Future<Output = Answer> + Send + 'static {
    shopper.call(Method::POST, "/api/orders/").json(&json!({})).send()
}

async fn fill(shoppers: &[Shopper], lines: &[(&Product, i64)]) {
    for shopper in shoppers {
        for (product, quantity) in lines {
            shopper.fill_cart(product, *quantity).await;
        }
    }
}

#[tokio::test]
async fn sixty_four_clients_buy_exactly_the_twenty_there_are() {
    let shop = Shop::start().await;
    let shoppers = shop.register_many("buyer", 64).await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    fill(&shoppers, &[(&lamp, 1)]).await;
    let answers = at_once(shoppers.iter().map(checkout_of)).await;
    assert_eq!((count(&answers, 201), count(&answers, 409)), (20, 44));
    for answer in answers.iter().filter(|answer| answer.status == 409) {
        assert_eq!(
            answer["items"],
            json!([{ "product": lamp.id, "requested": 1, "available": 0 }]),
            "{answer}"
        );
    }
    assert_eq!(shop.stock_of(&lamp).await, 0);
    assert_eq!(shop.admin().await.get("/api/orders/").await.is(200).count(), 20);
    let mut kept = 0;
    for shopper in &shoppers {
        kept += shopper.cart().await["total_items"].as_i64().expect("a number");
    }
    assert_eq!(kept, 44, "who went without keeps the cart");
    shop.audit().await;
}

#[tokio::test]
async fn thirty_checkouts_of_one_cart_make_one_order() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(100).create().await;
    ada.fill_cart(&lamp, 3).await;
    let answers = at_once((0..30).map(|_| checkout_of(&ada))).await;
    assert_eq!((count(&answers, 201), count(&answers, 400)), (1, 29), "{answers:?}");
    for answer in answers.into_iter().filter(|answer| answer.status == 400) {
        answer.has_detail("Cart is empty.");
    }
    assert_eq!(shop.stock_of(&lamp).await, 97);
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 1);
    shop.audit().await;
}

#[tokio::test]
async fn additions_at_once_stop_at_the_stock() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(10).create().await;
    let body = json!({ "product_id": lamp.id, "quantity": 1 });
    let add = || ada.call(Method::POST, "/api/cart/items/").json(&body).send();
    let answers = at_once((0..30).map(|_| add())).await;
    assert_eq!((count(&answers, 201), count(&answers, 400)), (10, 20));
    let mut quantities: Vec<i64> = answers.iter().filter_map(|answer| answer["quantity"].as_i64()).collect();
    quantities.sort_unstable();
    assert_eq!(quantities, (1..=10).collect::<Vec<_>>(), "each saw what it made");
    assert_eq!(ada.cart().await["total_items"], 10);
}

#[tokio::test]
async fn additions_and_checkouts_at_once_lose_nothing() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(1_000).create().await;
    let body = json!({ "product_id": lamp.id, "quantity": 1 });
    let mut asking = Vec::new();
    for number in 0..60 {
        asking.push(if number % 3 == 2 {
            ada.call(Method::POST, "/api/orders/").json(&json!({})).send()
        } else {
            ada.call(Method::POST, "/api/cart/items/").json(&body).send()
        });
    }
    let answers = at_once(asking).await;
    assert!(answers.iter().all(|answer| [201, 400].contains(&answer.status)), "{answers:?}");
    let added = answers.iter().filter(|answer| !answer["quantity"].is_null()).count();
    assert_eq!(added, 40);
    let orders = ada.get("/api/orders/?page_size=100").await.is(200);
    let bought: i64 = orders.results().iter().filter_map(|order| order["total_items"].as_i64()).sum();
    let left = ada.cart().await["total_items"].as_i64().expect("a number");
    assert_eq!(bought + left, 40, "{orders}");
    assert_eq!(shop.stock_of(&lamp).await, 1_000 - bought);
    shop.audit().await;
}

#[tokio::test]
async fn two_products_bought_in_opposite_order_by_many() {
    let shop = Shop::start().await;
    let shoppers = shop.register_many("buyer", 40).await;
    let lamp = shop.product("Lamp").stock(25).create().await;
    let soap = shop.product("Soap").stock(30).create().await;
    let (here, there) = shoppers.split_at(20);
    fill(here, &[(&lamp, 1), (&soap, 1)]).await;
    fill(there, &[(&soap, 1), (&lamp, 1)]).await;
    let turns = here.iter().zip(there).flat_map(|(one, other)| [one, other]);
    let answers = at_once(turns.map(checkout_of)).await;
    assert_eq!((count(&answers, 201), count(&answers, 409)), (25, 15));
    assert_eq!((shop.stock_of(&lamp).await, shop.stock_of(&soap).await), (0, 5));
    shop.audit().await;
}

#[tokio::test]
async fn editing_a_product_does_not_bring_sold_units_back() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let shoppers = shop.register_many("buyer", 24).await;
    let lamp = shop.product("Lamp").stock(10).create().await;
    fill(&shoppers, &[(&lamp, 1)]).await;
    let category = shop.some_category().await;
    let mut asking = Vec::new();
    for (number, shopper) in shoppers.iter().enumerate() {
        asking.push(shopper.call(Method::POST, "/api/orders/").json(&json!({})).send());
        let text = format!("Described {number} times");
        let patch = json!({ "description": text });
        asking.push(admin.call(Method::PATCH, &lamp.path()).json(&patch).send());
        let put = json!({ "name": "Lamp", "price": "10.00", "category": category, "description": text });
        asking.push(admin.call(Method::PUT, &lamp.path()).json(&put).send());
    }
    let answers = at_once(asking).await;
    assert_eq!((count(&answers, 201), count(&answers, 409)), (10, 14), "{answers:?}");
    assert_eq!(count(&answers, 200), 48);
    assert_eq!(shop.stock_of(&lamp).await, 0);
    shop.audit().await;
}

#[tokio::test]
async fn stock_moved_while_it_sells_adds_up() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let shoppers = shop.register_many("buyer", 20).await;
    let lamp = shop.product("Lamp").stock(10).create().await;
    fill(&shoppers, &[(&lamp, 1)]).await;
    let mut asking = Vec::new();
    for (number, shopper) in shoppers.iter().enumerate() {
        asking.push(shopper.call(Method::POST, "/api/orders/").json(&json!({})).send());
        let change = if number % 2 == 0 { 2 } else { -1 };
        let body = json!({ "change": change });
        asking.push(admin.call(Method::POST, &lamp.path_of("stock")).json(&body).send());
    }
    let answers = at_once(asking).await;
    assert!(answers.iter().all(|answer| [200, 201, 409].contains(&answer.status)), "{answers:?}");
    let rows = admin.get(&format!("{}?page_size=100", lamp.path_of("movements"))).await.is(200);
    let sum: i64 = rows.results().iter().filter_map(|row| row["change"].as_i64()).sum();
    assert_eq!(shop.stock_of(&lamp).await, sum, "{rows}");
    let sold = i64::try_from(count(&answers, 201)).expect("a small number");
    let orders = admin.get("/api/orders/").await.is(200).count();
    assert_eq!(orders, sold);
    shop.audit().await;
}

#[tokio::test]
async fn one_of_ten_who_saw_the_same_level_sets_it() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    let set = |stock: i64| {
        admin.call(Method::POST, &lamp.path_of("stock")).json(&json!({ "stock": stock, "was": 20 })).send()
    };
    let answers = at_once((100..110).map(set)).await;
    assert_eq!((count(&answers, 200), count(&answers, 409)), (1, 9), "{answers:?}");
    shop.audit().await;
}

#[tokio::test]
async fn many_cancels_put_stock_back_once() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(10).create().await;
    let order = ada.buy(&lamp, 4).await.id();
    let cancel = || ada.call(Method::POST, &format!("/api/orders/{order}/cancel/")).json(&json!({})).send();
    let answers = at_once((0..12).map(|_| cancel())).await;
    assert_eq!(count(&answers, 200), 12, "{answers:?}");
    assert_eq!(shop.stock_of(&lamp).await, 10);
    let history = ada.get(&format!("/api/orders/{order}/")).await.is(200)["status_history"].clone();
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history}");
    assert_eq!(ada.get("/api/notifications/").await.is(200).count(), 2);
    shop.audit().await;
}

#[tokio::test]
async fn an_order_is_shipped_or_cancelled_but_not_both() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").stock(100).create().await;
    let mut sold = 0;
    for _ in 0..10 {
        let order = ada.buy(&lamp, 1).await.id();
        let ship = admin.call(Method::PATCH, &format!("/api/orders/{order}/status/"));
        let ship = ship.json(&json!({ "status": "shipped" })).send();
        let cancel = ada.call(Method::POST, &format!("/api/orders/{order}/cancel/")).json(&json!({})).send();
        let answers = at_once([ship, cancel]).await;
        assert_eq!((count(&answers, 200), count(&answers, 400)), (1, 1), "{answers:?}");
        let status = ada.get(&format!("/api/orders/{order}/")).await.is(200)["status"].clone();
        let won: Vec<&Value> =
            answers.iter().filter(|answer| answer.status == 200).map(|answer| &answer["status"]).collect();
        assert_eq!(won, [&status]);
        sold += i64::from(status == "shipped");
    }
    assert_eq!(shop.stock_of(&lamp).await, 100 - sold);
    shop.audit().await;
}

#[tokio::test]
async fn one_of_eight_refreshes_wins() {
    let shop = Shop::start().await;
    for name in ["ada", "bea", "cleo"] {
        let shopper = shop.register(name).await;
        let body = json!({ "refresh": shopper.refresh });
        let refresh = || shop.anyone().call(Method::POST, "/auth/api/token/refresh/").json(&body).send();
        let answers = at_once((0..8).map(|_| refresh())).await;
        assert_eq!((count(&answers, 200), count(&answers, 401)), (1, 7), "{answers:?}");
        // Seven came with a token that was used: the family is dead, the winner's child with it.
        let winner = answers.iter().find(|answer| answer.status == 200).expect("a winner");
        let child = json!({ "refresh": winner.text("refresh") });
        shop.anyone().post("/auth/api/token/refresh/", child).await.is(401);
    }
}

#[tokio::test]
async fn of_two_registrations_with_one_name_one_succeeds() {
    let shop = Shop::start().await;
    for (round, field) in ["email", "username", "email", "username"].into_iter().enumerate() {
        let papers = |number: usize| {
            let mut papers = Shopper::papers(&format!("user{round}x{number}"));
            let shared = format!("Shared{round}@example.com");
            papers[field] = if number == 0 { shared.to_lowercase().into() } else { shared.into() };
            shop.anyone().call(Method::POST, "/auth/api/register/").json(&papers).send()
        };
        let answers = at_once((0..2).map(papers)).await;
        assert_eq!((count(&answers, 201), count(&answers, 400)), (1, 1), "{answers:?}");
        for answer in answers.into_iter().filter(|answer| answer.status == 400) {
            assert_eq!(answer.refuses(field).refused_fields(), [field]);
        }
    }
    assert_eq!(shop.admin().await.get("/auth/api/users/?is_admin=false").await.is(200).count(), 4);
}

#[tokio::test]
async fn of_many_with_one_name_in_the_catalogue_one_is_made() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let category = shop.some_category().await;
    let named = |number: usize| {
        let name = if number.is_multiple_of(2) { "Lights" } else { "LIGHTS" };
        admin.call(Method::POST, "/api/categories/").json(&json!({ "name": name })).send()
    };
    let answers = at_once((0..8).map(named)).await;
    assert_eq!((count(&answers, 201), count(&answers, 400)), (1, 7), "{answers:?}");
    let product = |number: usize| {
        let body =
            json!({ "name": format!("Lamp {number}"), "price": 1, "category": category, "sku": "LAMP" });
        admin.call(Method::POST, "/api/products/").json(&body).send()
    };
    let answers = at_once((0..8).map(product)).await;
    assert_eq!((count(&answers, 201), count(&answers, 400)), (1, 7), "{answers:?}");
    for answer in answers.into_iter().filter(|answer| answer.status == 400) {
        answer.refuses("sku");
    }
}

#[tokio::test]
async fn two_admins_cannot_lock_each_other_out() {
    let shop = Shop::start().await;
    let (one, other) = (shop.admin().await, shop.another_admin("other").await);
    for _ in 0..5 {
        let demote = |by: &Shopper, of: &Shopper| {
            let call = by.call(Method::PATCH, &format!("/auth/api/users/{}/", of.id));
            call.json(&json!({ "is_admin": false })).send()
        };
        let answers = at_once([demote(&one, &other), demote(&other, &one)]).await;
        assert_eq!(count(&answers, 200), 1, "{answers:?}");
        let mut left = Vec::new();
        for admin in [&one, &other] {
            let answer = admin.get("/auth/api/users/?is_admin=true").await;
            if answer.status == 200 {
                assert_eq!(answer.count(), 1, "{answer}");
                left.push(admin);
            }
        }
        assert_eq!(left.len(), 1, "one admin is left");
        for of in [&one, &other] {
            let again = json!({ "is_admin": true });
            left[0].patch(&format!("/auth/api/users/{}/", of.id), again).await.is(200);
        }
    }
}
