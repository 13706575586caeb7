//! The cart: its lines, its sums, what cannot be put into it, and that it is its owner's alone.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Shop, Shopper};

fn line(item: i64) -> String {
    format!("/api/cart/items/{item}/")
}

/// The cart's lines as pairs of product and quantity.
fn lines(cart: &Answer) -> Vec<(Value, Value)> {
    let items = cart["items"].as_array().unwrap_or_else(|| panic!("a cart has `items`\n{cart}"));
    items.iter().map(|item| (item["product"]["id"].clone(), item["quantity"].clone())).collect()
}

#[tokio::test]
async fn a_cart_is_there_from_the_start_and_adds_up() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let empty = ada.cart().await;
    assert_eq!(
        empty.refused_fields(),
        ["id", "items", "total_items", "total_price", "updated_at"],
        "{empty}"
    );
    assert_eq!((&empty["items"], &empty["total_items"]), (&json!([]), &json!(0)), "{empty}");
    assert_eq!(empty["total_price"], "0.00", "{empty}");

    let lamp = shop.product("Lamp").price("19.99").stock(20).with("sku", "LAMP-1").create().await;
    let soap = shop.product("Soap").price("0.10").stock(50).create().await;
    let item = ada.put_in_cart(&lamp, 2).await.is(201);
    assert_eq!(item.refused_fields(), ["id", "product", "quantity", "subtotal"], "{item}");
    assert_eq!((&item["quantity"], &item["subtotal"]), (&json!(2), &json!("39.98")), "{item}");
    let expected = json!({ "id": lamp.id, "name": "Lamp", "price": "19.99", "sku": "LAMP-1", "image": null,
        "stock": 20, "in_stock": true });
    assert_eq!(item["product"], expected, "{item}");
    ada.put_in_cart(&soap, 3).await.is(201);

    let cart = ada.cart().await;
    assert_eq!(cart.id(), empty.id(), "{cart}");
    assert_eq!((&cart["total_items"], &cart["total_price"]), (&json!(5), &json!("40.28")), "{cart}");
    assert_eq!(cart["items"][0], item.json, "{cart}");
    assert_eq!(cart["items"][1]["subtotal"], "0.30", "{cart}");

    // Today's price counts, not that of the day it went in.
    shop.admin().await.patch(&lamp.path(), json!({ "price": "10.00" })).await.is(200);
    let cart = ada.cart().await;
    assert_eq!(cart["total_price"], "20.30", "{cart}");

    ada.delete("/api/cart/").await.is(204);
    let cart = ada.cart().await;
    assert_eq!((&cart["items"], &cart["total_price"]), (&json!([]), &json!("0.00")), "{cart}");
    ada.delete("/api/cart/").await.is(204);
}

#[tokio::test]
async fn the_same_product_again_adds_to_its_line() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(5).create().await;
    let first = ada.put_in_cart(&lamp, 2).await.is(201);
    let again = ada.post("/api/cart/items/", json!({ "product_id": lamp.id })).await.is(201);
    assert_eq!((again.id(), &again["quantity"]), (first.id(), &json!(3)), "one is the default\n{again}");
    let refusal = ada.put_in_cart(&lamp, 3).await.refuses("quantity");
    assert!(refusal.messages("quantity").join(" ").contains('5'), "how many there are\n{refusal}");
    assert_eq!(lines(&ada.cart().await), [(json!(lamp.id), json!(3))], "a refused one adds nothing");
    ada.put_in_cart(&lamp, 2).await.is(201);
}

#[tokio::test]
async fn a_line_is_changed_and_removed() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").price("2.50").stock(9).create().await;
    let item = ada.put_in_cart(&lamp, 1).await.is(201).id();
    let put = ada.put(&line(item), json!({ "quantity": 4 })).await.is(200);
    assert_eq!((&put["quantity"], &put["subtotal"]), (&json!(4), &json!("10.00")), "{put}");
    let patch = ada.patch(&line(item), json!({ "quantity": 9, "product_id": 999 })).await.is(200);
    assert_eq!((&patch["quantity"], &patch["product"]["id"]), (&json!(9), &json!(lamp.id)), "{patch}");
    let refusal = ada.put(&line(item), json!({ "quantity": 10 })).await.refuses("quantity");
    assert!(refusal.messages("quantity").join(" ").contains('9'), "how many there are\n{refusal}");
    ada.put(&line(item), json!({})).await.refuses_with("quantity", "This field is required.");
    for (bad, message) in [
        (json!(0), "Ensure this value is greater than or equal to 1."),
        (json!(-3), "Ensure this value is greater than or equal to 1."),
        (json!("many"), "A valid integer is required."),
        (json!(1.5), "A valid integer is required."),
        (json!(null), "This field may not be null."),
    ] {
        let body = json!({ "quantity": bad });
        ada.put(&line(item), body.clone()).await.refuses_with("quantity", message);
        ada.patch(&line(item), body).await.refuses_with("quantity", message);
    }
    assert_eq!(ada.cart().await["total_items"], 9);
    ada.delete(&line(item)).await.is(204);
    ada.delete(&line(item)).await.is(404).has_detail("Not found.");
    ada.put(&line(item), json!({ "quantity": 1 })).await.is(404).has_detail("Not found.");
    assert_eq!(ada.cart().await["total_items"], 0);
}

