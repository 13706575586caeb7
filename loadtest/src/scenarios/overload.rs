//! Ten times more than the server can carry: it refuses what is too much, at once, and goes on doing what it can.
//!
//! First clients that ask one after the other find what it carries at most. Then requests come by the clock at ten times
//! that rate. A request that finds no connection free for a second is given up by the client, as people do. Meanwhile the
//! probes of an operator must be answered, and the server's memory is watched.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use futures_util::future::join_all;
use hyper::header::HeaderValue;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::arrivals::{Plan, Spacing, at_their_times};
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
    #[arg(long, value_name = "N", default_value_t = 10.0)]
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
/// How often a checkout is asked for again when the load is over.
const SETTLE_ATTEMPTS: u32 = 100;

/// Of what it carries at most.
const GOODPUT: f64 = 0.9;
/// In MB: far below what an unbounded queue takes.
const MEMORY: f64 = 400.0;
/// In milliseconds, of 99 of 100.
const PROBE_WITHIN: f64 = 1_000.0;
const REFUSED_WITHIN: f64 = 250.0;

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    ensure!(options.times.is_finite() && options.times > 0.0, "--times must be more than nothing");
    ensure!((1.0..600.0).contains(&options.seconds), "--seconds must be from 1 to 600");
    let connections = options.connections.get();
    let goods = match options.of {
        Kind::Search => Goods::Sample(usize::try_from(options.products)?),
        _ => Goods::Plenty(1_000),
    };
    let shoppers = if options.of == Kind::Checkout { connections } else { 0 };
    let stage =
        Stage::set(&options.aim, Needs { shoppers, goods, basket: None, admin: false }, report).await?;
    let crowd = Arc::new(Crowd::of(options.of, &stage, connections).await?);
    crowd.look_at_their_carts().await?;

    let mut carried: f64 = 0.0;
    let mut table = Table::new(&["clients", "good a second"]);
    for clients in CLIENTS {
        let tally = Arc::new(Tally::new());
        let progress = Progress::of(&format!("{clients} clients"), FIND_FOR.as_secs_f64(), &tally);
        crowd.one_after_the_other(clients, &tally).await;
        drop(progress);
        carried = carried.max(tally.goodput());
        table.row([clients.to_string(), whole(tally.goodput())]);
        report.found(tally.take_faults());
    }
    report.table(&table);

    let rate = carried * options.times;
    let (tally, probes) = (Arc::new(Tally::new()), Arc::new(Tally::new()));
    let (closed, unsent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut probing = JoinSet::new();
    for (name, path) in [("healthz", "/healthz"), ("metrics", "/metrics")] {
        probing.spawn(probe(stage.pool(1), name, path, probes.clone(), closed.clone()));
    }
    let before = stage.own().ok().map(|own| own.serving.memory()).transpose()?;
    let progress = Progress::of("overload", options.seconds, &tally);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and some millions"
    )]
    let count = (rate * options.seconds).ceil().min(50e6) as usize;
    let places = Arc::new(Semaphore::new(connections));
    at_their_times(Plan::new(rate, Spacing::Poisson, count, 1), |arrival| {
        let (crowd, tally, places, unsent) = (crowd.clone(), tally.clone(), places.clone(), unsent.clone());
        async move {
            match timeout(PATIENCE, places.acquire()).await {
                Ok(_place) => crowd.come(arrival.number, &tally).await,
                Err(_) => drop(unsent.fetch_add(1, Ordering::Relaxed)),
            }
        }
    })
    .await;
    drop(progress);
    closed.store(true, Ordering::Relaxed);
    probing.join_all().await;
    let after = stage.own().ok().map(|own| own.serving.memory()).transpose()?;

    report.run("overload", &tally);
    let after_all = Tally::new();
    crowd.settle(&after_all).await;
    report.found(after_all.take_faults());
    report.run("probes", &probes);
    let unsent = unsent.load(Ordering::Relaxed);
    let goodput = tally.goodput();
    report.figure("carried_per_second", carried);
    report.figure("goodput_per_second", goodput);
    report.figure("given_up", unsent);
    report.say(&format!(
        "it carries {} a second; {} a second came for {} s: {} good a second, {} refused, {} given up by the client",
        whole(carried),
        whole(rate),
        options.seconds,
        whole(goodput),
        whole(tally.refused() as f64),
        whole(unsent as f64),
    ));
    report.limit("goodput to what it carries", goodput / carried, "", Limit::AtLeast(GOODPUT));
    if let Some(p99) = tally.refusal_latency(0.99) {
        report.limit("99 of 100 refusals", p99, " ms", Limit::AtMost(REFUSED_WITHIN));
    }
    for name in ["healthz", "metrics"] {
        let p99 = probes.latency(name, 0.99).unwrap_or(f64::NAN);
        report.limit(&format!("99 of 100 answers of /{name}"), p99, " ms", Limit::AtMost(PROBE_WITHIN));
    }
    if let (Some(before), Some(after)) = (before, after) {
        report.say(&format!("memory: {} before, at most {}", megabytes(before.now), megabytes(after.peak)));
        report.figure("peak_mb", after.peak as f64 / 1e6);
        report.limit("memory", after.peak as f64 / 1e6, " MB", Limit::AtMost(MEMORY));
    }
    let acknowledged = std::mem::take(&mut *crowd.orders.lock().unwrap_or_else(PoisonError::into_inner));
    stage.close(&acknowledged, report).await
}

/// Those who come.
struct Crowd {
    of: Kind,
    pool: Arc<Pool>,
    questions: Option<Questions>,
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
        // What comes next asks for other things.
        self.asked.fetch_add(1_000_000, Ordering::Relaxed);
    }

    /// One request; its latency counts from now, since what is judged here is how soon the server refuses.
    async fn come(&self, number: usize, tally: &Tally) {
        match (&self.of, &self.questions) {
            (Kind::Search, Some(questions)) => {
                let number = self.asked.load(Ordering::Relaxed) + number;
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

/// Asks for a page of the operator's again and again.
async fn probe(pool: Arc<Pool>, name: &'static str, path: &str, tally: Arc<Tally>, closed: Arc<AtomicBool>) {
    while !closed.load(Ordering::Relaxed) {
        let asked = Instant::now();
        tally.count(name, asked, Ending::of_asking(&pool, get(path, None), &[200]).await);
        sleep(LOOK_EVERY).await;
    }
}
