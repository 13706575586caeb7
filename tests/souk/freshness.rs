//! Nothing old is ever shown: once a write is answered, the very next read sees it, in every place where it
//! can be seen, however warm the caches are and however many read meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Product, Shop, Shopper};

/// Every place that shows this product, as a row of it.
async fn everywhere(who: &Shopper, product: &Product, category: i64) -> Vec<(String, Value)> {
    let id = product.id;
    let mut seen = vec![(product.path(), who.get(&product.path()).await.is(200).json)];
    for list in [
        "/api/products/".to_owned(),
        "/api/products/?search=lamp".to_owned(),
        "/api/products/?ordering=-price&page_size=50".to_owned(),
        "/api/products/featured/".to_owned(),
        format!("/api/products/?category={category}"),
        format!("/api/categories/{category}/products/"),
    ] {
        let page = who.get(&list).await.is(200);
        let row = page.results().iter().find(|row| row["id"] == id);
        let row = row.unwrap_or_else(|| panic!("{list} should show the product\n{page}"));
        seen.push((list, row.clone()));
    }
    seen
}

async fn shows(shop: &Shop, product: &Product, category: i64, field: &str, value: &Value) {
    for who in [shop.anyone(), shop.admin().await] {
        for (place, row) in everywhere(&who, product, category).await {
            assert_eq!(&row[field], value, "{place} shows an old {field}");
        }
    }
}

#[tokio::test]
async fn a_change_is_seen_everywhere_at_once() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let category = shop.new_category("Lights").await;
    let lamp = shop.product("Lamp").category(category).with("featured", true).create().await;
    for round in 0..8 {
        let price = format!("{round}.50");
        admin.patch(&lamp.path(), json!({ "price": price })).await.is(200);
        shows(&shop, &lamp, category, "price", &json!(price)).await;
        let stock = 50 + round;
        admin
            .post(&lamp.path_of("stock"), json!({ "change": stock - shop.stock_of(&lamp).await }))
            .await
            .is(200);
        shows(&shop, &lamp, category, "stock", &json!(stock)).await;
        let name = format!("Lamp of round {round}");
        admin.patch(&lamp.path(), json!({ "name": name })).await.is(200);
        shows(&shop, &lamp, category, "name", &json!(name)).await;
    }
}

#[tokio::test]
async fn stock_follows_orders_everywhere() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let category = shop.new_category("Lights").await;
    let lamp = shop.product("Lamp").category(category).stock(3).with("featured", true).create().await;
    let find =
        async |query: &str| shop.anyone().get(&format!("/api/products/?{query}")).await.is(200).count();
    shows(&shop, &lamp, category, "stock", &json!(3)).await;
    ada.buy(&lamp, 1).await;
    shows(&shop, &lamp, category, "stock", &json!(2)).await;
    assert_eq!((find("in_stock=true").await, find("in_stock=false").await), (1, 0));
    let last = ada.buy(&lamp, 2).await.id();
    shows(&shop, &lamp, category, "stock", &json!(0)).await;
    shows(&shop, &lamp, category, "in_stock", &json!(false)).await;
    assert_eq!((find("in_stock=true").await, find("in_stock=false").await), (0, 1));
    ada.post(&format!("/api/orders/{last}/cancel/"), json!({})).await.is(200);
    shows(&shop, &lamp, category, "stock", &json!(2)).await;
    shows(&shop, &lamp, category, "in_stock", &json!(true)).await;
    assert_eq!((find("in_stock=true").await, find("in_stock=false").await), (1, 0));
    ada.fill_cart(&lamp, 1).await;
    let item = ada.cart().await["items"][0]["product"].clone();
    assert_eq!(item["stock"], 2, "{item}");
}

