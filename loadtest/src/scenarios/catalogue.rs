//! The cached product list and product detail, against the same server answering the very same bytes without any work.
//!
//! The server is a process of its own with one serving thread, the client another with one thread, so that each has a
//! core and the server is what is measured: it must be busy all the time, which the table shows. Both sides go through
//! the same connections, fuse and outer hoops; the difference is Souk's routing, its cache, and the live stock.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode};
use tokio::time::Instant;

use crate::client::{Connection, get};
use crate::measure::{self, Client, Round, Spread, Table, milliseconds, turns, whole};
use crate::report::Report;
use crate::server::ServerProcess;
use crate::shop::{Place, Shop};

/// How much of the fixed answer's speed the real one must have.
const FLOOR: f64 = 0.85;

/// What is asked for.
const PAGES: [(&str, &str); 2] = [("list", "/api/products/"), ("detail", "/api/products/7/")];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many keep-alive connections ask at the same time
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How many rounds each side gets; what is printed is the median
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// How many requests a round has
    #[arg(long, default_value_t = 40_000)]
    requests: usize,
    /// How many products the shop has
    #[arg(long, default_value_t = 1_000)]
    products: usize,
    #[command(flatten)]
    place: Place,
}

impl Options {
    /// The client must not take the server's core.
    #[expect(
        clippy::unused_self,
        reason = "it is a property of the scenario, said where its other options are"
    )]
    pub(crate) fn client_threads(&self) -> usize {
        1
    }
}

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    report.set_in(options.place.describe());
    let shop = Shop::open(&options.place, 1, options.products.max(10)).await?;
    let server = ServerProcess::start(&shop.url, 1).await?;
    let mut table = Table::new(&[
        "what",
        "bytes",
        "ratio",
        "ratio of processor time",
        "souk requests/s",
        "p99",
        "µs of server each",
        "fixed requests/s",
        "µs of server each",
        "server busy",
    ]);
    for (name, path) in PAGES {
        compare(options, &server, name, path, &mut table, report).await?;
    }
    report.table(&table);
    server.stop().await?;
    shop.close("after all", &[], report).await?;
    Ok(())
}

async fn compare(
    options: &Options,
    server: &ServerProcess,
    name: &str,
    path: &str,
    table: &mut Table,
    report: &mut Report,
) -> anyhow::Result<()> {
    let fixed = format!("/fixed/{name}");
    let mut connection = Connection::open(&server.site).await?;
    let (head, body) = connection.send(get(path, None)?).await?;
    ensure!(head.status == StatusCode::OK, "{path}: {}", head.status);
    let mut teach = Request::builder().method(Method::POST).uri(&fixed).body(Full::new(body.clone()))?;
    *teach.headers_mut() = without(&head.headers, SURROUNDING);
    let (taught, _) = connection.send(teach).await?;
    ensure!(taught.status == StatusCode::NO_CONTENT, "{fixed}: {}", taught.status);
    let (fixed_head, fixed_body) = connection.send(get(&fixed, None)?).await?;
    report.claim(
        &format!("{name}: the fixed answer has the same headers and the same {} bytes", body.len()),
        fixed_head.status == head.status
            && without(&fixed_head.headers, CHANGING) == without(&head.headers, CHANGING)
            && fixed_body == body,
    );

    let mut sides: [Vec<Sample>; 2] = Default::default();
    // The round before the first warms up, and is not counted.
    for round in 0..=options.rounds {
        for side in turns(2, round) {
            let path = [path, &fixed][side];
            let sample = Sample::take(options, server, path, body.len()).await?;
            if round > 0 {
                sides[side].push(sample);
            }
        }
    }
    let [souk, rival] = &sides;
    let rates = |samples: &[Sample]| samples.iter().map(|sample| sample.round.rate()).collect::<Vec<f64>>();
    let costs = |samples: &[Sample]| samples.iter().map(|sample| sample.cost).collect::<Vec<f64>>();
    let ratio = Spread::of_ratios(&rates(souk), &rates(rival));
    let latency = Spread::of(souk.iter().map(|sample| sample.round.latency(990).as_secs_f64()));
    table.row([
        name.to_owned(),
        whole(body.len() as f64),
        ratio.as_ratio(3),
        Spread::of_ratios(&costs(rival), &costs(souk)).as_ratio(3),
        whole(Spread::of(rates(souk)).median),
        milliseconds(Duration::from_secs_f64(latency.median)),
        format!("{:.1}", Spread::of(costs(souk)).median),
        whole(Spread::of(rates(rival)).median),
        format!("{:.1}", Spread::of(costs(rival)).median),
        format!("{:.0} %", 100.0 * Spread::of(sides.iter().flatten().map(|sample| sample.busy)).median),
    ]);
    report.floor(name, ratio, FLOOR);
    Ok(())
}

/// What the outer hoops and hyper add to every answer by themselves.
const SURROUNDING: &[&str] = &[
    "x-request-id",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "date",
    "content-length",
    "transfer-encoding",
    "connection",
];
/// What differs from one answer to the next.
const CHANGING: &[&str] = &["x-request-id", "date"];

fn without(headers: &HeaderMap, names: &[&str]) -> HeaderMap {
    let mut headers = headers.clone();
    for name in names {
        headers.remove(*name);
    }
    headers
}

/// One round of one side.
struct Sample {
    round: Round,
    /// Microseconds of the server's processor time for one request.
    cost: f64,
    /// How much of one core the server used.
    busy: f64,
}

impl Sample {
    async fn take(
        options: &Options,
        server: &ServerProcess,
        path: &str,
        length: usize,
    ) -> anyhow::Result<Self> {
        let request = get(path, None)?;
        let mut readers = Vec::with_capacity(options.clients);
        for _ in 0..options.clients {
            let connection = Connection::open(&server.site).await?;
            readers.push(Reader { connection, request: request.clone(), length });
        }
        let (used, started) = (server.processor_time(), Instant::now());
        let (round, _) = measure::round(readers, options.requests).await?;
        let elapsed = started.elapsed().as_secs_f64();
        let used = server.processor_time().zip(used).context("the system does not tell processor times")?;
        let used = used.0.saturating_sub(used.1).as_secs_f64();
        Ok(Self { round, cost: used * 1e6 / options.requests as f64, busy: used / elapsed })
    }
}

/// Asks for the same page again and again.
struct Reader {
    connection: Connection,
    request: Request<Full<Bytes>>,
    length: usize,
}

impl Client for Reader {
    async fn work(&mut self, _job: usize) -> anyhow::Result<()> {
        let (head, body) = self.connection.send(self.request.clone()).await?;
        let is_json = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        ensure!(
            head.status == StatusCode::OK && body.len() == self.length && is_json,
            "another answer: {}",
            head.status
        );
        Ok(())
    }
}
