//! Fuzzing of all that parses what strangers send: query strings, JSON bodies, tokens and forms, through the whole service.
//!
//! Whatever comes in, the answer is no fault of ours (no 5xx, no panic), it is JSON, and a token that was touched is none.
//! What was found is kept as a test of its own beside what it found. `SOUK_FUZZ_CASES` sets how many
//! cases each test tries; the default is for a suite that is run often.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use salvo::http::Method;
use salvo::test::RequestBuilder;
use serde_json::{Map, Value, json};
use souk_store::model::{Timestamp, UserId};
use uuid::Uuid;

use crate::testing::{Answer, TestShop, request};
use crate::tokens::BadToken;

/// How many cases a test tries unless `SOUK_FUZZ_CASES` says otherwise.
const CASES: u32 = 96;

fn config() -> ProptestConfig {
    let cases = std::env::var("SOUK_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    // What fails is shrunk and printed; nothing is written beside the source.
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() }
}

/// Tries `holds` with values of `strategy`, on one shop.
#[expect(clippy::needless_pass_by_value, reason = "a closure is written where it is passed")]
fn fuzz<S: Strategy>(strategy: &S, holds: impl AsyncFn(&Fixture, S::Value) -> TestCaseResult) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = runtime.block_on(Fixture::open());
    let outcome = TestRunner::new(config()).run(strategy, |value| runtime.block_on(holds(&fixture, value)));
    runtime.block_on(fixture.shop.close());
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

struct Fixture {
    shop: TestShop,
    /// Of an admin, who gets furthest.
    token: String,
}

impl Fixture {
    async fn open() -> Self {
        let shop = TestShop::open().await;
        let admin = shop.user("admin", true).await;
        let token = shop.access(&admin);
        let rugs = shop.post("/api/categories/", &token, json!({"name": "Rugs"})).await.is(201);
        let rug = json!({"name": "Rug", "price": "1.00", "category": rugs.json["id"], "stock": 1_000_000});
        shop.post("/api/products/", &token, rug).await.is(201);
        Self { shop, token }
    }

    async fn answer(&self, request: RequestBuilder) -> Answer {
        let request = request.bearer_auth(&self.token);
        Answer::of(request.send(&self.shop.service).await).await
    }
}

/// No fault of ours, and said in JSON.
fn is_proper(answer: &Answer, asked: &str) -> TestCaseResult {
    prop_assert!(answer.status < 500, "{} for {asked}: {}", answer.status, answer.json);
    if answer.status >= 400 {
        prop_assert!(answer.json.is_object(), "a {} without JSON for {asked}", answer.status);
    }
    Ok(())
}

/// Text with a liking for what means something to somebody.
fn text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "",
        " ",
        "\0",
        "%",
        "_",
        "\\",
        "'",
        "\"",
        "-",
        "--",
        ",",
        "0",
        "-0",
        "1",
        "-1",
        "1e9",
        "1e999",
        "NaN",
        "inf",
        "0x10",
        "9223372036854775807",
        "9223372036854775808",
        "99999999.99",
        "0.001",
        ".5",
        "5.",
        "+5",
        "١",
        "true",
        "false",
        "True",
        "null",
        "2026-02-30",
        "9999-12-31",
        "0000-00-00",
        "name",
        "-price",
        "price,-price",
        "\u{feff}",
        "\u{202e}",
        "ﬀ",
        "İ",
        "ß",
        "😀",
        "a\u{301}",
        "../..",
        "; drop table users",
        "* match \"x",
    ]);
    prop_oneof![
        3 => known.prop_map(str::to_owned),
        3 => "\\PC{0,12}",
        1 => vec(any::<char>(), 0..300).prop_map(String::from_iter),
    ]
}

const LISTS: [&str; 8] = [
    "/api/products/",
    "/api/products/featured/",
    "/api/categories/",
    "/api/categories/1/products/",
    "/api/products/1/movements/",
    "/api/orders/",
    "/api/notifications/",
    "/auth/api/users/",
];

const PARAMETERS: [&str; 16] = [
    "page",
    "page_size",
    "search",
    "ordering",
    "category",
    "price_min",
    "price_max",
    "in_stock",
    "featured",
    "status",
    "user",
    "unread",
    "is_active",
    "is_admin",
    "last_event_id",
    "nobody_knows_this",
];

