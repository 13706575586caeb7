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
use souk_store::model::OrderId;

use crate::buyer::Placed;
use crate::by_hand::ReadyMade;
use crate::client::{Connection, get, post};
use crate::measure::{self, Client, Round, Spread, Table, median_latency, rates, turns, whole};
use crate::report::Report;
use crate::server::{ServerProcess, sign};
use crate::shop::{self, Basket, Place, Shop};

/// How much of the spread orders' speed hot ones must have.
const FLOOR: f64 = 0.9;
/// With how many clients it is judged how much faster than by hand it is.
const JUDGED_CLIENTS: usize = 64;

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
    /// Leave out the rivals by hand
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    report.set_in(options.place.describe());
    let mut table = Table::new(&[
        "lines",
        "products",
        "to by hand",
        "orders/s",
        "p50",
        "p99",
        "by hand orders/s",
        "p50",
        "p99",
    ]);
    for &lines in &options.lines {
        compare(options, lines, &mut table, report).await?;
    }
    report.table(&table);
    Ok(())
}

/// The sides: Souk's checkout of a hot product and of spread ones, and both by hand.
const SIDES: usize = 4;
const HOT: usize = 0;
const SPREAD: usize = 1;
const HOT_BY_HAND: usize = 2;
const SPREAD_BY_HAND: usize = 3;

async fn compare(
    options: &Options,
    lines: usize,
    table: &mut Table,
    report: &mut Report,
) -> anyhow::Result<()> {
    let shop = Shop::open(&options.place, options.orders, options.products.max(3)).await?;
    let tokens: Arc<[HeaderValue]> = sign(&shop.users)?.into();
    let mut placed = Vec::new();
    let mut sides: [Vec<Round>; SIDES] = Default::default();
    // The round before the first warms up, and is not counted.
    for round in 0..=options.rounds {
        for side in turns(if options.alone { 2 } else { SIDES }, round) {
            let basket = Basket { hot: side == HOT || side == HOT_BY_HAND, lines };
            let (measured, orders) = match side {
                HOT | SPREAD => check_out(options, &shop, &tokens, basket).await?,
                _ => by_hand(options, &shop, &tokens, basket).await?,
            };
            placed.extend(orders);
            if round > 0 {
                sides[side].push(measured);
            }
        }
    }
    let rates = |side: usize| rates(&sides[side]);
    let latency = |side: usize, permille| median_latency(&sides[side], permille);
    let what = |claim: &str| format!("{} clients, {lines} lines, {claim}", options.clients);
    report.floor(&what("hot to spread"), Spread::of_ratios(&rates(HOT), &rates(SPREAD)), FLOOR);
    for (name, side, rival) in [("hot", HOT, HOT_BY_HAND), ("spread", SPREAD, SPREAD_BY_HAND)] {
        let ratio = Spread::of_ratios(&rates(side), &rates(rival));
        table.row([
            lines.to_string(),
            name.to_owned(),
            ratio.as_ratio(1),
            whole(Spread::of(rates(side)).median),
            latency(side, 500),
            latency(side, 990),
            whole(Spread::of(rates(rival)).median),
            latency(rival, 500),
            latency(rival, 990),
        ]);
        if !options.alone && options.clients == JUDGED_CLIENTS && lines == 1 {
            report.floor(&what(&format!("{name}, to by hand")), ratio, by_hand_floor(options, side == HOT));
        }
    }
    shop.close(&what("the books"), &placed, report).await
}

/// How much faster than by hand it must be: where every transaction waits for every other, and where only those do that
/// want the same product.
fn by_hand_floor(options: &Options, hot: bool) -> f64 {
    match (&options.place.postgres, hot) {
        (None, _) => 10.0,
        (Some(_), true) => 9.0,
        (Some(_), false) => 3.5,
    }
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
    let requests = vec![Bytes::from(body.to_string()); options.orders].into();
    let mut lookers = Vec::with_capacity(options.clients);
    for _ in 0..options.clients {
        lookers.push(Looker { connection: Connection::open(&server.site).await?, tokens: tokens.clone() });
    }
    measure::round(lookers, options.orders).await?;
    order(options, server, "/api/orders/", tokens, requests).await
}

/// An eighth of the orders, so that both sides take about as long.
async fn by_hand(
    options: &Options,
    shop: &Shop,
    tokens: &Arc<[HeaderValue]>,
    basket: Basket,
) -> anyhow::Result<(Round, Vec<OrderId>)> {
    let orders = shop.fill_carts(options.orders.div_ceil(8), basket).await?;
    let body = |order| serde_json::to_string(&ReadyMade::from(order)).map(Bytes::from);
    let requests = orders.iter().map(body).collect::<Result<_, _>>()?;
    let server = ServerProcess::start(&shop.url, options.threads).await?;
    order(options, server, "/by-hand/orders/", tokens, requests).await
}

/// Sends these requests, each of another shopper, and ends the server.
async fn order(
    options: &Options,
    server: ServerProcess,
    path: &'static str,
    tokens: &Arc<[HeaderValue]>,
    requests: Arc<[Bytes]>,
) -> anyhow::Result<(Round, Vec<OrderId>)> {
    let mut shoppers = Vec::with_capacity(options.clients);
    for _ in 0..options.clients {
        shoppers.push(Shopper {
            connection: Connection::open(&server.site).await?,
            path,
            tokens: tokens.clone(),
            requests: requests.clone(),
            placed: Vec::new(),
        });
    }
    let (measured, shoppers) = measure::round(shoppers, requests.len()).await?;
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
    path: &'static str,
    tokens: Arc<[HeaderValue]>,
    requests: Arc<[Bytes]>,
    placed: Vec<OrderId>,
}

impl Client for Shopper {
    async fn work(&mut self, job: usize) -> anyhow::Result<()> {
        let request = post(self.path, Some(&self.tokens[job]), self.requests[job].clone())?;
        let (head, body) = self.connection.send(request).await?;
        ensure!(head.status == StatusCode::CREATED, "instead of an order: {} {body:?}", head.status);
        let order: Placed = serde_json::from_slice(&body)?;
        self.placed.push(OrderId(order.id));
        Ok(())
    }
}
