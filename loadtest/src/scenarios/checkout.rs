//! Checkout through HTTP: one hot product that everybody wants, against orders spread over many products.
//!
//! Where a product's row is what orders queue for, a hot one is slower; Souk's batches should make no difference. The
//! server is a process of its own, started anew for each round. Carts are filled past it and looked at through it, so
//! that they are in memory when the clock starts, as they are when somebody has just put something into them.

use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use souk_store::model::OrderId;

use crate::client::{Connection, get, post};
use crate::measure::{self, Client, Round, Spread, Table, Verdict, median_latency, rates, say, turns, whole};
use crate::server::{ServerProcess, sign};
use crate::shop::{self, Basket, Place, Shop};

/// How much of the spread orders' speed hot ones must have.
const FLOOR: f64 = 0.9;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many clients order at the same time, each on a connection of its own
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How many rounds each side gets; what is printed is the median
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How many orders a round has
    #[arg(long, default_value_t = 20_000)]
    orders: usize,
    /// Over how many products orders are spread
    #[arg(long, default_value_t = 1_000)]
    products: usize,
    /// How many lines the orders have; one row for each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3])]
    lines: Vec<usize>,
    /// How many threads serve
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    say(&options.place.describe());
    let mut table = Table::new(&[
        "lines",
        "hot to spread",
        "hot orders/s",
        "p50",
        "p99",
        "spread orders/s",
        "p50",
        "p99",
    ]);
    let mut verdict = Verdict::default();
    for &lines in &options.lines {
        compare(options, lines, &mut table, &mut verdict).await?;
    }
    table.print();
    verdict.end()
}

async fn compare(
    options: &Options,
    lines: usize,
    table: &mut Table,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let shop = Shop::open(&options.place, options.orders, options.products.max(3)).await?;
    let tokens: Arc<[HeaderValue]> = sign(&shop.users)?.into();
    let mut placed = Vec::new();
    let mut sides: [Vec<Round>; 2] = Default::default();
    // The round before the first warms up, and is not counted.
    for round in 0..=options.rounds {
        for side in turns(2, round) {
            let basket = Basket { hot: side == 0, lines };
            let (measured, orders) = check_out(options, &shop, &tokens, basket).await?;
            placed.extend(orders);
            if round > 0 {
                sides[side].push(measured);
            }
        }
    }
    let rates = |side: usize| rates(&sides[side]);
    let latency = |side: usize, permille| median_latency(&sides[side], permille);
    let ratio = Spread::of_ratios(&rates(0), &rates(1));
    table.row([
        lines.to_string(),
        ratio.as_ratio(2),
        whole(Spread::of(rates(0)).median),
        latency(0, 500),
        latency(0, 990),
        whole(Spread::of(rates(1)).median),
        latency(1, 500),
        latency(1, 990),
    ]);
    let what = format!("{} clients, {lines} lines, hot to spread", options.clients);
    verdict.floor(&what, ratio, FLOOR);
    shop.close(&what, &placed, verdict).await
}

async fn check_out(
    options: &Options,
    shop: &Shop,
    tokens: &Arc<[HeaderValue]>,
    basket: Basket,
) -> anyhow::Result<(Round, Vec<OrderId>)> {
    shop.fill_carts(options.orders, basket).await?;
    let server = ServerProcess::start(&shop.url, options.threads).await?;
    let body = serde_json::json!({ "shipping_address": shop::SHIPPING_ADDRESS, "phone": shop::PHONE });
    let body = Bytes::from(body.to_string());
    let mut lookers = Vec::with_capacity(options.clients);
    let mut shoppers = Vec::with_capacity(options.clients);
    for _ in 0..options.clients {
        lookers.push(Looker { connection: Connection::open(server.address).await?, tokens: tokens.clone() });
        shoppers.push(Shopper {
            connection: Connection::open(server.address).await?,
            tokens: tokens.clone(),
            body: body.clone(),
            placed: Vec::new(),
        });
    }
    measure::round(lookers, options.orders).await?;
    let (measured, shoppers) = measure::round(shoppers, options.orders).await?;
    let placed = shoppers.into_iter().flat_map(|shopper| shopper.placed).collect();
    server.stop().await?;
    Ok((measured, placed))
}

/// Has a cart loaded.
struct Looker {
    connection: Connection,
    tokens: Arc<[HeaderValue]>,
}

impl Client for Looker {
    async fn work(&mut self, job: usize) -> anyhow::Result<()> {
        let (head, _) = self.connection.send(get("/api/cart/", Some(&self.tokens[job]))?).await?;
        ensure!(head.status == StatusCode::OK, "a cart could not be read: {}", head.status);
        Ok(())
    }
}

/// Checks out.
struct Shopper {
    connection: Connection,
    tokens: Arc<[HeaderValue]>,
    body: Bytes,
    placed: Vec<OrderId>,
}

/// What the client wants to know of an order.
#[derive(Deserialize)]
struct Placed {
    id: i64,
}

impl Client for Shopper {
    async fn work(&mut self, job: usize) -> anyhow::Result<()> {
        let request = post("/api/orders/", Some(&self.tokens[job]), self.body.clone())?;
        let (head, body) = self.connection.send(request).await?;
        ensure!(head.status == StatusCode::CREATED, "instead of an order: {} {body:?}", head.status);
        let order: Placed = serde_json::from_slice(&body)?;
        self.placed.push(OrderId(order.id));
        Ok(())
    }
}