#[test]
fn whatever_a_query_says_is_answered() {
    let parameters = vec((prop::sample::select(PARAMETERS.to_vec()), text()), 0..6);
    // As a client would write it, or byte by byte.
    let written = parameters.prop_map(|parameters| {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
    });
    let raw = vec(prop::sample::select(b"page=search&%0Aa-,.;+[]\x7f".to_vec()), 0..60)
        .prop_map(|bytes| bytes.into_iter().map(char::from).filter(char::is_ascii_graphic).collect());
    let query = prop_oneof![4 => written, 1 => raw];
    fuzz(&(prop::sample::select(LISTS.to_vec()), query), async |fixture, (path, query): (&str, String)| {
        let asked = format!("{path}?{query}");
        // What is no URI never gets here.
        if asked.parse::<salvo::http::uri::Uri>().is_err() {
            return Ok(());
        }
        let answer = fixture.answer(request(Method::GET, &asked)).await;
        prop_assert!(
            [200, 400, 404].contains(&answer.status),
            "{} for {asked}: {}",
            answer.status,
            answer.json
        );
        is_proper(&answer, &asked)
    });
}

/// Any JSON, as deep as it likes to be.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-10_i64..100).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((text(), inner), 0..4)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Calls that take bodies, and the fields that they know.
const CALLS: [(&str, &str, &[&str]); 14] = [
    (
        "POST",
        "/api/products/",
        &["name", "price", "category", "stock", "sku", "featured", "is_active", "description", "image"],
    ),
    (
        "PATCH",
        "/api/products/1/",
        &["name", "price", "category", "stock", "sku", "featured", "description", "image"],
    ),
    ("POST", "/api/products/1/stock/", &["change", "stock", "was"]),
    ("POST", "/api/categories/", &["name", "description", "is_active", "image"]),
    ("PUT", "/api/categories/1/", &["name", "description", "is_active"]),
    ("POST", "/api/cart/items/", &["product_id", "quantity"]),
    ("PATCH", "/api/cart/items/1/", &["quantity"]),
    ("POST", "/api/orders/", &["shipping_address", "phone", "notes"]),
    ("PATCH", "/api/orders/1/status/", &["status"]),
    ("POST", "/api/notifications/read/", &["up_to"]),
    (
        "PATCH",
        "/auth/api/profile/",
        &["email", "username", "first_name", "date_of_birth", "phone", "address", "profile"],
    ),
    ("POST", "/auth/api/token/refresh/", &["refresh"]),
    ("POST", "/auth/api/token/verify/", &["token"]),
    ("POST", "/auth/api/logout/", &["refresh"]),
];

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

