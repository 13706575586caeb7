//! What holds for every path: slashes, HEAD and OPTIONS, methods not served, bodies that are none, sizes,
//! request ids, compression, conditional reads, and the operational pages.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Answer, DEADLINE, Shop, Shopper};

#[tokio::test]
async fn a_path_id_that_is_no_positive_integer_is_not_found() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    shop.product("Lamp").create().await;
    let kinds = ["products", "categories", "orders", "cart/items"];
    for kind in kinds {
        for id in ["0", "-1", "1.0", "1e3", "abc", "9223372036854775808", "99999999999999999999999", "%31%00"]
        {
            let path = format!("/api/{kind}/{id}/");
            let method = if kind == "cart/items" { Method::DELETE } else { Method::GET };
            let answer = admin.call(method, &path).send().await.is(404);
            assert!(answer["detail"].is_string(), "{answer}");
        }
    }
    shop.anyone().get("/api/products/999999/").await.is(404).has_detail("Not found.");
    admin.get("/api/orders/999999/").await.is(404).has_detail("Not found.");
}

#[tokio::test]
async fn paths_are_served_with_and_without_the_last_slash() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").create().await;

    for path in
        ["/api/products", "/api/categories", "/api/products/featured", "/api", "/healthz", "/healthz/"]
    {
        shop.anyone().get(path).await.is(200);
    }
    shop.anyone().get(&format!("/api/products/{}", lamp.id)).await.is(200);
    let login = json!({ "email": ada.email, "password": crate::harness::PASSWORD });
    shop.anyone().post("/auth/api/token", login).await.is(200);
    ada.patch("/auth/api/profile", json!({ "first_name": "Ada" })).await.is(200);
    let item = ada.post("/api/cart/items", json!({ "product_id": lamp.id })).await.is(201).id();
    ada.put(&format!("/api/cart/items/{item}"), json!({ "quantity": 2 })).await.is(200);
    ada.delete(&format!("/api/cart/items/{item}")).await.is(204);
    ada.delete("/api/cart").await.is(204);
    admin.delete(&format!("/api/products/{}", lamp.id)).await.is(204);
}

#[tokio::test]
async fn head_answers_as_get_does_but_without_the_body() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").create().await;
    let detail = lamp.path();
    let paths = ["/api/", "/api/products/", "/api/categories/", &detail, "/api/cart/", "/auth/api/profile/"];
    for path in paths.into_iter().chain(["/healthz", "/readyz"]) {
        let got = ada.get(path).await.is(200);
        let head = ada.call(Method::HEAD, path).send().await.is(200);
        assert!(head.bytes.is_empty(), "{head}");
        assert_eq!(head.headers.get("content-type"), got.headers.get("content-type"), "{head}");
        assert_eq!(head.headers.get("etag"), got.headers.get("etag"), "{head}");
        if let Some(length) = head.headers.get("content-length") {
            assert_eq!(length, &got.bytes.len().to_string(), "{head}");
        }
    }
    ada.call(Method::HEAD, "/api/products/999999/").send().await.is(404);
    ada.call(Method::HEAD, "/api/nowhere/").send().await.is(404);
    shop.anyone().call(Method::HEAD, "/api/cart/").send().await.is(401);
}

#[tokio::test]
async fn options_names_the_methods() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").create().await;
    for (path, methods) in [
        ("/api/products/", vec!["GET", "HEAD", "OPTIONS", "POST"]),
        (&lamp.path(), vec!["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"]),
        ("/api/cart/", vec!["DELETE", "GET", "HEAD", "OPTIONS"]),
        ("/auth/api/token/", vec!["OPTIONS", "POST"]),
    ] {
        let answer = admin.call(Method::OPTIONS, path).send().await;
        assert!([200, 204].contains(&answer.status), "{answer}");
        assert_eq!(allowed(&answer), methods, "{answer}");
    }
}

#[tokio::test]
async fn a_method_that_is_not_served_is_405_with_allow() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").create().await;
    for (method, path, served) in [
        (Method::PUT, "/api/cart/", "GET"),
        (Method::POST, "/api/cart/", "DELETE"),
        (Method::DELETE, "/api/products/", "POST"),
        (Method::PUT, "/api/products/", "GET"),
        (Method::POST, &lamp.path(), "PATCH"),
        (Method::GET, "/api/cart/items/", "POST"),
        (Method::GET, "/auth/api/token/", "POST"),
        (Method::DELETE, "/auth/api/profile/", "PATCH"),
        (Method::POST, "/api/notifications/", "GET"),
        (Method::DELETE, "/api/orders/", "GET"),
        (Method::POST, "/api/", "GET"),
    ] {
        let answer = admin.call(method.clone(), path).json(&json!({})).send().await.is(405);
        let answer = answer.has_detail(&format!("Method \"{method}\" not allowed."));
        assert!(allowed(&answer).iter().any(|name| name == served), "Allow should name {served}\n{answer}");
        assert!(!allowed(&answer).iter().any(|name| name == method.as_str()), "{answer}");
    }
}

