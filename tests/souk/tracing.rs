//! What can be seen of a request from outside: the spans that a collector gets, from HTTP through the actors to the
//! database; and the log, which names the request, warns of what is slow, and holds no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Worth;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{PASSWORD, Shop};

/// A collector that keeps what it is sent.
struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bodies);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(keep(stream, Arc::clone(&kept)));
            }
        });
        Self { address, bodies, _serving: serving }
    }

    /// Every span so far, of a server that has ended.
    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().expect("the bodies");
        let requests = bodies
            .iter()
            .map(|body| ExportTraceServiceRequest::decode(body.as_slice()).expect("a request of OTLP"));
        let resources = requests.flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// All that came, as text.
    fn text(&self) -> String {
        let bodies = self.bodies.lock().expect("the bodies");
        bodies.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }
}

/// Answers requests on a connection until it ends.
async fn keep(stream: TcpStream, bodies: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut is_first = true;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if std::mem::take(&mut is_first) {
                assert!(line.starts_with("post /v1/traces "), "{line}");
            }
            if let Some(number) = line.strip_prefix("content-length:") {
                length = number.trim().parse().expect("a length");
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        bodies.lock().expect("the bodies").push(body);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Worth::StringValue(text) => Some(text.clone()),
        Worth::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// The names of a span and of those above it, up to the request.
fn way_up(span: &Span, spans: &BTreeMap<Vec<u8>, &Span>) -> Vec<String> {
    let mut way = vec![span.name.clone()];
    let mut above = &span.parent_span_id;
    while let Some(span) = spans.get(above) {
        way.push(span.name.clone());
        above = &span.parent_span_id;
    }
    way
}

#[tokio::test]
async fn a_collector_sees_a_request_from_its_door_to_the_database() {
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.address);
    let mut shop = Shop::start_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    let lamp = shop.product("Lamp").stock(10).create().await;
    let ada = shop.register("ada").await;
    ada.fill_cart(&lamp, 2).await;
    let order = ada.call(Method::POST, "/api/orders/").json(&json!({ "notes": "a-private-note" }));
    let answer = order.header("x-request-id", "the-order-of-ada").send().await.is(201);
    assert_eq!(answer.header("x-request-id"), "the-order-of-ada");
    // Nothing is lost on the way down.
    assert_eq!(shop.terminate().await.code(), Some(0));

    let spans = collector.spans();
    let request =
        spans.iter().find(|span| attribute(span, "request.id").as_deref() == Some("the-order-of-ada"));
    let request = request.expect("the request's span");
    assert_eq!(request.name, "POST /api/orders");
    assert_eq!(attribute(request, "http.status").as_deref(), Some("201"));
    let trace: BTreeMap<_, _> = spans
        .iter()
        .filter(|span| span.trace_id == request.trace_id)
        .map(|span| (span.span_id.clone(), span))
        .collect();
    let commit = trace.values().find(|span| span.name == "db.commit").expect("the commit's span");
    assert_eq!(way_up(commit, &trace), ["db.commit", "ledger", "cart", "POST /api/orders"]);
    assert!(trace.values().all(|span| span.end_time_unix_nano >= span.start_time_unix_nano));
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    assert!(traces.len() > 3, "a trace a request, not {}", traces.len());
    let text = collector.text();
    for secret in [PASSWORD, &ada.access, &ada.refresh, &ada.email, "a-private-note"] {
        assert!(!text.contains(secret), "{secret} was exported");
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_holds_nobody_up() {
    // A port that nobody listens on: it was taken and given back.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("an address").port()
    };
    let endpoint = format!("http://127.0.0.1:{port}");
    let mut shop = Shop::start_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    let lamp = shop.product("Lamp").stock(10).create().await;
    shop.register("ada").await.buy(&lamp, 1).await;
    assert_eq!(shop.terminate().await.code(), Some(0));
    shop.audit().await;
}

#[tokio::test]
async fn the_log_names_the_request_warns_of_what_is_slow_and_holds_no_secret() {
    let settings =
        [("DEBUG", "false"), ("SLOW_REQUEST_MS", "0"), ("SLOW_QUERY_MS", "0"), ("RUST_LOG", "debug")];
    let mut shop = Shop::start_with(&settings).await;
    let lamp = shop.product("Lamp").stock(10).create().await;
    let ada = shop.register("ada").await;
    let ada = ada.signed_in_as(&ada.email, PASSWORD).await;
    ada.fill_cart(&lamp, 1).await;
    let order = ada.call(Method::POST, "/api/orders/").json(&json!({ "notes": "a-private-note" }));
    order.header("x-request-id", "the-order-of-ada").send().await.is(201);
    shop.anyone().call(Method::GET, "/healthz").header("x-request-id", "no good").send().await.is(200);
    let wrong = json!({ "email": ada.email, "password": "Wrong-Kite-42" });
    shop.anyone().post("/auth/api/token/", wrong).await.is(401);
    drop(ada.knock().query("token", &ada.access).open().await);
    shop.terminate().await;

    let log = shop.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(lines.len() > 20 && lines.len() + 1 >= log.lines().count(), "not all is JSON\n{log}");
    let of_the_order: Vec<&Value> =
        lines.iter().filter(|line| line["span"]["request.id"] == "the-order-of-ada").collect();
    let slow = of_the_order.iter().find(|line| line["message"] == "a request was slow");
    let slow = slow.unwrap_or_else(|| panic!("no warning of a slow request\n{log}"));
    assert_eq!(
        (&slow["level"], &slow["http.route"], &slow["http.status"]),
        (&json!("WARN"), &json!("/api/orders"), &json!(201))
    );
    let is_slow = |line: &&&Value| line["target"] == "sqlx::query" && line["level"] == "WARN";
    let mut statements = of_the_order.iter().filter(is_slow).filter_map(|line| line["summary"].as_str());
    assert!(
        statements.any(|statement| statement.starts_with("select") || statement.starts_with("update")),
        "no warning of a slow statement\n{log}"
    );
    for secret in [PASSWORD, "Wrong-Kite-42", &ada.access, &ada.refresh, &ada.email, "a-private-note"] {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
}

#[tokio::test]
async fn what_is_quick_is_not_warned_about() {
    let mut shop = Shop::start_with(&[("SLOW_REQUEST_MS", "60000"), ("SLOW_QUERY_MS", "60000")]).await;
    let lamp = shop.product("Lamp").stock(10).create().await;
    shop.register("ada").await.buy(&lamp, 1).await;
    shop.terminate().await;
    assert!(!shop.log().contains("slow"), "{}", shop.log());
}