#[test]
fn whatever_a_body_says_is_answered() {
    let call = prop::sample::select(CALLS.to_vec());
    let known = call.prop_flat_map(|(method, path, fields)| {
        let members = vec((prop::sample::select(fields.to_vec()), value()), 0..fields.len() + 1);
        let body = members.prop_map(|members| {
            let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
            Value::from(members.collect::<Map<_, _>>()).to_string().into_bytes()
        });
        (Just((method, path)), body)
    });
    let any_json = value().prop_map(|value| value.to_string().into_bytes());
    // JSON with some of its bytes changed, and no JSON at all.
    let broken = (value(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(value, at, byte)| {
        let mut bytes = value.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let noise = vec(any::<u8>(), 0..64);
    let deep = (1_usize..5_000).prop_map(|depth| "[".repeat(depth).into_bytes());
    let call = prop::sample::select(CALLS.to_vec()).prop_map(|(method, path, _)| (method, path));
    let unknown = (call, prop_oneof![3 => any_json, 3 => broken, 1 => noise, 1 => deep]);
    fuzz(
        &prop_oneof![3 => known, 2 => unknown],
        async |fixture, ((name, path), body): ((&str, &str), Vec<u8>)| {
            let asked = format!("{name} {path} {}", String::from_utf8_lossy(&body));
            let request =
                request(method(name), path).add_header("content-type", "application/json", true).body(body);
            is_proper(&fixture.answer(request).await, &asked)
        },
    );
}

#[test]
fn a_token_that_was_touched_is_none() {
    let at = any::<prop::sample::Index>();
    let change = prop_oneof![
        any::<u8>().prop_map(Some),
        prop::sample::select(b"-_.=+/AQgw048".to_vec()).prop_map(Some),
        Just(None),
    ];
    fuzz(&(any::<bool>(), vec((at, change), 1..4)), async |fixture, (is_access, changes)| {
        let (tokens, now) = (&fixture.shop.api.tokens, Timestamp::now());
        let token = if is_access {
            tokens.access(UserId(1), 0, now)
        } else {
            tokens.refresh(UserId(1), Uuid::nil(), Uuid::nil(), now)
        };
        let mut touched = token.clone().into_bytes();
        for (at, change) in changes {
            let at = at.index(touched.len());
            match change {
                Some(byte) => touched[at] = byte,
                None => drop(touched.remove(at)),
            }
        }
        let touched = String::from_utf8_lossy(&touched).into_owned();
        prop_assume!(touched != token);
        prop_assert_eq!(tokens.read_access(&touched, now), Err(BadToken::Invalid), "{}", touched);
        prop_assert_eq!(tokens.read_refresh(&touched, now), Err(BadToken::Invalid), "{}", touched);
        Ok(())
    });
}

#[test]
fn whatever_is_shown_as_a_token_is_answered() {
    let part = prop_oneof!["[A-Za-z0-9_-]{0,40}", text()];
    let token = prop_oneof![vec(part, 0..5).prop_map(|parts| parts.join(".")), text()];
    fuzz(&token, async |fixture, token| {
        let answer = fixture.shop.post("/auth/api/token/verify/", "", json!({ "token": token })).await;
        prop_assert!([400, 401].contains(&answer.status), "{} for {token:?}", answer.status);
        let header = format!("Bearer {token}");
        if salvo::http::HeaderValue::from_str(&header).is_ok() {
            let request =
                request(Method::GET, "/auth/api/profile/").add_header("authorization", header, true);
            let answer = Answer::of(request.send(&fixture.shop.service).await).await;
            prop_assert_eq!(answer.status, 401, "{:?}", token);
        }
        Ok(())
    });
}

const BOUNDARY: &str = "edge";

#[test]
fn whatever_a_form_holds_is_answered() {
    let name = prop_oneof![
        prop::sample::select(vec![
            "name",
            "price",
            "category",
            "stock",
            "image",
            "sku",
            "first_name",
            "avatar",
            "profile"
        ])
        .prop_map(str::to_owned),
        "[^\r\n\"]{0,20}",
    ];
    let file = prop::option::of("[^\r\n\"]{0,20}");
    let head = prop::option::weighted(0.3, "[A-Za-z-]{1,12}: [ -~]{0,30}");
    let content = prop_oneof![
        text().prop_map(String::into_bytes),
        vec(any::<u8>(), 0..200),
        Just(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff".to_vec()),
        Just(b"\xff\xd8\xff\xe0\0\x10JFIF\0".to_vec()),
        Just(b"RIFF\xff\xff\xff\xffWEBPVP8X".to_vec()),
    ];
    let part = (name, file, head, content).prop_map(|(name, file, head, content)| {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        let head = head.map(|head| format!("{head}\r\n")).unwrap_or_default();
        let mut part =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n{head}\r\n")
                .into_bytes();
        part.extend_from_slice(&content);
        part.extend_from_slice(b"\r\n");
        part
    });
    let whole = vec(part, 0..5).prop_map(|parts| {
        let mut body = parts.concat();
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        body
    });
    let whole = whole.boxed();
    // Cut off somewhere, or with a byte changed.
    let cut = (whole.clone(), any::<prop::sample::Index>()).prop_map(|(mut body, at)| {
        body.truncate(at.index(body.len()));
        body
    });
    let broken =
        (whole.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut body, at, byte)| {
            let at = at.index(body.len());
            body[at] = byte;
            body
        });
    let noise = vec(any::<u8>(), 0..200);
    let body = prop_oneof![4 => whole, 2 => cut, 2 => broken, 1 => noise];
    let call = prop::sample::select(vec![
        ("POST", "/api/products/"),
        ("PATCH", "/api/products/1/"),
        ("POST", "/api/categories/"),
        ("PATCH", "/auth/api/profile/"),
    ]);
    fuzz(&(call, body), async |fixture, ((name, path), body): ((&str, &str), Vec<u8>)| {
        let asked = format!("{name} {path} {}", String::from_utf8_lossy(&body));
        let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = request(method(name), path).add_header("content-type", media_type, true).body(body);
        is_proper(&fixture.answer(request).await, &asked)
    });
}

#[test]
fn whatever_is_called_a_boundary_is_answered() {
    let media_type = prop_oneof![
        "[ -~]{0,60}",
        "[ -~]{0,80}".prop_map(|boundary| format!("multipart/form-data; boundary={boundary}")),
        "[ -~]{0,20}".prop_map(|rest| format!("application/json{rest}")),
    ];
    fuzz(&(media_type, vec(any::<u8>(), 0..60)), async |fixture, (media_type, body): (String, Vec<u8>)| {
        let asked = format!("{media_type:?} {body:?}");
        let request = request(Method::PATCH, "/auth/api/profile/");
        let request = request.add_header("content-type", media_type, true).body(body);
        is_proper(&fixture.answer(request).await, &asked)
    });
}
