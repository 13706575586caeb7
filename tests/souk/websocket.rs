//! What comes over an open socket: events as they happen, each once and in order, the same to every socket,
//! those that were missed replayed; and the ways in which a socket ends.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Forgery, Shop, Shopper, Socket};

fn id_of(event: &Value) -> i64 {
    event["id"].as_i64().unwrap_or_else(|| panic!("an event has an id: {event}"))
}

async fn ids_of_next(socket: &mut Socket, count: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(id_of(&socket.next_event().await));
    }
    ids
}

#[tokio::test]
async fn an_order_and_its_steps_are_told_as_they_happen() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").price("19.99").create().await;
    let mut socket = ada.socket().await;
    let greeting = json!({ "type": "connection_ready", "user_id": ada.id, "last_event_id": 0 });
    assert_eq!(socket.ready, greeting);

    bea.buy(&lamp, 1).await;
    let order = ada.buy(&lamp, 2).await;
    let created = socket.next_of("order_created").await;
    let mut fields: Vec<&String> = created.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["created_at", "id", "order_id", "status", "total_price", "type"], "{created}");
    assert_eq!(
        (&created["order_id"], &created["status"]),
        (&json!(order.id()), &json!("pending")),
        "{created}"
    );
    assert_eq!(created["total_price"], "39.98", "{created}");
    assert!(created["created_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{created}");

    admin.set_status(order.id(), "shipped").await.is(200);
    let shipped = socket.next_of("order_status_update").await;
    assert_eq!(
        (&shipped["order_id"], &shipped["status"]),
        (&json!(order.id()), &json!("shipped")),
        "{shipped}"
    );
    assert_eq!(shipped["previous_status"], "pending", "{shipped}");
    assert!(shipped["message"].as_str().is_some_and(|text| !text.is_empty()), "{shipped}");
    assert!(id_of(&shipped) > id_of(&created), "{shipped}");
    // What changes nothing is no event.
    admin.set_status(order.id(), "shipped").await.is(200);
    admin.set_status(order.id(), "pending").await.is(400);
    admin.set_status(order.id(), "delivered").await.is(200);
    let delivered = socket.next_of("order_status_update").await;
    assert_eq!(
        (&delivered["status"], &delivered["previous_status"]),
        (&json!("delivered"), &json!("shipped"))
    );

    let second = ada.buy(&lamp, 1).await.id();
    ada.post(&format!("/api/orders/{second}/cancel/"), json!({})).await.is(200);
    assert_eq!(socket.next_of("order_created").await["order_id"], second);
    let cancelled = socket.next_of("order_status_update").await;
    assert_eq!((&cancelled["order_id"], &cancelled["status"]), (&json!(second), &json!("cancelled")));
    socket.is_quiet().await;

    let listed = ada.get("/api/notifications/").await.is(200);
    let mut newest = listed.results()[0].clone();
    assert_eq!(newest.as_object_mut().unwrap().remove("read"), Some(json!(false)), "{listed}");
    assert_eq!(newest, cancelled, "otherwise the list tells the same as the socket\n{listed}");
    let again = ada.socket().await;
    assert_eq!(again.ready["last_event_id"], id_of(&cancelled), "{}", again.ready);
    socket.leave().await;
}

#[tokio::test]
async fn missed_events_are_replayed_once_and_in_order() {
    let mut shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").create().await;
    let mut live = ada.socket().await;
    for _ in 0..6 {
        ada.buy(&lamp, 1).await;
    }
    let ids = ids_of_next(&mut live, 6).await;
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");

    for from in [0, ids[0], ids[2], ids[4]] {
        let later: Vec<i64> = ids.iter().copied().filter(|id| *id > from).collect();
        let mut socket = ada.socket_from(from).await;
        assert_eq!(ids_of_next(&mut socket, later.len()).await, later, "from {from}");
        socket.is_quiet().await;
    }
    for from in [ids[5], ids[5] + 1_000] {
        ada.socket_from(from).await.is_quiet().await;
    }
    // Without it: live only.
    ada.socket().await.is_quiet().await;

    live.leave().await;
    shop.restart().await;
    let mut socket = ada.socket_from(ids[3]).await;
    assert_eq!(ids_of_next(&mut socket, 2).await, ids[4..]);
    ada.buy(&lamp, 1).await;
    assert!(id_of(&socket.next_of("order_created").await) > ids[5]);
    socket.is_quiet().await;
}

