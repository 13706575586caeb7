//! Who is let in to `/ws/notifications/{user_id}/`, by which of the four ways, and who is told what before
//! the upgrade.

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Forgery, Shop, Shopper};

async fn ticket(who: &Shopper) -> String {
    let answer = who.post("/auth/api/ws-ticket/", json!({})).await.is(201);
    let lifetime = answer["expires_in"].as_i64().expect("seconds");
    assert!((1..=60).contains(&lifetime), "{answer}");
    answer.text("ticket").to_owned()
}

#[tokio::test]
async fn there_are_four_ways_in() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let greeted = |socket: &crate::harness::Socket| {
        assert_eq!(socket.ready["user_id"], ada.id, "{}", socket.ready);
        assert_eq!(socket.ready["last_event_id"], 0, "{}", socket.ready);
    };
    greeted(&ada.knock().bearer(&ada.access).open().await);

    let offered = format!("bearer, {}", ada.access);
    let socket = ada.knock().header("sec-websocket-protocol", &offered).open().await;
    greeted(&socket);
    let chosen = socket.headers.get("sec-websocket-protocol").expect("a protocol is chosen");
    assert_eq!(chosen, "bearer", "the token is not echoed");

    greeted(&ada.knock().query("ticket", &ticket(&ada).await).open().await);
    greeted(&ada.knock().query("token", &ada.access).open().await);
    // Whatever way in, the server's own log never shows the token or a ticket.
    let log = shop.log();
    assert!(!log.contains(&ada.access), "the log shows a token");

    // Ids are asked for as any path's; the last slash may go.
    let (status, _) = ada.knock().door_of(&"abc").bearer(&ada.access).refused().await;
    assert!([403, 404].contains(&status), "{status}");
}

#[tokio::test]
async fn nobody_gets_in_without_good_credentials() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let expired = Forgery::of(&ada.access).expires_in(-1).token();
    let forged = Forgery::of(&ada.access).signed_with(&"k".repeat(40)).token();
    let (status, body) = ada.knock().refused().await;
    assert_eq!((status, &body["detail"]), (401, &json!("Authentication credentials were not provided.")));
    for bad in [&expired, &forged, &ada.refresh, &Forgery::of(&ada.access).unsigned(), &"nonsense".to_owned()]
    {
        let tries = [
            ada.knock().bearer(bad),
            ada.knock().header("sec-websocket-protocol", &format!("bearer, {bad}")),
            ada.knock().query("token", bad),
            ada.knock().query("ticket", bad),
        ];
        for knock in tries {
            let (status, body) = knock.refused().await;
            assert_eq!(status, 401, "{body}");
            assert!(body["detail"].is_string(), "{body}");
        }
    }
    for knock in [
        ada.knock().query("token", ""),
        ada.knock().query("ticket", ""),
        ada.knock().query("ticket", "a\u{0}b"),
        ada.knock().query("ticket", &"t".repeat(5_000)),
        ada.knock().header("sec-websocket-protocol", "bearer"),
        ada.knock().header("sec-websocket-protocol", "chat, superchat"),
        ada.knock().header("authorization", "Basic YWRhOmFkYQ=="),
    ] {
        let (status, body) = knock.refused().await;
        assert_eq!(status, 401, "{body}");
    }
    shop.anyone().post("/auth/api/ws-ticket/", json!({})).await.is(401);
    // A plain request is no knock, and no failure either.
    let plain = ada.get(&format!("/ws/notifications/{}/", ada.id)).await.refused_properly();
    assert!([400, 404, 426].contains(&plain.status), "{plain}");
}

#[tokio::test]
async fn a_ticket_opens_one_socket_once() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let once = ticket(&ada).await;
    let socket = ada.knock().query("ticket", &once).open().await;
    let (status, _) = ada.knock().query("ticket", &once).refused().await;
    assert_eq!(status, 401, "a ticket is used up");
    drop(socket);
    let (status, _) = ada.knock().query("ticket", &once).refused().await;
    assert_eq!(status, 401, "a ticket is used up");

    let (status, _) = ada.knock().query("ticket", &ticket(&bea).await).refused().await;
    assert_eq!(status, 403, "somebody else's ticket");
    // A ticket is no token.
    ada.bearing(&ticket(&ada).await).get("/auth/api/profile/").await.is(401);
    assert_ne!(ticket(&ada).await, ticket(&ada).await);

    let raced = ticket(&ada).await;
    let mut knocks = JoinSet::new();
    for _ in 0..8 {
        let knock = ada.knock().query("ticket", &raced);
        knocks.spawn(async move { tokio_tungstenite::connect_async(knock.request()).await.is_ok() });
    }
    let opened = knocks.join_all().await.into_iter().filter(|opened| *opened).count();
    assert_eq!(opened, 1, "one of eight at once");
}

#[tokio::test]
async fn only_ones_own_door_opens_but_an_admin_watches_any() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").create().await;
    let (status, body) = bea.knock().door_of(&ada.id).bearer(&bea.access).refused().await;
    assert_eq!(status, 403, "{body}");
    assert!(body["detail"].is_string(), "{body}");
    let (status, _) = bea.knock().door_of(&999_999).bearer(&bea.access).refused().await;
    assert_eq!(status, 403);

    let mut watching = admin.knock().door_of(&ada.id).bearer(&admin.access).open().await;
    assert_eq!(watching.ready["user_id"], ada.id, "{}", watching.ready);
    let order = ada.buy(&lamp, 1).await.id();
    assert_eq!(watching.next_of("order_created").await["order_id"], order);
    bea.buy(&lamp, 1).await;
    watching.is_quiet().await;

    shop.anyone().get("/healthz").await.is(200);
    admin.patch(&format!("/auth/api/users/{}/", ada.id), json!({ "is_active": false })).await.is(200);
    let (status, _) = ada.knock().bearer(&ada.access).refused().await;
    assert_eq!(status, 401, "a deactivated user");
}

#[tokio::test]
async fn a_page_of_another_site_is_kept_out() {
    let shop =
        Shop::start_with(&[("CORS_ALLOWED_ORIGINS", "https://friend.example,http://localhost:3000")]).await;
    let ada = shop.register("ada").await;
    let own = shop.url();
    let knock = |origin: &str| ada.knock().bearer(&ada.access).header("origin", origin);
    let foreign = [
        "https://evil.example",
        "null",
        "https://friend.example.evil.example",
        "http://friend.example",
        "http://127.0.0.1:1",
        "nonsense",
    ];
    for origin in foreign {
        let (status, body) = knock(origin).refused().await;
        assert_eq!(status, 403, "{origin}: {body}");
        let (status, _) =
            ada.knock().query("ticket", &ticket(&ada).await).header("origin", origin).refused().await;
        assert_eq!(status, 403, "{origin} with a ticket");
    }
    for origin in [own.as_str(), "https://friend.example", "http://localhost:3000"] {
        knock(origin).open().await.leave().await;
    }
}
