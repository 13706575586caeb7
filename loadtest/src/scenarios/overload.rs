//! Ten times more than the server can carry: it refuses what is too much, and goes on doing what it can.
//!
//! Before and after, clients that ask one after the other find what it carries at most. In between requests come by the
//! clock at ten times that rate. A request that finds no connection free for a second is given up by the client, as people
//! do. Meanwhile the probes of an operator must be answered, and the server's memory is watched. The run's own server has
//! half of the cores to itself, so that what is lost is lost by it, and not taken from it by those who ask. How much of the
//! load gets as far as the server depends on the number of connections, and is told.
//!
//! The crowd asks again at once when it is refused, over the same connections. A few beside it stay away as long as they are
//! told, and must be refused without a wait; the crowd must hear of it when the time that it was told is over. What the
//! server carries is the mean of before and after.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use futures_util::future::join_all;
use hyper::header::HeaderValue;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::arrivals::{Arrival, Plan, Spacing, by_hands, must_be_positive};
use crate::buyer::Placed;
use crate::client::{Pool, Request, checkout, get, put};
use crate::measure::{Table, whole};
use crate::progress::Progress;
use crate::report::Report;
use crate::scenarios::search::Questions;
use crate::souk::megabytes;
use crate::stage::{Acknowledged, Aim, Goods, Needs, Stage, expected};
use crate::tally::{Ending, Tally};
use crate::verdict::{Fault, Limit};

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Searches that no cache can answer
    Search,
    /// A product into the cart and the checkout, in turn
    Checkout,
    /// Logins with a wrong password, which cost as much as right ones
    Login,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What there is too much of
    #[arg(long, value_enum, default_value = "search")]
    of: Kind,
    /// How many times more than the server carries
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    times: f64,
    /// For how many seconds
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    seconds: f64,
    /// How many connections there are at most
    #[arg(long, value_name = "N", default_value = "2000")]
    connections: NonZeroUsize,
    /// How many products the run's own shop has
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    products: u32,
    #[command(flatten)]
    aim: Aim,
}

/// With how many clients it is found what the server carries, and for how long each time.
const CLIENTS: [usize; 3] = [8, 32, 128];
const FIND_FOR: Duration = Duration::from_secs(4);
/// After this time without a connection a request is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the probes and the memory are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many there are beside the crowd who stay away when they are refused, as long as they are told.
const POLITE: usize = 32;
/// How often a checkout is asked for again when the load is over.
const SETTLE_ATTEMPTS: u32 = 100;

