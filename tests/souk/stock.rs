//! Stock: setting and moving it, changes that are made only if nothing else has changed, and the movements,
//! whose sum is the level at every moment.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Product, Shop};

/// Every movement of a product, newest first, across pages; asserted to add up to the level.
async fn movements(shop: &Shop, product: &Product) -> Vec<Value> {
    let admin = shop.admin().await;
    let mut rows = Vec::new();
    let mut next = Some(format!("{}?page_size=50", product.path_of("movements")));
    while let Some(path) = next {
        let page = admin.get(&path).await.is(200);
        rows.extend(page.results().clone());
        next = page["next"].as_str().map(str::to_owned);
    }
    let sum: i64 = rows.iter().map(|row| row["change"].as_i64().expect("a movement's `change`")).sum();
    assert_eq!(sum, shop.stock_of(product).await, "the level is the sum of its movements: {rows:?}");
    rows
}

async fn move_stock(shop: &Shop, product: &Product, body: Value) -> Answer {
    shop.admin().await.post(&product.path_of("stock"), body).await
}

#[tokio::test]
async fn stock_is_moved_and_set() {
    let shop = Shop::start().await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    let answer = move_stock(&shop, &lamp, json!({ "change": -3 })).await.is(200);
    assert_eq!((answer.id(), &answer["stock"]), (lamp.id, &json!(17)), "{answer}");
    assert_eq!(move_stock(&shop, &lamp, json!({ "change": 5 })).await.is(200)["stock"], 22);
    let answer = move_stock(&shop, &lamp, json!({ "change": -23 })).await.is(409);
    assert!(answer["detail"].is_string() && answer["stock"] == 22, "{answer}");
    let answer = move_stock(&shop, &lamp, json!({ "stock": 20, "was": 17 })).await.is(409);
    assert!(answer["detail"].is_string() && answer["stock"] == 22, "{answer}");
    let answer = move_stock(&shop, &lamp, json!({ "stock": 20, "was": 22 })).await.is(200);
    assert_eq!(answer["stock"], 20, "{answer}");
    let answer = move_stock(&shop, &lamp, json!({ "change": -20 })).await.is(200);
    assert_eq!((&answer["stock"], &answer["in_stock"]), (&json!(0), &json!(false)), "{answer}");
    let answer = move_stock(&shop, &lamp, json!({ "stock": 4, "was": 0 })).await.is(200);
    assert_eq!((&answer["stock"], &answer["in_stock"]), (&json!(4), &json!(true)), "{answer}");
    assert_eq!(shop.stock_of(&lamp).await, 4);
    let changes: Vec<Value> = movements(&shop, &lamp).await.iter().map(|row| row["change"].clone()).collect();
    assert_eq!(changes, [4, -20, -2, 5, -3, 20], "newest first");
    shop.audit().await;
}

#[tokio::test]
async fn bad_stock_moves_change_nothing() {
    let shop = Shop::start().await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    for body in [
        json!({}),
        json!({ "stock": 5 }),
        json!({ "was": 20 }),
        json!({ "change": null }),
        json!({ "change": "many" }),
        json!({ "change": 1.5 }),
        json!({ "change": true }),
        json!({ "change": [1] }),
        json!({ "change": 1e30 }),
        json!({ "change": -9_223_372_036_854_775_808_i64 }),
        json!({ "stock": -1, "was": 20 }),
        json!({ "stock": 2_147_483_648_i64, "was": 20 }),
        json!({ "stock": "x", "was": 20 }),
        json!({ "stock": 7, "was": null }),
        json!({ "stock": 7, "was": {} }),
    ] {
        move_stock(&shop, &lamp, body).await.is(400).refused_properly();
    }
    for far in [2_147_483_647_i64, 9_223_372_036_854_775_807] {
        let answer = move_stock(&shop, &lamp, json!({ "change": far })).await.refused_properly();
        assert!([400, 409].contains(&answer.status), "{answer}");
    }
    let nowhere = shop.admin().await.post("/api/products/999999/stock/", json!({ "change": 1 })).await;
    nowhere.is(404).has_detail("Not found.");
    shop.admin().await.get("/api/products/999999/movements/").await.is(404).has_detail("Not found.");
    assert_eq!(movements(&shop, &lamp).await.len(), 1, "the first stock alone");
}

