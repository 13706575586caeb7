//! What `/metrics` tells, and that it is true: whatever is counted rises when it happens, the text is one that
//! Prometheus reads, no client can make it grow, and the dashboard shows nothing that is not there.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Form, PASSWORD, Product, Shop, eventually, png};

/// One reading: the figures by their names with labels, as they stand in the text.
pub(crate) struct Reading {
    text: String,
    figures: BTreeMap<String, f64>,
}

impl Reading {
    pub(crate) async fn of(shop: &Shop) -> Self {
        let answer = shop.anyone().get("/metrics").await.is(200);
        let media_type = answer.header("content-type");
        assert!(media_type.starts_with("application/openmetrics-text; version=1.0.0"), "{media_type}");
        let text = answer.plain();
        let figures = parsed(&text);
        Self { text, figures }
    }

    /// The sum of a figure over all its labels, or over those that have all of these.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let matching = self.figures.iter().filter(|(sample, _)| {
            let (its_name, its_labels) = sample.split_once('{').unwrap_or((sample, ""));
            its_name == name && labels.iter().all(|label| its_labels.contains(label))
        });
        let found: Vec<f64> = matching.map(|(_, value)| *value).collect();
        assert!(!found.is_empty(), "no {name} with {labels:?} in\n{}", self.text);
        found.iter().sum()
    }

    fn names(&self) -> BTreeSet<&str> {
        self.figures.keys().filter_map(|sample| sample.split('{').next()).collect()
    }
}