#[tokio::test]
async fn what_appears_and_disappears_does_so_at_once() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let anyone = shop.anyone();
    let category = shop.new_category("Lights").await;
    let other = shop.new_category("Bath").await;
    let count = async |path: &str| anyone.get(path).await.is(200).count();
    let product_count = async |category: i64| {
        let path = format!("/api/categories/{category}/");
        let alone = anyone.get(&path).await.is(200)["product_count"].clone();
        let list = anyone.get("/api/categories/").await.is(200);
        let row = list.results().iter().find(|row| row["id"] == category).expect("the category in the list");
        assert_eq!(row["product_count"], alone, "list and detail agree");
        alone
    };
    let listed = format!("/api/categories/{category}/products/");
    assert_eq!((count("/api/products/").await, count(&listed).await), (0, 0));
    assert_eq!(product_count(category).await, 0);

    let lamp = shop.product("Lamp").category(category).create().await;
    let lantern = shop.product("Lantern").category(category).create().await;
    assert_eq!((count("/api/products/").await, count(&listed).await), (2, 2));
    assert_eq!(product_count(category).await, 2);

    admin.patch(&lamp.path(), json!({ "is_active": false })).await.is(200);
    assert_eq!((count("/api/products/").await, count("/api/products/?search=lamp").await), (1, 0));
    anyone.get(&lamp.path()).await.is(404);
    admin.patch(&lamp.path(), json!({ "is_active": true })).await.is(200);
    assert_eq!((count("/api/products/").await, count("/api/products/?search=lamp").await), (2, 1));
    anyone.get(&lamp.path()).await.is(200);

    admin.patch(&lamp.path(), json!({ "category": other })).await.is(200);
    assert_eq!((product_count(category).await, product_count(other).await), (json!(1), json!(1)));
    assert_eq!(anyone.get(&lamp.path()).await.is(200)["category_name"], "Bath");
    admin.patch(&format!("/api/categories/{other}/"), json!({ "name": "Spa" })).await.is(200);
    assert_eq!(anyone.get(&lamp.path()).await.is(200)["category_name"], "Spa");
    assert_eq!(anyone.get("/api/categories/").await.is(200).column("name").len(), 2);
    assert_eq!((count("/api/products/?search=spa").await, count("/api/products/?search=bath").await), (1, 0));

    admin.delete(&lantern.path()).await.is(204);
    anyone.get(&lantern.path()).await.is(404);
    assert_eq!((count("/api/products/").await, count(&listed).await), (1, 0));
    assert_eq!(product_count(category).await, 0);
    admin.delete(&format!("/api/categories/{category}/")).await.is(204);
    assert_eq!(count("/api/categories/").await, 1);
    anyone.get("/api/products/?category=999999").await.is(400);
    anyone.get(&format!("/api/products/?category={category}")).await.is(400);
}

#[tokio::test]
async fn readers_in_a_crowd_leave_nothing_old_behind() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let category = shop.new_category("Lights").await;
    let lamp = shop.product("Lamp").category(category).with("featured", true).create().await;
    let done = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    for number in 0..8 {
        let (reader, path, done) = (shop.anyone(), lamp.path(), Arc::clone(&done));
        crowd.spawn(async move {
            let path = if number % 2 == 0 { path } else { "/api/products/?search=lamp".to_owned() };
            while !done.load(Ordering::Relaxed) {
                reader.get(&path).await.is(200);
            }
        });
    }
    for round in 1..=60 {
        let price = format!("{round}.00");
        admin.patch(&lamp.path(), json!({ "price": price })).await.is(200);
        let detail = admin.get(&lamp.path()).await.is(200);
        assert_eq!(detail["price"], price.as_str(), "{detail}");
        let detail = shop.anyone().get(&lamp.path()).await.is(200);
        assert_eq!(detail["price"], price.as_str(), "{detail}");
        let list = shop.anyone().get("/api/products/?search=lamp").await.is(200);
        assert_eq!(list.column("price"), [price], "{list}");
    }
    done.store(true, Ordering::Relaxed);
    crowd.join_all().await;
}