#[tokio::test]
async fn what_is_not_for_sale_does_not_go_in() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let hidden = shop.product("Hidden").with("is_active", false).create().await;
    let gone = shop.product("Gone").stock(0).create().await;
    let lamp = shop.product("Lamp").stock(5).create().await;
    ada.put_in_cart(&hidden, 1).await.refuses("product_id");
    ada.put_in_cart(&gone, 1).await.refuses("quantity");
    ada.put_in_cart(&lamp, 6).await.refuses("quantity");
    for unknown in
        [json!(999_999), json!(0), json!(-1), json!("lamp"), json!(null), json!([lamp.id]), json!(1.5)]
    {
        ada.post("/api/cart/items/", json!({ "product_id": unknown, "quantity": 1 }))
            .await
            .refuses("product_id");
    }
    ada.post("/api/cart/items/", json!({})).await.refuses_with("product_id", "This field is required.");
    for bad in [
        json!(0),
        json!(-1),
        json!("x"),
        json!(null),
        json!(1.5),
        json!(9_007_199_254_740_993_i64),
        json!(1e300),
    ] {
        ada.post("/api/cart/items/", json!({ "product_id": lamp.id, "quantity": bad }))
            .await
            .refuses("quantity");
    }
    let both = ada.post("/api/cart/items/", json!({ "product_id": null, "quantity": 0 })).await.is(400);
    assert_eq!(both.refused_fields(), ["product_id", "quantity"], "{both}");
    assert_eq!(ada.cart().await["items"], json!([]));
}

#[tokio::test]
async fn a_cart_is_its_owners_alone() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").create().await;
    let item = ada.put_in_cart(&lamp, 2).await.is(201).id();
    for other in [&bea, &admin] {
        assert_eq!(other.cart().await["items"], json!([]));
        other.put(&line(item), json!({ "quantity": 1 })).await.is(404).has_detail("Not found.");
        other.patch(&line(item), json!({ "quantity": 1 })).await.is(404).has_detail("Not found.");
        other.delete(&line(item)).await.is(404).has_detail("Not found.");
        other.delete("/api/cart/").await.is(204);
    }
    assert_eq!(ada.cart().await["total_items"], 2);
    let anyone = shop.anyone();
    anyone.get("/api/cart/").await.is(401);
    anyone.delete("/api/cart/").await.is(401);
    anyone.put_in_cart(&lamp, 1).await.is(401);
    anyone.put(&line(item), json!({ "quantity": 1 })).await.is(401);
    anyone.delete(&line(item)).await.is(401);
}

#[tokio::test]
async fn a_cart_has_at_most_a_hundred_lines() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let mut products = Vec::new();
    for number in 0..101 {
        products.push(shop.product(&format!("Lamp {number}")).price("0.01").create().await);
    }
    for product in &products[..100] {
        ada.put_in_cart(product, 1).await.is(201);
    }
    let refusal = ada.put_in_cart(&products[100], 1).await.refused_properly();
    assert!([400, 409].contains(&refusal.status), "{refusal}");
    ada.put_in_cart(&products[0], 1).await.is(201);
    let cart = ada.cart().await;
    assert_eq!(cart["items"].as_array().unwrap().len(), 100, "{cart}");
    let order = ada.checkout().await.is(201);
    assert_eq!((&order["total_items"], &order["total_price"]), (&json!(101), &json!("1.01")));
    shop.audit().await;
}

#[tokio::test]
async fn a_cart_outlives_the_server() {
    let mut shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").create().await;
    ada.fill_cart(&lamp, 2).await;
    let before = ada.cart().await;
    // No farewell: what was answered is stored.
    shop.restart().await;
    assert_eq!(ada.cart().await.json, before.json);
    assert_eq!(ada.checkout().await.is(201)["total_items"], 2);
    shop.restart().await;
    assert_eq!(ada.cart().await["items"], json!([]));
}

#[tokio::test]
async fn many_at_once_in_one_cart_all_count() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(1_000).create().await;
    let soap = shop.product("Soap").stock(1_000).create().await;
    let mut adding: JoinSet<Answer> = JoinSet::new();
    for number in 0..40 {
        let (ada, product): (Shopper, _) =
            (ada.clone(), if number % 2 == 0 { lamp.clone() } else { soap.clone() });
        adding.spawn(async move { ada.put_in_cart(&product, 1).await.is(201) });
    }
    adding.join_all().await;
    let cart = ada.cart().await;
    let mut found = lines(&cart);
    found.sort_by_key(|(product, _)| product.as_i64());
    assert_eq!(found, [(json!(lamp.id), json!(20)), (json!(soap.id), json!(20))], "{cart}");
}