/// Reads the text as Prometheus would, and asserts that it keeps to the rules.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut family = "";
    assert!(text.ends_with("# EOF\n"), "the text ends with its end");
    for line in text.lines().take_while(|line| *line != "# EOF") {
        if let Some(about) = line.strip_prefix("# ") {
            let mut words = about.splitn(3, ' ');
            let (what, name, rest) = (words.next(), words.next().expect("a name"), words.next());
            let rest = rest.filter(|rest| !rest.is_empty()).unwrap_or_else(|| panic!("nothing in {line}"));
            assert!(is_name(name), "{line}");
            match what {
                Some("HELP") => {
                    assert!(told.insert(name), "{name} is told of twice");
                    family = name;
                }
                Some("TYPE") => {
                    assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    assert!(kinds.insert(name, rest).is_none(), "{name} has two types");
                }
                _ => panic!("an unknown line: {line}"),
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let name = sample.split('{').next().expect("a name");
        assert!(is_name(name), "{line}");
        assert!(told.contains(family) && kinds.contains_key(family), "{line} has no help or no type");
        let endings: &[&str] = match kinds[family] {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            _ => &[""],
        };
        let ending = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is none of {family}"));
        assert!(endings.contains(&ending), "{line} is no {}", kinds[family]);
        assert!(name.starts_with("souk_") || name.starts_with("process_"), "{line}");
        let labels = sample[name.len()..].trim_matches(['{', '}']);
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            assert!(is_name(label) && !value.contains(['\n', '\\']), "{line}");
        }
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(value.is_finite() && (value >= 0.0), "{line}");
        assert!(figures.insert(sample.to_owned(), value).is_none(), "{sample} is there twice");
    }
    buckets_add_up(&figures);
    figures
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The buckets of each histogram rise to the last, which reaches for ever and holds all.
fn buckets_add_up(figures: &BTreeMap<String, f64>) {
    let mut last: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (sample, count) in figures {
        let Some((name, labels)) = sample.split_once("_bucket{") else { continue };
        let (bounds, others): (Vec<&str>, Vec<&str>) = labels
            .trim_end_matches('}')
            .split_inclusive("\",")
            .map(|label| label.trim_end_matches(','))
            .partition(|label| label.starts_with("le="));
        let bound = match bounds[..] {
            [r#"le="+Inf""#] => f64::INFINITY,
            [bound] => bound.trim_matches(['l', 'e', '=', '"']).parse().expect("a number"),
            _ => panic!("not one bound: {sample}"),
        };
        let others = others.join(",");
        let of =
            if others.is_empty() { format!("{name}_count") } else { format!("{name}_count{{{others}}}") };
        last.entry(of).or_default().push((bound, *count));
    }
    for (of, mut buckets) in last {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{of}: {buckets:?}");
        let (bound, all) = buckets[buckets.len() - 1];
        assert_eq!((bound, Some(&all)), (f64::INFINITY, figures.get(&of)), "{of}");
    }
}

/// Does something, and says by how much a figure has risen.
async fn rise(shop: &Shop, name: &str, labels: &[&str], happens: impl AsyncFnOnce()) -> f64 {
    let before = Reading::of(shop).await.sum(name, labels);
    happens().await;
    Reading::of(shop).await.sum(name, labels) - before
}

async fn shop_with_a_lamp() -> (Shop, Product) {
    let shop = Shop::start().await;
    let lamp = shop.product("Lamp").stock(10).create().await;
    (shop, lamp)
}

#[tokio::test]
async fn requests_are_counted_by_route_method_and_status_and_no_client_makes_up_more() {
    let (shop, lamp) = shop_with_a_lamp().await;
    let count = "souk_http_request_duration_seconds_count";
    let detail = ["route=\"/api/products/{product}\"", "method=\"GET\"", "status=\"200\""];
    let anyone = shop.anyone();
    anyone.get(&lamp.path()).await.is(200);
    let more = rise(&shop, count, &detail, async || {
        for _ in 0..3 {
            anyone.get(&lamp.path()).await.is(200);
        }
    });
    assert_eq!(more.await, 3.0);
    let lines = Reading::of(&shop).await.text.lines().count();
    for number in 0..50 {
        anyone.get(&format!("/nowhere/{number}/")).await.is(404);
        anyone.get(&format!("/api/products/{}/?x={number}", 900_000 + number)).await.is(404);
        let method = Method::from_bytes(format!("M{number}").as_bytes()).expect("a method");
        anyone.call(method, "/api/products/").send().await.is(405);
    }
    let reading = Reading::of(&shop).await;
    assert_eq!(reading.sum(count, &["route=\"unmatched\"", "status=\"404\""]), 50.0);
    assert_eq!(reading.sum(count, &["method=\"other\"", "status=\"405\""]), 50.0);
    let grown = reading.text.lines().count() - lines;
    assert!(grown < 4 * 20, "150 requests made {grown} lines\n{}", reading.text);
    assert!(!reading.text.contains("nowhere"), "{}", reading.text);
    assert_eq!(reading.sum("souk_http_requests_in_flight", &[]), 1.0, "the one that asks");
}

#[tokio::test]
async fn what_the_ledger_does_and_refuses_is_counted() {
    let (shop, lamp) = shop_with_a_lamp().await;
    let ada = shop.register("ada").await;
    let before = Reading::of(&shop).await;
    ada.buy(&lamp, 2).await;
    ada.checkout().await.is(400);
    ada.fill_cart(&lamp, 8).await;
    let admin = shop.admin().await;
    admin.post(&lamp.path_of("stock"), json!({ "change": -3 })).await.is(200);
    admin.post(&lamp.path_of("stock"), json!({ "change": -300 })).await.is(409);
    ada.checkout().await.is(409);
    let after = Reading::of(&shop).await;
    let risen = |name: &str, labels: &[&str]| after.sum(name, labels) - before.sum(name, labels);
    for (what, times) in [("order_placed", 1.0), ("cart_edited", 2.0), ("product_written", 1.0)] {
        assert_eq!(risen("souk_ledger_works_done_total", &[what]), times, "{what}");
    }
    for reason in ["stock_is_another", "out_of_stock"] {
        assert_eq!(risen("souk_ledger_works_refused_total", &[reason]), 1.0, "{reason}");
    }
    for reason in ["cart_empty", "out_of_stock"] {
        assert_eq!(risen("souk_cart_requests_refused_total", &[reason]), 1.0, "{reason}");
    }
    assert_eq!(risen("souk_ledger_works_refused_total", &["busy"]), 0.0);
    // One after the other, so each made a batch of its own; the empty cart needed none.
    assert_eq!(risen("souk_ledger_batch_size_works_count", &[]), 6.0);
    assert_eq!(risen("souk_ledger_batch_size_works_sum", &[]), 6.0);
    assert_eq!(risen("souk_ledger_transaction_duration_seconds_count", &[]), 6.0);
    assert!(risen("souk_ledger_transaction_duration_seconds_sum", &[]) > 0.0);
    assert_eq!(after.sum("souk_ledger_works", &[]), 0.0);
    assert!(after.sum("souk_ledger_works_max", &[]) > 0.0);
    assert!(after.sum("souk_carts_alive", &[]) >= 1.0);
    shop.audit().await;
}

#[tokio::test]
async fn sockets_and_their_events_are_counted_live_and_replayed() {
    let (shop, lamp) = shop_with_a_lamp().await;
    let ada = shop.register("ada").await;
    assert_eq!(Reading::of(&shop).await.sum("souk_sockets", &[]), 0.0);
    let mut socket = ada.socket().await;
    // A socket that was just opened is live once it has looked at the rows.
    socket.is_quiet().await;
    ada.buy(&lamp, 1).await;
    socket.next_of("order_created").await;
    let reading = Reading::of(&shop).await;
    assert_eq!((reading.sum("souk_sockets", &[]), reading.sum("souk_sessions", &[])), (1.0, 1.0));
    assert_eq!(reading.sum("souk_events_sent_total", &[]), 1.0);
    let mut again = ada.socket_from(0).await;
    again.next_of("order_created").await;
    let reading = Reading::of(&shop).await;
    assert_eq!(reading.sum("souk_sockets_opened_total", &[]), 2.0);
    assert!(reading.sum("souk_events_sent_total", &["replay"]) >= 1.0, "{}", reading.text);
    assert_eq!(reading.sum("souk_events_sent_total", &[]), 2.0);
    socket.leave().await;
    again.leave().await;
    eventually("sockets that left are gone", async || {
        Reading::of(&shop).await.sum("souk_sockets", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn reads_are_counted_where_the_answer_was_found() {
    let (shop, lamp) = shop_with_a_lamp().await;
    let anyone = shop.anyone();
    let reads = "souk_cache_reads_total";
    let of = async |level: &'static str, path: &str| {
        let level = format!("level=\"{level}\"");
        rise(&shop, reads, &[&level], async || drop(anyone.get(path).await.is(200))).await
    };
    // The admin was made beside the server, whose caches are forgotten once more when it notices.
    eventually("an answer is ready", async || of("answers", &lamp.path()).await == 1.0).await;
    assert!(of("database", "/api/products/?search=lamp&price_min=1").await >= 1.0);
    // Of this list the count is known, and the page is not ready in this form.
    assert!(of("memory", "/api/products/?search=lamp&price_min=1&page_size=7").await >= 1.0);
}

#[tokio::test]
async fn logins_and_uploads_are_counted_by_what_became_of_them() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let logins = "souk_logins_total";
    let right = json!({ "email": ada.email, "password": PASSWORD });
    let wrong = json!({ "email": ada.email, "password": "Another-Kite-42" });
    let more = rise(&shop, logins, &["succeeded"], async || {
        shop.anyone().post("/auth/api/token/", right).await.is(200);
    });
    assert_eq!(more.await, 1.0);
    let more = rise(&shop, logins, &["refused"], async || {
        for _ in 0..10 {
            shop.anyone().post("/auth/api/token/", wrong.clone()).await.is(401);
        }
    });
    assert_eq!(more.await, 10.0);
    let more = rise(&shop, logins, &["throttled"], async || {
        shop.anyone().post("/auth/api/token/", wrong.clone()).await.is(429);
    });
    assert_eq!(more.await, 1.0);

    let (admin, category) = (shop.admin().await, shop.some_category().await.to_string());
    let upload = async |name: &str, file: Vec<u8>, status: u16| {
        let form = Form::new()
            .text("name", name)
            .text("price", "1.00")
            .text("category", &category)
            .file("image", &file);
        form.put_into(admin.call(Method::POST, "/api/products/")).send().await.is(status);
    };
    let uploads = "souk_uploads_total";
    let image = png(40, 40, 7);
    let more = rise(&shop, uploads, &["outcome=\"image\""], async || upload("Lamp", image, 201).await);
    assert_eq!(more.await, 1.0);
    let noise = b"no image at all".to_vec();
    let more = rise(&shop, uploads, &["not_an_image"], async || upload("Rug", noise, 400).await);
    assert_eq!(more.await, 1.0);
}

#[tokio::test]
async fn the_process_and_its_pools_are_shown() {
    let (shop, _lamp) = shop_with_a_lamp().await;
    let reading = Reading::of(&shop).await;
    assert_eq!(
        reading.sum("souk_build_info", &[concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")]),
        1.0
    );
    assert!(reading.sum("souk_db_connections", &[]) >= 1.0);
    assert!(reading.sum("souk_db_connections_in_use", &[]) <= reading.sum("souk_db_connections", &[]));
    assert!(reading.sum("souk_db_connections", &[]) <= reading.sum("souk_db_connections_max", &[]));
    assert_eq!(reading.sum("souk_actor_failures_total", &["stock_ledger"]), 0.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let since = now.as_secs_f64() - reading.sum("process_start_time_seconds", &[]);
    assert!((0.0..600.0).contains(&since), "started {since} s ago");
    if cfg!(target_os = "linux") {
        let memory = reading.sum("process_resident_memory_bytes", &[]) / 1024.0;
        let (held, _) = shop.memory();
        #[expect(clippy::cast_precision_loss, reason = "memory in KiB is a small number")]
        let ratio = memory / held as f64;
        assert!((0.5..2.0).contains(&ratio), "{memory} KiB shown, {held} KiB held");
        let ada = shop.register("ada").await;
        let before = Reading::of(&shop).await.sum("process_open_fds", &[]);
        let _held = [ada.socket().await, ada.socket().await, ada.socket().await];
        let after = Reading::of(&shop).await;
        assert!(after.sum("process_open_fds", &[]) >= before + 3.0, "{}", after.text);
        assert!(after.sum("process_open_fds", &[]) < after.sum("process_max_fds", &[]), "{}", after.text);
        assert!(reading.sum("process_cpu_seconds_total", &[]) > 0.0);
        assert!(reading.sum("process_threads", &[]) >= 2.0);
    }
}

/// Every name of a metric in a text.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("souk_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_dashboard_shows_only_what_there_is() {
    let (shop, lamp) = shop_with_a_lamp().await;
    shop.anyone().get(&lamp.path()).await.is(200);
    let reading = Reading::of(&shop).await;
    let there = reading.names();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/grafana.json");
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(file).expect("the dashboard")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_i64().expect("an id")), "an id twice: {panel}");
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "no title: {panel}");
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            let names = names_in(expression);
            assert!(!names.is_empty(), "{expression} shows nothing");
            shown.extend(names);
        }
    }
    let with_redis = there.contains("souk_redis_connected");
    for name in &shown {
        let is_there = there.contains(name.as_str()) || (!with_redis && name.starts_with("souk_redis_"));
        assert!(is_there, "the dashboard shows {name}, which is not among\n{}", reading.text);
    }
    // And all that there is, but for what only the others are compared with.
    for name in there {
        let family = name.trim_end_matches("_count").trim_end_matches("_sum").trim_end_matches("_bucket");
        let is_shown = shown.iter().any(|shown| shown.starts_with(family));
        let is_beside = ["process_virtual_memory_bytes", "process_threads"].contains(&name);
        assert!(is_shown || is_beside, "the dashboard does not show {name}");
    }
}
