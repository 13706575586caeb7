//! The list of one's own events, and the mark up to which they are read.

use serde_json::{Value, json};

use crate::harness::{Shop, Shopper};

async fn mark_read(who: &Shopper, up_to: Value) -> crate::harness::Answer {
    who.post("/api/notifications/read/", json!({ "up_to": up_to })).await
}

#[tokio::test]
async fn events_are_listed_and_marked_read() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").price("3.00").create().await;
    let order = ada.buy(&lamp, 2).await.id();
    admin.set_status(order, "shipped").await.is(200);
    bea.buy(&lamp, 1).await;
    admin.set_status(order, "delivered").await.is(200);

    let list = ada.get("/api/notifications/").await.is(200);
    let kinds = ["order_status_update", "order_status_update", "order_created"];
    assert_eq!(list.column("type"), kinds, "newest first\n{list}");
    let rows = list.results();
    assert!(rows.iter().all(|row| row["order_id"] == order), "{list}");
    let ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().expect("an id")).collect();
    assert!(ids[0] > ids[1] && ids[1] > ids[2] && ids[2] > 0, "{list}");
    assert_eq!((&rows[2]["status"], &rows[2]["total_price"]), (&json!("pending"), &json!("6.00")), "{list}");
    assert_eq!(
        (&rows[1]["status"], &rows[1]["previous_status"]),
        (&json!("shipped"), &json!("pending")),
        "{list}"
    );
    assert!(rows[0]["message"].is_string() && rows[0]["created_at"].is_string(), "{list}");

    let unread =
        async |who: &Shopper| who.get("/api/notifications/?unread=true").await.is(200).column("id").len();
    assert_eq!((unread(&ada).await, unread(&bea).await), (3, 1));
    mark_read(&ada, json!(ids[1])).await.is(204);
    assert_eq!((unread(&ada).await, unread(&bea).await), (1, 1));
    let left = ada.get("/api/notifications/?unread=true").await.is(200);
    assert_eq!(left.column("id"), [ids[0].to_string()], "{left}");
    // The mark moves up only, and may be beyond the last.
    mark_read(&ada, json!(ids[2])).await.is(204);
    assert_eq!(unread(&ada).await, 1);
    let read = ada.get("/api/notifications/?unread=false").await.is(200);
    assert!([2, 3].contains(&read.count()), "{read}");
    mark_read(&ada, json!(ids[0])).await.is(204);
    assert_eq!((unread(&ada).await, unread(&bea).await), (0, 1));
    assert_eq!(ada.get("/api/notifications/").await.is(200).count(), 3);

    ada.buy(&lamp, 1).await;
    assert_eq!(unread(&ada).await, 1, "what comes later is unread");
    assert_eq!(
        ada.get("/api/notifications/?page_size=1&page=2").await.is(200).column("id"),
        [ids[0].to_string()]
    );
    assert_eq!(admin.get("/api/notifications/").await.is(200).count(), 0, "the caller's own alone");
}

#[tokio::test]
async fn bad_marks_are_refused() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").create().await;
    ada.buy(&lamp, 1).await;
    for bad in [json!(null), json!("x"), json!(1.5), json!([1]), json!({}), json!(true), json!(1e30)] {
        mark_read(&ada, bad).await.refuses("up_to");
    }
    for edge in [json!(-1), json!(0)] {
        let answer = mark_read(&ada, edge).await;
        assert!([204, 400].contains(&answer.status), "{answer}");
    }
    ada.post("/api/notifications/read/", json!({})).await.refuses_with("up_to", "This field is required.");
    assert_eq!(ada.get("/api/notifications/?unread=true").await.is(200).count(), 1);
    ada.get("/api/notifications/?unread=maybe").await.refuses("unread");
    assert_eq!(ada.get("/api/notifications/?unread=").await.is(200).count(), 1);
    shop.anyone().get("/api/notifications/").await.is(401);
    mark_read(&shop.anyone(), json!(1)).await.is(401);

    // A mark beyond the last event does not read what is still to come.
    let answer = mark_read(&ada, json!(9_000_000_000_000_000_000_i64)).await;
    assert!([204, 400].contains(&answer.status), "{answer}");
    ada.buy(&lamp, 1).await;
    let unread = ada.get("/api/notifications/?unread=true").await.is(200);
    assert!(unread.count() >= 1, "the new event is unread\n{unread}");
}

#[tokio::test]
async fn events_outlive_the_server() {
    let mut shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").create().await;
    ada.buy(&lamp, 1).await;
    let before = ada.get("/api/notifications/").await.is(200);
    mark_read(&ada, before.results()[0]["id"].clone()).await.is(204);
    shop.restart().await;
    assert_eq!(ada.get("/api/notifications/").await.is(200).column("id"), before.column("id"));
    assert_eq!(ada.get("/api/notifications/?unread=true").await.is(200).count(), 0);
    ada.buy(&lamp, 1).await;
    let unread = ada.get("/api/notifications/?unread=true").await.is(200);
    assert!(unread.results()[0]["id"].as_i64() > before.results()[0]["id"].as_i64(), "{unread}");
}