fn allowed(answer: &Answer) -> Vec<String> {
    let mut methods: Vec<String> =
        answer.header("allow").split(',').map(|method| method.trim().to_owned()).collect();
    methods.sort();
    methods
}

#[tokio::test]
async fn an_unknown_path_is_not_found_in_json() {
    let shop = Shop::start().await;
    for path in [
        "/nowhere",
        "/api/nowhere/",
        "/auth/api/nowhere/",
        "/api/products/1/nowhere/",
        "/ws/nowhere/",
        "/%FF",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = shop.anyone().call(method, path).send().await.is(404);
            assert!(answer["detail"].is_string(), "{answer}");
            assert!(answer.header("content-type").starts_with("application/json"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let places = [
        (shop.anyone(), Method::POST, "/auth/api/register/"),
        (shop.anyone(), Method::POST, "/auth/api/token/"),
        (shop.anyone(), Method::POST, "/auth/api/token/refresh/"),
        (ada.clone(), Method::PATCH, "/auth/api/profile/"),
        (ada.clone(), Method::POST, "/api/cart/items/"),
        (ada.clone(), Method::POST, "/api/orders/"),
        (ada.clone(), Method::POST, "/api/notifications/read/"),
        (admin.clone(), Method::POST, "/api/products/"),
        (admin, Method::POST, "/api/categories/"),
    ];
    for (who, method, path) in places {
        let send = |body: Vec<u8>| {
            let call = who.call(method.clone(), path).body("application/json", body);
            async move { call.send().await.is(400).refused_properly() }
        };
        for broken in
            ["{", "{\"name\": }", "nonsense", "{\"name\": \"a\"} trailing", "{\"name\": \"\\ud800\"}"]
        {
            let answer = send(broken.into()).await;
            assert!(answer.text("detail").starts_with("JSON parse error - "), "{answer}");
        }
        send(vec![b'{', b'"', 0xff, 0xfe, b'"', b':', b'1', b'}']).await;
        send(b"[".repeat(100_000)).await;
        for (body, kind) in [("[]", "list"), ("[{}]", "list"), ("\"text\"", "str"), ("7", "int")] {
            let answer = send(body.into()).await;
            let expected = format!("Invalid data. Expected a dictionary, but got {kind}.");
            assert_eq!(answer["non_field_errors"], json!([expected]), "{answer}");
        }
        for body in ["null", "true", "1.5"] {
            send(body.into()).await;
        }
    }
}

#[tokio::test]
async fn a_media_type_that_is_not_taken_is_415() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let body = r#"{"first_name": "Eve"}"#;
    let patch = |kind: &str| ada.call(Method::PATCH, "/auth/api/profile/").body(kind, body).send();
    patch("text/plain").await.is(415).has_detail("Unsupported media type \"text/plain\" in request.");
    for kind in ["application/xml", "image/png", "application/octet-stream"] {
        let answer = patch(kind).await.is(415);
        assert!(answer.text("detail").contains(kind), "{answer}");
    }
    assert_eq!(ada.get("/auth/api/profile/").await.is(200)["first_name"], "");
    let answer = patch("application/json; charset=utf-8").await.is(200);
    assert_eq!(answer["first_name"], "Eve", "{answer}");
    // Without a media type a server may guess or refuse, but not fail.
    let answer = patch("").await;
    assert!([200, 400, 415].contains(&answer.status), "{answer}");
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_is_413() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let body = |length: usize| format!("{{\"notes\": \"{}\"}}", "x".repeat(length));
    let send = |length: usize| ada.call(Method::POST, "/api/orders/").body("application/json", body(length));

    let answer = send(1024 * 1024 + 1).send().await.is(413);
    assert!(answer["detail"].is_string(), "{answer}");
    send(1024 * 1024 - 64).send().await.is(400);

    // A chunked body has no length to judge by beforehand.
    let chunk = format!("10000\r\n{}\r\n", "y".repeat(0x10000));
    let request = format!(
        "POST /api/orders/ HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{}0\r\n\r\n",
        ada.access,
        chunk.repeat(17)
    );
    let answer = raw(&shop, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    // Far more may be cut off before the answer is read; the shop lives on either way.
    if let Ok(answer) = send(30 * 1024 * 1024).try_send().await {
        answer.is(413);
    }
    ada.get("/api/cart/").await.is(200);
}

/// Sends these very bytes, and reads until the server closes.
async fn raw(shop: &Shop, request: &str) -> String {
    let mut stream = TcpStream::connect(shop.address()).await.expect("the shop listens");
    let mut answer = Vec::new();
    let talk = async {
        // The server may answer and close before it has read all.
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    timeout(DEADLINE, talk).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_that_are_no_http_get_a_4xx_or_a_closed_connection() {
    let shop = Shop::start().await;
    for request in [
        "nonsense\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "GET /api/ HTTP/1.1\r\nContent-Length: -5\r\nHost: shop\r\n\r\n".to_owned(),
        "GET /api/ HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345"
            .to_owned(),
        format!("GET /api/ HTTP/1.1\r\nHost: shop\r\nX-Long: {}\r\n\r\n", "h".repeat(2_000_000)),
    ] {
        let answer = raw(&shop, &request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    shop.anyone().get("/healthz").await.is(200);
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let shop = Shop::start().await;
    let anyone = shop.anyone();
    let paths = ["/api/products/", "/api/cart/", "/nowhere", "/healthz", "/api/products/?price_min=x"];
    let mut seen = Vec::new();
    for path in paths {
        let answer = anyone.get(path).await;
        let id = answer.header("x-request-id").to_owned();
        assert!(!id.is_empty() && !seen.contains(&id), "{answer}");
        seen.push(id);
    }
    assert!(!anyone.call(Method::PUT, "/api/").send().await.is(405).header("x-request-id").is_empty());
    let large = "x".repeat(1024 * 1024 + 1);
    let large =
        anyone.call(Method::POST, "/auth/api/token/").body("application/json", large).send().await.is(413);
    assert!(!large.header("x-request-id").is_empty());

    for sane in ["order-42", "7f1c0a52-8d6f-4c59-8c3a-4e8f0c1c2d3e", "abc_DEF.123"] {
        let answer = anyone.call(Method::GET, "/api/products/").header("x-request-id", sane).send().await;
        assert_eq!(answer.header("x-request-id"), sane);
    }
    for insane in
        ["", "a b\tc", "<script>alert(1)</script>", "{\"level\": \"error\"}", "ünï", &"a".repeat(3_000)]
    {
        let answer =
            anyone.call(Method::GET, "/api/products/").header("x-request-id", insane).send().await.is(200);
        let id = answer.header("x-request-id");
        assert!(!id.is_empty() && id != insane && !id.contains('<'), "{answer}");
    }
}

#[tokio::test]
async fn large_answers_are_compressed_on_request() {
    let shop = Shop::start().await;
    for number in 1..=10 {
        let text = format!("A lamp of the {number}th kind. ").repeat(60);
        shop.product(&format!("Lamp {number}")).with("description", text).create().await;
    }
    let get = |path: &str, accepted: &str| {
        shop.anyone().call(Method::GET, path).header("accept-encoding", accepted).send()
    };
    let plain = shop.anyone().get("/api/products/").await.is(200);
    assert!(plain.headers.get("content-encoding").is_none(), "{plain}");
    for encoding in ["br", "gzip", "zstd"] {
        // The second is answered from whatever the first has left in a cache.
        for _ in 0..2 {
            let answer = get("/api/products/", encoding).await.is(200);
            assert_eq!(answer.header("content-encoding"), encoding, "{answer}");
            assert!(answer.header("vary").to_lowercase().contains("accept-encoding"), "{answer}");
            assert!(answer.bytes.len() * 2 < plain.bytes.len(), "{encoding} should gain");
            assert_eq!(decoded(&shop, encoding).await, plain.json, "{encoding} should say the same");
        }
    }
    for refused in ["identity", "gzip;q=0", "nonsense", ""] {
        let answer = get("/api/products/", refused).await.is(200);
        assert_eq!(answer.bytes, plain.bytes, "{answer}");
    }
    let tag = get("/api/products/", "gzip").await;
    let again = shop.anyone().call(Method::GET, "/api/products/").header("accept-encoding", "gzip");
    again.header("if-none-match", tag.header("etag")).send().await.is(304);

    let small = get("/api/products/999999/", "br, gzip, zstd").await.is(404);
    assert!(small.headers.get("content-encoding").is_none(), "too small to gain\n{small}");
}

/// The product list as a client reads it that decodes what it asks for.
async fn decoded(shop: &Shop, encoding: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
    let request = client.get(shop.url() + "/api/products/").header("accept-encoding", encoding);
    request.send().await.expect("an answer").json().await.expect("JSON")
}

#[tokio::test]
async fn catalogue_reads_are_conditional() {
    let shop = Shop::start().await;
    let category = shop.new_category("Lights").await;
    let lamp = shop.product("Lamp").category(category).with("featured", true).create().await;
    let admin = shop.admin().await;
    let paths = [
        "/api/products/".to_owned(),
        "/api/products/?search=lamp&ordering=-price".to_owned(),
        "/api/products/featured/".to_owned(),
        lamp.path(),
        "/api/categories/".to_owned(),
        format!("/api/categories/{category}/"),
        format!("/api/categories/{category}/products/"),
    ];
    let mut tags = Vec::new();
    for path in &paths {
        let answer = shop.anyone().get(path).await.is(200);
        let tag = answer.header("etag").to_owned();
        assert!(tag.ends_with('"') && (tag.starts_with('"') || tag.starts_with("W/\"")), "{answer}");
        let with = |tags: &str| shop.anyone().call(Method::GET, path).header("if-none-match", tags).send();
        let unchanged = with(&tag).await.is(304);
        assert!(unchanged.bytes.is_empty() && unchanged.header("etag") == tag, "{unchanged}");
        with("*").await.is(304);
        with(&format!("\"another\", {tag}")).await.is(304);
        with(&format!("W/{}", tag.trim_start_matches("W/"))).await.is(304);
        for other in ["\"another\"", "nonsense", "", "W/", "\""] {
            with(other).await.is(200);
        }
        tags.push(tag);
    }
    admin.patch(&lamp.path(), json!({ "name": "Lantern lamp" })).await.is(200);
    admin.patch(&format!("/api/categories/{category}/"), json!({ "name": "Lanterns" })).await.is(200);
    for (path, tag) in paths.iter().zip(&tags) {
        let answer = shop.anyone().call(Method::GET, path).header("if-none-match", tag).send().await.is(200);
        assert_ne!(answer.header("etag"), tag, "{answer}");
    }
}

#[tokio::test]
async fn the_index_names_entry_points_that_are_there() {
    let shop = Shop::start().await;
    let answer = shop.anyone().get("/api/").await.is(200);
    let entries = answer.json.as_object().unwrap_or_else(|| panic!("an object of names\n{answer}"));
    for name in ["products", "categories", "cart", "orders"] {
        assert!(entries.contains_key(name), "the index should name {name}\n{answer}");
    }
    for address in entries.values().filter_map(Value::as_str).filter(|address| !address.contains('{')) {
        let answer = shop.anyone().get(address).await;
        assert!([200, 401, 405].contains(&answer.status), "{answer}");
    }
}

#[tokio::test]
async fn health_is_told_to_anyone() {
    let shop = Shop::start().await;
    shop.anyone().get("/healthz").await.is(200);
    shop.anyone().get("/readyz").await.is(200);
    let eve: Shopper = shop.anyone().bearing("nonsense");
    eve.get("/healthz").await.is(200);
}

#[tokio::test]
async fn pages_of_befriended_sites_may_call() {
    let shop = Shop::start_with(&[("CORS_ALLOWED_ORIGINS", "https://friend.example")]).await;
    let ask = |method: Method, origin: &str| {
        let call = shop.anyone().call(method, "/api/products/").header("origin", origin);
        let call = call.header("access-control-request-method", "POST");
        call.header("access-control-request-headers", "authorization, content-type, idempotency-key").send()
    };
    let friend = ask(Method::GET, "https://friend.example").await.is(200);
    assert_eq!(friend.header("access-control-allow-origin"), "https://friend.example");
    let friend = ask(Method::OPTIONS, "https://friend.example").await;
    assert!([200, 204].contains(&friend.status), "{friend}");
    assert_eq!(friend.header("access-control-allow-origin"), "https://friend.example");
    assert!(friend.header("access-control-allow-methods").contains("POST"), "{friend}");
    let headers = friend.header("access-control-allow-headers").to_lowercase();
    for header in ["authorization", "content-type", "idempotency-key"] {
        assert!(headers.contains(header), "{friend}");
    }
    for foreign in ["https://evil.example", "null", "https://friend.example.evil.example"] {
        for method in [Method::GET, Method::OPTIONS] {
            let answer = ask(method, foreign).await;
            let allowed = answer.headers.get("access-control-allow-origin");
            assert!(allowed.is_none(), "{answer}");
        }
    }
}