/// Of what it carries at most.
const GOODPUT: f64 = 0.9;
/// In MB: far below what an unbounded queue takes.
const MEMORY: f64 = 400.0;
/// In milliseconds, of 99 of 100.
const PROBE_WITHIN: f64 = 1_000.0;
/// In milliseconds, of 99 of 100 refusals of those who are polite.
const REFUSED_WITHIN: f64 = 250.0;
/// The same of the crowd: the second that it was told, and what the machine needs.
const CROWD_REFUSED_WITHIN: f64 = 1_200.0;

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    must_be_positive("--times", options.times)?;
    ensure!((1.0..600.0).contains(&options.seconds), "--seconds must be from 1 to 600");
    let connections = options.connections.get();
    let goods = match options.of {
        Kind::Search => Goods::Sample(usize::try_from(options.products)?),
        _ => Goods::Plenty(1_000),
    };
    let shoppers = if options.of == Kind::Checkout { connections } else { 0 };
    let stage =
        Stage::set_apart(&options.aim, Needs { shoppers, goods, basket: None, admin: false }, report).await?;
    let crowd = Arc::new(Crowd::of(options.of, &stage, connections).await?);
    crowd.look_at_their_carts().await?;

    let before = crowd.carries(report).await;
    let rate = before * options.times;
    let (tally, probes) = (Arc::new(Tally::new()), Arc::new(Tally::new()));
    let closed = Arc::new(AtomicBool::new(false));
    let mut probing = JoinSet::new();
    for (name, path) in [("healthz", "/healthz"), ("metrics", "/metrics")] {
        probing.spawn(come_as_told(stage.pool(1), name, path, probes.clone(), closed.clone()));
    }
    let polite = Arc::new(Tally::new());
    for _ in 0..POLITE {
        let path = "/api/products/?page_size=1";
        probing.spawn(come_as_told(stage.pool(1), "list", path, polite.clone(), closed.clone()));
    }
    let idle = stage.own().ok().map(|own| own.serving.memory()).transpose()?;
    let progress = Progress::of("overload", options.seconds, &tally);
    let plan = Plan::lasting(rate, Spacing::Poisson, options.seconds);
    let first = crowd.asked.fetch_add(plan.arrivals(), Ordering::Relaxed);
    let come = {
        let (crowd, tally) = (crowd.clone(), tally.clone());
        move |arrival: Arrival| {
            let (crowd, tally) = (crowd.clone(), tally.clone());
            async move { crowd.come(first + arrival.number, &tally).await }
        }
    };
    let given_up = by_hands(plan, connections, PATIENCE, come).await;
    drop(progress);
    closed.store(true, Ordering::Relaxed);
    probing.join_all().await;
    let loaded = stage.own().ok().map(|own| own.serving.memory()).transpose()?;

    report.run("overload", &tally);
    let after = crowd.carries(report).await;
    let carried = f64::midpoint(before, after);
    let after_all = Tally::new();
    crowd.settle(&after_all).await;
    report.found(after_all.take_faults());
    report.run("probes", &probes);
    report.run("polite", &polite);
    let goodput = tally.goodput();
    report.figure("carried_per_second", carried);
    report.figure("goodput_per_second", goodput);
    report.figure("given_up", given_up);
    report.say(&format!(
        "it carries {} a second before and {} after; {} a second came for {} s: {} good a second, {} refused, {} given up by \
         the client",
        whole(before),
        whole(after),
        whole(rate),
        options.seconds,
        whole(goodput),
        whole(tally.refused() as f64),
        whole(given_up as f64),
    ));
    let reached = tally.ended() as f64 / options.seconds / carried;
    report.say(&format!("{reached:.1} times what it carries reached the server"));
    report.figure("times_that_reached_it", reached);
    report.limit("goodput to what it carries", goodput / carried, "", Limit::AtLeast(GOODPUT));
    if options.of != Kind::Checkout {
        report.limit("what it carries afterwards to before", after / before, "", Limit::AtLeast(GOODPUT));
    }
    match polite.refusal_latency(0.99) {
        Some(p99) => {
            report.limit("99 of 100 refusals of the polite", p99, " ms", Limit::AtMost(REFUSED_WITHIN));
        }
        None => report.say("nobody of the polite was refused"),
    }
    if let Some(p99) = tally.refusal_latency(0.99) {
        report.limit("99 of 100 refusals of the crowd", p99, " ms", Limit::AtMost(CROWD_REFUSED_WITHIN));
    }
    for name in ["healthz", "metrics"] {
        let p99 = probes.latency(name, 0.99).unwrap_or(f64::NAN);
        report.limit(&format!("99 of 100 answers of /{name}"), p99, " ms", Limit::AtMost(PROBE_WITHIN));
    }
    if let (Some(idle), Some(loaded)) = (idle, loaded) {
        report.say(&format!("memory: {} before, at most {}", megabytes(idle.now), megabytes(loaded.peak)));
        report.figure("peak_mb", loaded.peak as f64 / 1e6);
        report.limit("memory", loaded.peak as f64 / 1e6, " MB", Limit::AtMost(MEMORY));
    }
    let acknowledged = std::mem::take(&mut *crowd.orders.lock().unwrap_or_else(PoisonError::into_inner));
    stage.close(&acknowledged, report).await
}

/// Those who come.
struct Crowd {
    of: Kind,
    pool: Arc<Pool>,
    questions: Option<Questions>,
    /// The number of the next request, so that no two ask for the same.
    asked: AtomicUsize,
    /// Who does nothing at the moment and, if there is something in the cart, the key of its checkout.
    idle: Mutex<Vec<(usize, Option<String>)>>,
    shoppers: Vec<HeaderValue>,
    products: Vec<i64>,
    orders: Mutex<Vec<Acknowledged>>,
}

impl Crowd {
    async fn of(of: Kind, stage: &Stage, connections: usize) -> anyhow::Result<Self> {
        let pool = stage.pool(connections);
        let questions = if of == Kind::Search { Some(Questions::of(&pool).await?) } else { None };
        Ok(Self {
            of,
            pool,
            questions,
            asked: AtomicUsize::new(0),
            idle: Mutex::new((0..stage.shoppers.len()).map(|shopper| (shopper, None)).collect()),
            shoppers: stage.shoppers.clone(),
            products: stage.products.clone(),
            orders: Mutex::default(),
        })
    }

    /// So that all shoppers are as well known to the server as those who find what it carries: what is measured is too much
    /// work, not a cold start.
    async fn look_at_their_carts(&self) -> anyhow::Result<()> {
        for some in self.shoppers.chunks(32) {
            let looks = some.iter().map(|token| async move {
                let looked = self.pool.send(get("/api/cart/", Some(token))?).await?;
                expected(looked, 200)
            });
            for looked in join_all(looks).await {
                looked?;
            }
        }
        Ok(())
    }

