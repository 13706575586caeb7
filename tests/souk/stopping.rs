//! The shop closes in order, also in the middle of the day: who is being served is served, who comes is sent away.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Shop, Wire, eventually};

#[tokio::test]
async fn orders_under_way_are_finished_and_sockets_are_told() {
    let mut shop = Shop::start().await;
    let lamp = shop.product("Lamp").stock(10_000).create().await;
    let buyers = shop.register_many("buyer", 6).await;
    let mut socket = buyers[0].knock().bearer(&buyers[0].access).open().await;
    let mut shopping = JoinSet::new();
    for buyer in buyers.clone() {
        let product = lamp.id;
        shopping.spawn(async move {
            let mut orders = Vec::new();
            // Until nobody answers any more; no answer is a fault.
            loop {
                let line = json!({ "product_id": product, "quantity": 1 });
                match buyer.call(reqwest::Method::POST, "/api/cart/items/").json(&line).try_send().await {
                    Ok(answer) if answer.status == 503 => continue,
                    Ok(answer) => drop(answer.is(201)),
                    Err(_) => return orders,
                }
                match buyer.call(reqwest::Method::POST, "/api/orders/").json(&json!({})).try_send().await {
                    Ok(answer) if answer.status == 503 => {}
                    Ok(answer) => orders.push(answer.is(201).id()),
                    Err(_) => return orders,
                }
            }
        });
    }
    for _ in 0..3 {
        socket.next_of("order_created").await;
    }
    let began = Instant::now();
    shop.signal("TERM").await;
    let (_, code) = socket.rest().await;
    assert_eq!(code, Some(1001));
    let ended = shop.ended().await;
    assert!(ended.success(), "{ended}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let orders: Vec<_> = shopping.join_all().await.into_iter().flatten().collect();
    assert!(orders.len() >= 3);
    shop.open().await;
    for order in orders {
        shop.admin().await.get(&format!("/api/orders/{order}/")).await.is(200);
    }
    shop.audit().await;
}

#[tokio::test]
async fn whoever_comes_while_it_closes_is_sent_away_at_once() {
    let mut shop = Shop::start().await;
    // A request under way holds the door open.
    let _slow = Wire::with_half_a_login(&shop).await;
    shop.anyone().get("/readyz").await.is(200);
    let address = shop.address();
    shop.signal("TERM").await;
    eventually("nobody listens any more", async || tokio::net::TcpStream::connect(&address).await.is_err())
        .await;
    assert!(shop.ended().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_it_now() {
    let mut shop = Shop::start().await;
    let _slow = Wire::with_half_a_login(&shop).await;
    let address = shop.address();
    shop.anyone().get("/readyz").await.is(200);
    shop.signal("TERM").await;
    eventually("it is closing", async || tokio::net::TcpStream::connect(&address).await.is_err()).await;
    let began = Instant::now();
    shop.signal("INT").await;
    let ended = shop.ended().await;
    assert_eq!(ended.code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(shop.log().contains("stopped at once"), "{}", shop.log());
}
