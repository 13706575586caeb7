//! What every request passes, with handlers that do nothing else.

use salvo::http::Method;
use salvo::{Router, Service, handler};
use serde_json::json;

use super::*;
use crate::reply::Reply;
use crate::testing::{Answer, TestShop, request};

#[handler]
fn small() -> Result<Reply, ApiError> {
    Reply::ok(&json!({"ok": true}))
}

#[handler]
fn large() -> Result<Reply, ApiError> {
    Reply::ok(&"x".repeat(10_000))
}

#[handler]
async fn reads(req: &mut Request) -> Result<Reply, ApiError> {
    crate::extract::fields(req).await?.finish()?;
    Ok(Reply::no_content())
}

#[handler]
fn panics() {
    panic!("as the test wants it");
}

#[handler]
async fn hangs() {
    std::future::pending::<()>().await;
}

#[handler]
fn forbids(res: &mut Response) {
    res.status_code(StatusCode::FORBIDDEN);
}

/// A service of these handlers, with the hoops of the real one.
fn service(shop: &TestShop) -> Service {
    let routes = Router::new()
        .push(
            Router::with_path("things")
                .get(small)
                .post(small)
                .push(Router::with_path("special").get(large))
                .push(Router::with_path("{thing}").put(small).delete(small)),
        )
        .push(Router::with_path("reads").post(reads))
        .push(Router::with_path("panics").get(panics))
        .push(Router::with_path("hangs").get(hangs))
        .push(Router::with_path("forbids").get(forbids));
    let service = Service::new(complete(routes)).hoop(Front::new(shop.api.clone()));
    match cors(&shop.api.settings.cors_allowed_origins) {
        Some(cors) => service.hoop(cors).hoop(compression()),
        None => service.hoop(compression()),
    }
}

async fn call(service: &Service, method: Method, path: &str) -> Answer {
    Answer::of(request(method, path).send(service).await).await
}

#[tokio::test]
async fn every_path_knows_its_methods() {
    let shop = TestShop::open().await;
    let service = service(&shop);
    for (path, allow) in [
        ("/things/", "GET, POST, HEAD, OPTIONS"),
        ("/things", "GET, POST, HEAD, OPTIONS"),
        ("/things/special/", "GET, HEAD, OPTIONS"),
        ("/things/7", "PUT, DELETE, OPTIONS"),
    ] {
        let answer = call(&service, Method::OPTIONS, path).await.is(204);
        assert_eq!(answer.header("allow"), allow, "{path}");
        let answer = call(&service, Method::PATCH, path).await.is(405);
        assert_eq!(answer.header("allow"), allow, "{path}");
        assert_eq!(answer.json, json!({"detail": "Method \"PATCH\" not allowed."}));
    }
    call(&service, Method::DELETE, "/things/special").await.is(405);
    call(&service, Method::PUT, "/things/7").await.is(200);
    shop.close().await;
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let shop = TestShop::open().await;
    let service = service(&shop);
    let get = call(&service, Method::GET, "/things/").await.is(200);
    let head = call(&service, Method::HEAD, "/things/").await.is(200);
    assert!(head.response.body.is_none());
    assert_eq!(head.header("content-type"), get.header("content-type"));
    assert_eq!(head.header("content-length"), get.json.to_string().len().to_string());
    let missing = call(&service, Method::HEAD, "/nothing/").await.is(404);
    assert!(missing.response.body.is_none());
    call(&service, Method::HEAD, "/things/7/").await.is(405);
    shop.close().await;
}

#[tokio::test]
async fn what_no_handler_answered_is_json_all_the_same() {
    let shop = TestShop::open().await;
    let service = service(&shop);
    let answer = call(&service, Method::GET, "/nothing/").await.is(404);
    assert_eq!(answer.json, json!({"detail": "Not found."}));
    let answer = call(&service, Method::GET, "/forbids/").await.is(403);
    assert_eq!(answer.json, json!({"detail": "You do not have permission to perform this action."}));
    for header in ["x-request-id", "x-content-type-options", "x-frame-options", "referrer-policy"] {
        assert!(!answer.header(header).is_empty(), "{header}");
    }
    shop.close().await;
}