    /// How many good answers a second there are at most, if everybody waits for his answer before he asks again.
    async fn carries(self: &Arc<Self>, report: &mut Report) -> f64 {
        let (mut most, mut table) = (0.0_f64, Table::new(&["clients", "good a second"]));
        for clients in CLIENTS {
            let tally = Arc::new(Tally::new());
            let progress = Progress::of(&format!("{clients} clients"), FIND_FOR.as_secs_f64(), &tally);
            self.one_after_the_other(clients, &tally).await;
            drop(progress);
            most = most.max(tally.goodput());
            table.row([clients.to_string(), whole(tally.goodput())]);
            report.found(tally.take_faults());
        }
        report.table(&table);
        most
    }

    async fn one_after_the_other(self: &Arc<Self>, clients: usize, tally: &Arc<Tally>) {
        let (until, mut asking) = (Instant::now() + FIND_FOR, JoinSet::new());
        for _ in 0..clients {
            let (crowd, tally) = (self.clone(), tally.clone());
            asking.spawn(async move {
                while Instant::now() < until {
                    let number = crowd.asked.fetch_add(1, Ordering::Relaxed);
                    crowd.come(number, &tally).await;
                }
            });
        }
        asking.join_all().await;
    }

    /// One request; its latency counts from now, since what is judged here is how soon the server refuses.
    async fn come(&self, number: usize, tally: &Tally) {
        match (&self.of, &self.questions) {
            (Kind::Search, Some(questions)) => {
                self.ask("search", &[200], get(&questions.path(number), None), tally).await;
            }
            (Kind::Checkout, _) => self.shop(number, tally).await,
            _ => {
                // Of another account each time, since failures are counted by account.
                let body =
                    format!(r#"{{"email": "nobody{number}@example.com", "password": "Tangerine-Kite-42"}}"#);
                let request = crate::client::post("/auth/api/token/", None, body.into());
                self.ask("login", &[401], request, tally).await;
            }
        }
    }

    /// Puts a product into a cart, or checks that out.
    async fn shop(&self, number: usize, tally: &Tally) {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // There are as many shoppers as connections, so somebody is idle.
        let Some((shopper, key)) = idle().pop() else { return };
        let next = match key {
            Some(key) => self.check_out(shopper, key, tally).await,
            None => {
                let product = self.products[number.wrapping_mul(389) % self.products.len()];
                let put = put(&self.shoppers[shopper], product, 1);
                let filled = self.ask("cart", &[201], put, tally).await.is_some();
                filled.then(|| uuid::Uuid::new_v4().to_string())
            }
        };
        idle().push((shopper, next));
    }

    /// Gives the key back if it has no answer yet.
    async fn check_out(&self, shopper: usize, key: String, tally: &Tally) -> Option<String> {
        let checkout = checkout(&self.shoppers[shopper], Some(&key));
        let Some(answer) = self.ask("order", &[201], checkout, tally).await else { return Some(key) };
        match answer.json::<Placed>() {
            Ok(order) => {
                let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
                orders.push(Acknowledged { shopper, order: order.id });
            }
            Err(error) => tally.fault(Fault::Unexpected, error.to_string()),
        }
        None
    }

    /// Asks once more for every checkout that was refused, since a refusal may mean that nobody knew what became of it.
    async fn settle(&self, tally: &Tally) {
        let left = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for (shopper, mut key) in left {
            for _ in 0..SETTLE_ATTEMPTS {
                let Some(open) = key.take() else { break };
                key = self.check_out(shopper, open, tally).await;
                if key.is_some() {
                    sleep(LOOK_EVERY).await;
                }
            }
            if key.is_some() {
                tally.fault(Fault::NoAnswer, format!("shopper {shopper} is refused after the load, too"));
            }
        }
    }

    async fn ask(
        &self,
        kind: &'static str,
        good: &[u16],
        request: anyhow::Result<Request>,
        tally: &Tally,
    ) -> Option<crate::client::Answer> {
        let asked = Instant::now();
        tally.count(kind, asked, Ending::of_asking(&self.pool, request, good).await)
    }
}

/// Asks for a page again and again, and stays away for as long as a refusal says.
async fn come_as_told(
    pool: Arc<Pool>,
    name: &'static str,
    path: &str,
    tally: Arc<Tally>,
    closed: Arc<AtomicBool>,
) {
    while !closed.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let ending = Ending::of_asking(&pool, get(path, None), &[200]).await;
        let wait = if let Ending::Refused(wait) = ending { wait } else { LOOK_EVERY };
        tally.count(name, asked, ending);
        sleep(wait).await;
    }
}