#[tokio::test]
async fn a_bad_last_event_id_is_refused_or_ignored() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    for bad in ["abc", "-1", "1.5", "", "99999999999999999999", "a\u{0}"] {
        let request = ada.knock().bearer(&ada.access).query("last_event_id", bad).request();
        match tokio_tungstenite::connect_async(request).await {
            Ok(_) => {}
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert!(response.status().is_client_error(), "{bad:?}: {response:?}");
            }
            Err(error) => panic!("{bad:?}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_replay_that_meets_live_events_loses_and_repeats_none() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(10_000).create().await;
    let total = 60;
    let mut buying = JoinSet::new();
    let buyer = ada.clone();
    buying.spawn(async move {
        for _ in 0..total {
            buyer.buy(&lamp, 1).await;
        }
    });
    // Sockets that come while the orders run, each from where the one before it left.
    let mut seen: Vec<i64> = Vec::new();
    while seen.len() < total {
        let mut socket = ada.socket_from(seen.last().copied().unwrap_or(0)).await;
        let wanted = (total - seen.len()).min(7);
        seen.extend(ids_of_next(&mut socket, wanted).await);
    }
    buying.join_all().await;
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "rising, none twice: {seen:?}");
    let mut all = ada.socket_from(0).await;
    assert_eq!(ids_of_next(&mut all, total).await, seen, "none lost");
    all.is_quiet().await;
}

#[tokio::test]
async fn every_socket_of_a_user_gets_every_event() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").create().await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        sockets.push(ada.socket().await);
    }
    let gone = sockets.pop().expect("a socket");
    drop(gone);
    let order = ada.buy(&lamp, 1).await.id();
    for socket in &mut sockets {
        assert_eq!(socket.next_of("order_created").await["order_id"], order);
    }
    sockets.pop().expect("a socket").leave().await;
    let second = ada.buy(&lamp, 1).await.id();
    for socket in &mut sockets {
        assert_eq!(socket.next_of("order_created").await["order_id"], second);
        socket.is_quiet().await;
    }
}

