//! A proxy before the shop is believed if the operator says so, and nobody else: about addresses, schemes and hosts.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Shop};

/// Asks as a proxy would for this client.
async fn forwarded(shop: &Shop, client: &str, path: &str) -> Answer {
    let call = shop.anyone().call(Method::GET, path).header("x-forwarded-for", client);
    call.header("x-forwarded-proto", "https").header("x-forwarded-host", "shop.example").send().await
}

#[tokio::test]
async fn clients_of_a_trusted_proxy_are_told_apart() {
    let shop = Shop::start_with(&[("TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1"), ("RATE_LIMIT", "2")]).await;
    for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"] {
        for _ in 0..2 {
            forwarded(&shop, client, "/api/products/").await.is(200);
        }
        forwarded(&shop, client, "/api/products/").await.is(429);
    }
    // What a client puts before its own address is not believed.
    forwarded(&shop, "198.51.100.7, 192.0.2.1", "/api/products/").await.is(429);
    forwarded(&shop, "198.51.100.7, 192.0.2.1, 10.0.0.9", "/api/products/").await.is(429);
}

#[tokio::test]
async fn a_client_that_calls_itself_a_proxy_is_not_believed() {
    let shop = Shop::start_with(&[("TRUSTED_PROXIES", "10.0.0.0/8"), ("RATE_LIMIT", "2")]).await;
    for client in ["192.0.2.1", "192.0.2.2"] {
        let answer = forwarded(&shop, client, "/api/products/?page_size=1").await.is(200);
        assert!(answer.headers.get("strict-transport-security").is_none(), "{answer}");
    }
    forwarded(&shop, "192.0.2.3", "/api/products/").await.is(429);
}

#[tokio::test]
async fn links_and_cookies_are_those_of_the_host_that_the_client_asked() {
    let shop = Shop::start_with(&[("TRUSTED_PROXIES", "127.0.0.1")]).await;
    for number in 0..2 {
        shop.product(&format!("Lamp {number}")).create().await;
    }
    let page = forwarded(&shop, "192.0.2.1", "/api/products/?page_size=1").await.is(200);
    assert_eq!(page["next"], "https://shop.example/api/products/?page_size=1&page=2");
    assert_eq!(page.header("strict-transport-security"), "max-age=31536000");
    let plain = shop.anyone().get("/api/products/?page_size=1").await.is(200);
    assert_eq!(plain["next"], format!("{}/api/products/?page_size=1&page=2", shop.url()));
    let login = forwarded(&shop, "192.0.2.1", "/admin/login/").await.is(200);
    assert!(login.header("set-cookie").contains("; Secure"), "{login}");
    let login = shop.anyone().get("/admin/login/").await.is(200);
    assert!(!login.header("set-cookie").contains("; Secure"), "{login}");
}

#[tokio::test]
async fn who_guesses_behind_a_proxy_keeps_out_himself_alone() {
    let shop = Shop::start_with(&[("TRUSTED_PROXIES", "127.0.0.1")]).await;
    shop.register("ann").await;
    let log_in = async |client: &str, password: &str| {
        let call = shop.anyone().call(Method::POST, "/auth/api/token/").header("x-forwarded-for", client);
        call.json(&json!({ "email": "ann@example.com", "password": password })).send().await
    };
    for _ in 0..10 {
        log_in("192.0.2.1", "wrong").await.is(401);
    }
    log_in("192.0.2.1", crate::harness::PASSWORD).await.is(429);
    log_in("192.0.2.2", crate::harness::PASSWORD).await.is(200);
}

#[tokio::test]
async fn a_host_that_could_be_none_is_a_bad_request() {
    let shop = Shop::start().await;
    for host in ["a b", "evil.example/path", "user@shop.example", "shop.example:port", "<script>"] {
        let answer = shop.anyone().call(Method::GET, "/api/").header("host", host).send().await;
        answer.is(400).has_detail("The request names no host, or none that could be one.");
    }
    let mut wire = crate::harness::Wire::to(&shop).await;
    wire.send("GET /api/ HTTP/1.1\r\n\r\n").await;
    assert!(wire.answer().await.starts_with("HTTP/1.1 400 "));
}