#[tokio::test]
async fn a_panic_is_an_internal_error_that_shows_nothing() {
    let shop = TestShop::open().await;
    let answer = call(&service(&shop), Method::GET, "/panics/").await.is(500);
    assert_eq!(answer.json, json!({"detail": "Internal server error."}));
    assert!(!answer.header("x-request-id").is_empty());
    shop.close().await;
}

#[tokio::test]
async fn a_request_that_hangs_is_answered_at_its_deadline() {
    let shop = TestShop::open().await;
    let service = service(&shop);
    tokio::time::pause();
    let answer = call(&service, Method::GET, "/hangs/").await.is(503);
    assert_eq!(answer.header("retry-after"), "1");
    tokio::time::resume();
    shop.close().await;
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_replaced() {
    let shop = TestShop::open().await;
    let service = service(&shop);
    let ask = async |id: &str| {
        let request = request(Method::GET, "/things/").add_header("x-request-id", id, true);
        Answer::of(request.send(&service).await).await.header("x-request-id").to_owned()
    };
    let longest = "a".repeat(128);
    for sane in ["a", "Az09._-", &longest] {
        assert_eq!(ask(sane).await, sane);
    }
    let too_long = "a".repeat(129);
    for insane in ["", "a b", "a;b", "<b>", &too_long] {
        let made = ask(insane).await;
        assert_ne!(made, insane);
        assert_eq!(made.len(), 32);
    }
    shop.close().await;
}

#[tokio::test]
async fn large_bodies_are_compressed_for_those_who_ask() {
    let shop = TestShop::open().await;
    let service = service(&shop);
    let ask = async |path: &str, encoding: &str| {
        let request = request(Method::GET, path).add_header("accept-encoding", encoding, true);
        Answer::of(request.send(&service).await).await.is(200)
    };
    for encoding in ["br", "gzip", "zstd"] {
        let answer = ask("/things/special/", encoding).await;
        assert_eq!(answer.header("content-encoding"), encoding);
        assert_eq!(answer.json, "x".repeat(10_000));
    }
    assert_eq!(ask("/things/special/", "identity").await.header("content-encoding"), "");
    assert_eq!(ask("/things/", "gzip").await.header("content-encoding"), "");
    shop.close().await;
}

#[tokio::test]
async fn scripts_of_allowed_origins_may_call() {
    let shop = TestShop::open_for(&["https://shop.example"]).await;
    let service = service(&shop);
    let ask = async |method: Method, origin: &str| {
        let request = request(method, "/things/").add_header("origin", origin, true).add_header(
            "access-control-request-method",
            "POST",
            true,
        );
        Answer::of(request.send(&service).await).await
    };
    let preflight = ask(Method::OPTIONS, "https://shop.example").await.is(204);
    assert_eq!(preflight.header("access-control-allow-origin"), "https://shop.example");
    assert!(preflight.header("access-control-allow-methods").contains("PATCH"));
    let answer = ask(Method::GET, "https://shop.example").await.is(200);
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    let foreign = ask(Method::GET, "https://evil.example").await.is(200);
    assert_eq!(foreign.header("access-control-allow-origin"), "");
    shop.close().await;
}

#[tokio::test]
async fn a_connection_is_closed_on_a_body_that_is_too_long_to_be_skipped() {
    let shop = TestShop::open().await;
    let service = service(&shop);
    let send = async |path: &str, length: usize| {
        let body = format!("{{\"a\": \"{}\"}}", "x".repeat(length));
        Answer::of(request(Method::POST, path).raw_json(body).send(&service).await).await
    };
    assert_eq!(send("/things/", 1_000).await.is(200).header("connection"), "");
    assert_eq!(send("/things/", 100_000).await.is(200).header("connection"), "close");
    assert_eq!(send("/reads/", 100_000).await.is(204).header("connection"), "");
    let refused = send("/reads/", 2_000_000).await.is(413);
    assert_eq!(refused.header("connection"), "close");
    assert_eq!(refused.json["detail"], "The request body is larger than 1048576 bytes.");
    shop.close().await;
}
