//! Everything is bounded, and whoever meets a bound is told so: at once, with a status, and in words.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Shop, Shopper, Wire, eventually};
use crate::metrics::Reading;

#[tokio::test]
async fn what_is_too_much_at_one_time_is_refused_while_probes_are_answered() {
    let shop = Shop::start_with(&[("MAX_REQUESTS", "2")]).await;
    let mut registrations = JoinSet::new();
    for number in 0..40 {
        let stranger = shop.anyone();
        registrations.spawn(async move {
            stranger.post("/auth/api/register/", Shopper::papers(&format!("ann{number}"))).await
        });
    }
    let mut probes = 0;
    let (mut let_in, mut refused) = (0, 0);
    while !registrations.is_empty() {
        for path in ["/healthz", "/readyz", "/metrics"] {
            shop.anyone().get(path).await.is(200);
        }
        probes += 1;
        while let Some(answer) = registrations.try_join_next() {
            let answer = answer.unwrap();
            match answer.status {
                201 => let_in += 1,
                503 => {
                    assert_eq!(answer["detail"], "The service is over capacity. Try again later.");
                    assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0, "{answer}");
                    refused += 1;
                }
                _ => panic!("either there is room or there is none\n{answer}"),
            }
        }
    }
    assert!(let_in > 0 && probes > 0, "{let_in} let in, {refused} refused, {probes} rounds of probes");
    assert!(refused > 0, "forty at once are more than two");
    shop.register("late").await;
}

#[tokio::test]
async fn slow_bodies_keep_nobody_out() {
    let shop = Shop::start_with(&[("MAX_REQUESTS", "2")]).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(Wire::with_half_a_login(&shop).await);
    }
    shop.register("ann").await;
    let answer = shop.anyone().get("/api/products/").await;
    answer.is(200);
    let mut told = 0;
    for wire in &mut slow {
        let answer = wire.answer().await;
        // Some heads may have come at the very moment at which two others were looked at.
        assert!(["HTTP/1.1 408 ", "HTTP/1.1 503 "].iter().any(|known| answer.starts_with(known)), "{answer}");
        told += usize::from(answer.starts_with("HTTP/1.1 408 "));
    }
    assert!(told > 2, "more than there are places wait outside, and are told so in the end: {told}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_probes_still_pass() {
    let shop = Shop::start_with(&[("MAX_CONNECTIONS", "3")]).await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::to(&shop).await;
        assert!(wire.get("/api/products/").await.starts_with("HTTP/1.1 200 "));
        inside.push(wire);
    }
    let mut outside = Wire::to(&shop).await;
    let answer = outside.get("/api/products/").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: ") && answer.contains("connection: close"), "{answer}");
    outside.is_ended().await;
    assert!(Wire::to(&shop).await.get("/healthz").await.starts_with("HTTP/1.1 200 "));
    // Those inside notice nothing, and a place that is free again is anybody's.
    assert!(inside[0].get("/api/products/").await.starts_with("HTTP/1.1 200 "));
    inside.pop();
    eventually("the place is free", async || {
        Wire::to(&shop).await.get("/api/products/").await.starts_with("HTTP/1.1 200 ")
    })
    .await;
}

#[tokio::test]
async fn sockets_are_counted_by_user_and_in_all_and_as_connections() {
    let shop = Shop::start_with(&[("MAX_SOCKETS", "3"), ("MAX_SOCKETS_PER_USER", "2")]).await;
    let (ann, bob) = (shop.register("ann").await, shop.register("bob").await);
    let _first = ann.knock().bearer(&ann.access).open().await;
    let second = ann.knock().bearer(&ann.access).open().await;
    let full = "The service is over capacity. Try again later.";
    assert_eq!(ann.knock().bearer(&ann.access).refused().await, (503, json!({ "detail": full })));
    let _third = bob.knock().bearer(&bob.access).open().await;
    assert_eq!(bob.knock().bearer(&bob.access).refused().await, (503, json!({ "detail": full })));
    second.leave().await;
    eventually("there is room again", async || Reading::of(&shop).await.sum("souk_sockets", &[]) == 2.0)
        .await;
    bob.knock().bearer(&bob.access).open().await.leave().await;
}

#[tokio::test]
async fn a_socket_keeps_its_place_among_the_connections() {
    let shop = Shop::start_with(&[("MAX_CONNECTIONS", "2")]).await;
    let ann = shop.register("ann").await;
    let _socket = ann.knock().bearer(&ann.access).open().await;
    // The other place is that of the connection by which Ann registered.
    eventually("both places are taken", async || {
        Wire::to(&shop).await.get("/api/products/").await.starts_with("HTTP/1.1 503 ")
    })
    .await;
}

#[tokio::test]
async fn what_is_too_long_is_told_so() {
    let shop = Shop::start().await;
    let long = |length: usize| "x".repeat(length);
    let answer = shop.anyone().get(&format!("/api/products/?x={}", long(8_200))).await.is(414);
    assert_eq!(answer["detail"], "The URL is longer than 8192 bytes.");
    shop.anyone().get(&format!("/api/products/?x={}", long(7_000))).await.is(200);

    let with_header = async |value: &str| {
        shop.anyone().call(Method::GET, "/api/products/").header("x-much", value).send().await.status
    };
    assert_eq!(with_header(&long(20_000)).await, 200);
    assert_eq!(with_header(&long(40_000)).await, 431);
    let mut wire = Wire::to(&shop).await;
    let headers: String = (0..150).map(|number| format!("x-{number}: y\r\n")).collect();
    wire.send(&format!("GET /api/ HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
    assert!(wire.answer().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn whoever_says_nothing_is_let_go_and_so_is_whoever_says_it_slowly() {
    let shop = Shop::start().await;
    let (began, open_files) = (tokio::time::Instant::now(), shop.open_files());
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(Wire::to(&shop).await);
    }
    let mut halfway = Wire::to(&shop).await;
    halfway.send("GET /api/ HTTP/1.1\r\nhost: loc").await;
    let mut idle = Wire::to(&shop).await;
    assert!(idle.get("/api/").await.starts_with("HTTP/1.1 200 "));
    // HTTP/2 that says hello, and no more.
    let mut second = Wire::to(&shop).await;
    second.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0").await;
    for wire in silent.iter_mut().chain([&mut halfway, &mut idle, &mut second]) {
        wire.is_ended().await;
    }
    assert!(began.elapsed() > Duration::from_secs(15), "they had their time");
    // The database may have opened some files of its own meanwhile.
    eventually("nothing of them is left", async || shop.open_files() < open_files + 20).await;
}
