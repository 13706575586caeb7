//! Whatever the log is asked for, it holds no secret: no password, no token, no ticket, no key.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::{Browser, Form, PASSWORD, SECRET_KEY, Shop, jpeg};
use crate::media::send;

/// Asks over HTTP/2 with a token.
async fn ask_by_http_2(shop: &Shop, access: &str) {
    let stream = TcpStream::connect(shop.address()).await.expect("HTTP/2");
    let (mut client, talk) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    let request = hyper::Request::get(format!("{}/auth/api/profile/", shop.url()))
        .header("authorization", format!("Bearer {access}"));
    tokio::select! {
        answer = client.send_request(request.body(Empty::<Bytes>::new()).expect("HTTP/2")) => {
            assert_eq!(answer.expect("HTTP/2").status(), 200);
        }
        ended = talk => panic!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_log_of_everything_holds_no_secret() {
    const NEW_PASSWORD: &str = "Marmalade-Boat-77";
    let mut shop = Shop::start_with(&[("RUST_LOG", "trace")]).await;
    let ann = shop.register("ann").await;
    let again = shop.anyone().signed_in_as("ann@example.com", PASSWORD).await;
    let refreshed = ann.post("/auth/api/token/refresh/", json!({ "refresh": again.refresh })).await.is(200);
    ann.post("/auth/api/token/verify/", json!({ "token": ann.access })).await.is(200);
    let ticket = ann.post("/auth/api/ws-ticket/", json!({})).await.is(201).text("ticket").to_owned();
    ann.knock().bearer(&ann.access).open().await.leave().await;
    ann.knock().query("ticket", &ticket).open().await.leave().await;
    ann.knock().query("token", &ann.access).open().await.leave().await;
    let offered = format!("bearer, {}", ann.access);
    ann.knock().header("sec-websocket-protocol", &offered).open().await.leave().await;
    ask_by_http_2(&shop, &ann.access).await;
    ann.get(&format!("/ws/notifications/{}/?token={}", ann.id, ann.access)).await.is(426);
    let form = Form::new().text("bio", "Hello").file("avatar", &jpeg(20, 20, 1));
    send(&ann, reqwest::Method::PATCH, "/auth/api/profile/", form).await.is(200);

    // What fails is told more of than what works.
    ann.post("/auth/api/token/", json!({ "email": "ann@example.com", "password": "Wrong-Guess-11" }))
        .await
        .is(401);
    ann.post("/auth/api/token/refresh/", json!({ "refresh": again.refresh })).await.is(401);
    ann.bearing(&format!("{}x", ann.access)).get("/auth/api/profile/").await.is(401);
    let change =
        json!({ "current_password": PASSWORD, "password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD });
    ann.post("/auth/api/password/", change).await.is(204);
    let browser = Browser::of_admin(&shop).await;
    let cookie = browser.cookie("souk_admin").expect("a login").clone();
    let database_password = crate::harness::Place::of_server().map(|place| place.password);
    // A short one may be a part of anything.
    let database_password = database_password.filter(|password| password.len() > 12);
    assert!(shop.terminate().await.success());

    let log = shop.log();
    assert!(log.contains("TRACE") && log.contains("/auth/api/token/"), "this is no log of everything");
    let secrets = [
        ("a password", PASSWORD),
        ("a new password", NEW_PASSWORD),
        ("a wrong password", "Wrong-Guess-11"),
        ("a password's hash", "$argon2id$"),
        ("the secret key", SECRET_KEY),
        ("an access token", &ann.access),
        ("a refresh token", &ann.refresh),
        ("a used refresh token", &again.refresh),
        ("a new refresh token", refreshed.text("refresh")),
        ("a ticket", &ticket),
        ("an admin's cookie", &cookie),
        ("the database's password", database_password.as_deref().unwrap_or("-no-password-")),
    ];
    for (what, secret) in secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log shows {what}");
    }
}
