//! `souk audit`: clean books are called clean, beside the running server too, and each way in which they can be wrong is
//! noticed. To make them wrong, the tests reach into the database, which nothing else here does.

use serde_json::json;

use crate::harness::Shop;

/// A shop with a sale, a cancelled one and a correction, which is closed.
async fn shop_with_history() -> Shop {
    let mut shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").price("19.99").stock(20).create().await;
    ada.buy(&lamp, 2).await;
    let second = ada.buy(&lamp, 1).await.id();
    ada.post(&format!("/api/orders/{second}/cancel/"), json!({})).await.is(200);
    shop.admin().await.post(&lamp.path_of("stock"), json!({ "change": 5 })).await.is(200);
    shop.terminate().await;
    shop
}

#[tokio::test]
async fn the_books_of_a_running_shop_can_be_audited() {
    let shop = Shop::start().await;
    shop.audit().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    let order = ada.buy(&lamp, 2).await.id();
    ada.buy(&lamp, 1).await;
    ada.post(&format!("/api/orders/{order}/cancel/"), json!({})).await.is(200);
    let report = shop.souk(&["audit"]).await.succeeds();
    assert!(!report.out.trim().is_empty(), "a table is printed\n{}", report.all());
}

#[tokio::test]
async fn books_that_are_wrong_are_noticed() {
    for statement in [
        "update products set stock = stock + 1",
        "update products set stock = 0",
        "update stock_movements set change = change - 1 where kind = 'initial'",
        "delete from stock_movements where kind = 'cancel'",
        "update orders set total = total + 1 where status = 'pending'",
        "update order_items set price = 1 where order_id = 1",
        "update order_items set quantity = 3 where order_id = 1",
        "delete from order_items where order_id = 1",
        "insert into orders (user_id, status, total, created_at, updated_at)
         select user_id, 'pending', 0, created_at, updated_at from orders where id = 1",
        // The level adds up, but two units are taken that no order has.
        "update stock_movements set order_id = null where order_id = 1",
    ] {
        let shop = shop_with_history().await;
        shop.audit().await;
        shop.tamper(statement).await;
        let ran = shop.souk(&["audit"]).await.fails();
        assert_eq!(ran.code, Some(1), "{statement}\n{}", ran.all());
        assert!(!ran.out.trim().is_empty(), "a table is printed: {statement}\n{}", ran.all());
    }
}