#[tokio::test]
async fn every_change_of_stock_is_a_movement() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    let first = movements(&shop, &lamp).await;
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0]["kind"].is_string(), "{first:?}");

    let order = ada.buy(&lamp, 4).await.id();
    let sold = movements(&shop, &lamp).await;
    assert_eq!(sold[0]["change"], -4, "{sold:?}");
    assert_eq!(sold[0]["order"], order, "{sold:?}");
    let level_told = |row: &Value, level: i64| row.as_object().unwrap().values().any(|value| *value == level);
    assert!(level_told(&sold[0], 16), "the level after it is told: {sold:?}");
    assert_ne!(sold[0]["kind"], first[0]["kind"], "{sold:?}");

    admin.patch(&lamp.path(), json!({ "stock": 30 })).await.is(200);
    let put = json!({ "name": "Lamp", "price": "1.00", "category": shop.some_category().await, "stock": 25 });
    admin.put(&lamp.path(), put).await.is(200);
    ada.post(&format!("/api/orders/{order}/cancel/"), json!({})).await.is(200);
    let rows = movements(&shop, &lamp).await;
    let changes: Vec<Value> = rows.iter().map(|row| row["change"].clone()).collect();
    assert_eq!(changes, [4, -5, 14, -4, 20], "newest first");
    assert_eq!(rows[0]["order"], order, "{rows:?}");
    assert!(rows[1]["order"].is_null(), "{rows:?}");

    // What changes nothing moves nothing.
    admin.patch(&lamp.path(), json!({ "description": "Bright", "stock": 29 })).await.is(200);
    assert_eq!(movements(&shop, &lamp).await.iter().filter(|row| row["change"] != 0).count(), 5);
    let empty = shop.product("Nothing").stock(0).create().await;
    movements(&shop, &empty).await;
    shop.audit().await;
}

#[tokio::test]
async fn stock_left_out_of_a_change_stays() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    ada.buy(&lamp, 3).await;
    let answer = admin.patch(&lamp.path(), json!({ "description": "Bright" })).await.is(200);
    assert_eq!(answer["stock"], 17, "{answer}");
    let put = json!({ "name": "Lamp", "price": "2.00", "category": shop.some_category().await });
    assert_eq!(admin.put(&lamp.path(), put).await.is(200)["stock"], 17);
    assert_eq!(movements(&shop, &lamp).await.len(), 2);
}

#[tokio::test]
async fn if_match_refuses_what_has_changed_since() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let category = shop.some_category().await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    let tag = async || admin.get(&lamp.path()).await.is(200).header("etag").to_owned();
    let change = |method: Method, tag: &str, body: Value| {
        admin.call(method, &lamp.path()).header("if-match", tag).json(&body).send()
    };
    let described = |text: &str| json!({ "description": text });

    let first = tag().await;
    change(Method::PATCH, &first, described("one")).await.is(200);
    let refusal = change(Method::PATCH, &first, described("two")).await.is(412);
    assert!(refusal["detail"].is_string(), "{refusal}");
    assert_eq!(admin.get(&lamp.path()).await.is(200)["description"], "one");

    let second = tag().await;
    assert_ne!(first, second);
    ada.buy(&lamp, 1).await;
    change(Method::PATCH, &second, json!({ "stock": 20 })).await.is(412);
    let put = json!({ "name": "Lamp", "price": "1.00", "category": category, "stock": 20 });
    change(Method::PUT, &second, put.clone()).await.is(412);
    change(Method::DELETE, &second, json!({})).await.is(412);
    assert_eq!(shop.stock_of(&lamp).await, 19, "a stale write brings no sold unit back");

    for stale in ["\"another\"", "nonsense", &format!("\"another\", {second}")] {
        change(Method::PATCH, stale, described("three")).await.is(412);
    }
    let third = tag().await;
    change(Method::PUT, &third, put).await.is(200);
    assert_eq!(shop.stock_of(&lamp).await, 20);
    change(Method::PATCH, &format!("\"another\", {}", tag().await), described("four")).await.is(200);
    change(Method::PATCH, "*", described("five")).await.is(200);
    // A bad body is told before the tag is judged, or after; but it changes nothing.
    let answer = change(Method::PATCH, &tag().await, json!({ "price": "cheap" })).await;
    answer.refuses("price");
    change(Method::DELETE, &tag().await, json!({})).await.is(204);
    shop.audit().await;
}

#[tokio::test]
async fn one_of_many_writers_with_one_tag_wins() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    let answer = admin.get(&lamp.path()).await.is(200);
    let tag = answer.header("etag");
    let mut writers = tokio::task::JoinSet::new();
    for stock in 1..=12 {
        let call =
            admin.call(Method::PATCH, &lamp.path()).header("if-match", tag).json(&json!({ "stock": stock }));
        writers.spawn(call.send());
    }
    let answers = writers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 412).count(), 11, "{answers:?}");
    assert_eq!(movements(&shop, &lamp).await.len(), 2);
    shop.audit().await;
}