#[tokio::test]
async fn pings_reads_and_nonsense_are_answered() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").create().await;
    let mut socket = ada.socket().await;
    socket.say(r#"{"type": "ping"}"#).await;
    assert_eq!(socket.next_event().await, json!({ "type": "pong" }));
    socket.send(Message::Ping("are you there".into())).await;

    ada.buy(&lamp, 1).await;
    ada.buy(&lamp, 1).await;
    let ids = ids_of_next(&mut socket, 2).await;
    socket.say(&json!({ "type": "read", "up_to": ids[0] }).to_string()).await;
    crate::harness::eventually("the read mark is stored", async || {
        ada.get("/api/notifications/?unread=true").await.is(200).count() == 1
    })
    .await;

    let long = format!("{{\"type\": \"{}\"}}", "x".repeat(4_000));
    for nonsense in [
        "",
        "nonsense",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        r#"{"type": "sing"}"#,
        r#"{"type": null}"#,
        r#"{"type": ["ping"]}"#,
        r#"{"type": "read"}"#,
        r#"{"type": "read", "up_to": "x"}"#,
        r#"{"type": "read", "up_to": null}"#,
        r#"{"type": "read", "up_to": 1.5}"#,
        r#"{"type": "read", "up_to": 1e300}"#,
        r#"{"type": "connection_ready"}"#,
        "{\"type\": \"\u{0}💡\"}",
        &"[".repeat(3_000),
        &long,
    ] {
        socket.say(nonsense).await;
        let answer = socket.next_of("error").await;
        assert!(answer["detail"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    socket.send(Message::Binary(vec![0xff, 0xfe].into())).await;
    // A binary frame is an error too, or the end; the socket may not be left hanging.
    match tokio::time::timeout(Duration::from_secs(20), socket.rest_or_error()).await {
        Ok(()) => {}
        Err(_) => panic!("a binary frame gets no answer"),
    }
    let mut another = ada.socket().await;
    another.is_quiet().await;
    assert_eq!(ada.get("/api/notifications/?unread=true").await.is(200).count(), 1);
}

#[tokio::test]
async fn more_than_four_kibibytes_close_the_socket() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let mut socket = ada.socket().await;
    socket.say(&format!("{{\"type\": \"{}\"}}", "x".repeat(4_050))).await;
    socket.next_of("error").await;
    socket.say(&format!("{{\"type\": \"{}\"}}", "x".repeat(4_200))).await;
    assert_eq!(socket.closed_with().await, Some(1009));
    let mut second = ada.socket().await;
    second.say(&"x".repeat(20_000)).await;
    assert_eq!(second.closed_with().await, Some(1009));
    ada.socket().await.is_quiet().await;
}

#[tokio::test]
async fn a_socket_closes_when_its_token_runs_out() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let brief = Forgery::of(&ada.access).expires_in(3).token();
    let mut socket = ada.knock().bearer(&brief).open().await;
    let mut lasting = ada.socket().await;
    assert_eq!(socket.closed_with().await, Some(4401));
    lasting.is_quiet().await;
    let (status, _) = ada.knock().bearer(&brief).refused().await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn shutting_down_closes_sockets_with_1001() {
    let mut shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let mut sockets = vec![ada.socket().await, ada.socket().await, bea.socket().await];
    let mut watching = JoinSet::new();
    for mut socket in sockets.drain(..) {
        watching.spawn(async move { socket.closed_with().await });
    }
    let ended = shop.terminate().await;
    assert!(ended.success(), "{ended:?}");
    for code in watching.join_all().await {
        assert_eq!(code, Some(1001));
    }
}

/// Buys so often that a socket which nobody reads has far more than 256 events before it.
async fn many_orders(who: &Shopper, shop: &Shop, count: usize) {
    let lamp = shop.product("Lamp").stock(1_000_000).create().await;
    for _ in 0..count {
        who.buy(&lamp, 1).await;
    }
}

#[tokio::test]
async fn a_reader_who_falls_behind_is_cut_off_and_can_resume() {
    // Far more than may wait in the server: the pipe takes some more while they are made.
    const ORDERS: usize = 500;
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    // Who is made by a command makes the nodes look at the rows again, where nothing waits for a reader.
    shop.admin().await;
    let mut lazy = ada.knock().bearer(&ada.access).open_narrow().await;
    // Answers that nobody reads fill the pipe, so that the events that follow have to wait in the server.
    lazy.stuff_the_pipe().await;
    many_orders(&ada, &shop, ORDERS).await;
    let (events, code) = lazy.rest().await;
    assert_eq!(code, Some(1013), "after {} events", events.len());
    let seen: Vec<i64> = events.iter().filter(|event| event["type"] == "order_created").map(id_of).collect();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    assert!(seen.len() < ORDERS, "it was cut off");
    let mut socket = ada.socket_from(seen.last().copied().unwrap_or(0)).await;
    let rest = ids_of_next(&mut socket, ORDERS - seen.len()).await;
    socket.is_quiet().await;
    let mut all = ada.socket_from(0).await;
    let everything = ids_of_next(&mut all, ORDERS).await;
    assert_eq!(everything, [seen, rest].concat(), "none lost, none twice");
}
