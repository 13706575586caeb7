//! `Idempotency-Key`: an order that is asked for again is not placed again, whether the question comes later,
//! at the same time, or after a restart.

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Answer, Shop, Shopper};

async fn place(who: &Shopper, key: &str, notes: &str) -> Answer {
    let call = who.call(Method::POST, "/api/orders/").header("idempotency-key", key);
    call.json(&json!({ "notes": notes })).send().await
}

#[track_caller]
fn is_a_replay_of(answer: &Answer, first: &Answer) {
    assert_eq!(answer.status, first.status, "the first answer again\n{answer}");
    assert_eq!(answer.json, first.json, "the first answer again\n{answer}");
    assert_eq!(answer.header("idempotent-replayed"), "true", "{answer}");
}

#[tokio::test]
async fn the_same_key_gives_the_first_answer_again() {
    let mut shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let lamp = shop.product("Lamp").stock(20).create().await;
    ada.fill_cart(&lamp, 2).await;
    let first = place(&ada, "key-1", "").await.is(201);
    assert!(first.headers.get("idempotent-replayed").is_none(), "{first}");
    is_a_replay_of(&place(&ada, "key-1", "").await, &first);

    // Not even with a full cart, nor after the order has gone on its way.
    ada.fill_cart(&lamp, 3).await;
    shop.admin().await.set_status(first.id(), "shipped").await.is(200);
    is_a_replay_of(&place(&ada, "key-1", "").await, &first);
    assert_eq!(ada.cart().await["total_items"], 3);
    let other = place(&ada, "key-1", "other").await.is(422);
    assert!(other["detail"].is_string(), "{other}");
    assert_eq!(ada.cart().await["total_items"], 3);

    // A key is one user's own.
    bea.fill_cart(&lamp, 1).await;
    let hers = place(&bea, "key-1", "other").await.is(201);
    assert_ne!(hers.id(), first.id());

    shop.restart().await;
    is_a_replay_of(&place(&ada, "key-1", "").await, &first);
    place(&ada, "key-1", "other").await.is(422);
    let second = place(&ada, "key-2", "").await.is(201);
    assert_ne!(second.id(), first.id());
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 2);
    assert_eq!(shop.stock_of(&lamp).await, 14);
    shop.audit().await;
}

#[tokio::test]
async fn the_same_key_at_once_is_one_order() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    for round in 0..5 {
        ada.fill_cart(&lamp, 2).await;
        let mut placing = JoinSet::new();
        for _ in 0..12 {
            placing.spawn(ada.checkout_with_key(&format!("round-{round}")).send());
        }
        let answers = placing.join_all().await;
        let fresh: Vec<&Answer> =
            answers.iter().filter(|answer| answer.headers.get("idempotent-replayed").is_none()).collect();
        assert_eq!(fresh.len(), 1, "one is the first\n{answers:?}");
        for answer in &answers {
            let answer = answer.clone().is(201);
            assert_eq!(answer.json, fresh[0].json, "{answer}");
        }
    }
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 5);
    assert_eq!(shop.stock_of(&lamp).await, 10);
    shop.audit().await;
}

#[tokio::test]
async fn a_key_with_two_bodies_at_once_is_one_order() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    ada.fill_cart(&lamp, 2).await;
    let mut placing = JoinSet::new();
    for number in 0..12 {
        let ada = ada.clone();
        placing.spawn(async move { place(&ada, "key", if number % 2 == 0 { "one" } else { "two" }).await });
    }
    let answers = placing.join_all().await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(201), count(422)), (6, 6), "{answers:?}");
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 1);
    shop.audit().await;
}

#[tokio::test]
async fn a_key_is_some_visible_ascii() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    ada.fill_cart(&lamp, 1).await;
    for bad in ["", "two words", "tab\there", "ключ", "💡", &"k".repeat(256), &"k".repeat(5_000)] {
        ada.checkout_with_key(bad).send().await.is(400).refused_properly();
    }
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 0);
    assert_eq!(ada.cart().await["total_items"], 1);
    for good in [
        "k".repeat(255),
        "!".to_owned(),
        "'; drop table orders; --".replace(' ', "_"),
        "~{}[]\"\\".to_owned(),
    ] {
        ada.fill_cart(&lamp, 1).await;
        let first = ada.checkout_with_key(&good).send().await.is(201);
        is_a_replay_of(&ada.checkout_with_key(&good).send().await, &first);
    }
    // Keys differ by case.
    ada.fill_cart(&lamp, 1).await;
    let upper = ada.checkout_with_key(&"K".repeat(255)).send().await.is(201);
    assert!(upper.headers.get("idempotent-replayed").is_none(), "{upper}");
    shop.audit().await;
}

#[tokio::test]
async fn a_refused_checkout_can_be_tried_again_with_its_key_or_another() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let lamp = shop.product("Lamp").stock(2).create().await;
    ada.fill_cart(&lamp, 2).await;
    let order = bea.buy(&lamp, 1).await.id();
    let refused = place(&ada, "key-1", "").await.is(409);
    // Whether a refusal is kept with the key, the contract leaves open; that nothing was taken, it does not.
    let again = place(&ada, "key-1", "").await.is(409);
    assert_eq!(again.json, refused.json);
    bea.post(&format!("/api/orders/{order}/cancel/"), json!({})).await.is(200);
    let later = place(&ada, "key-1", "").await;
    if later.status != 201 {
        is_a_replay_of(&later, &refused);
        place(&ada, "key-2", "").await.is(201);
    }
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 1);
    assert_eq!(shop.stock_of(&lamp).await, 0);
    shop.audit().await;
}
