//! The server is killed under load (SIGKILL), again and again, and started again on the same database.
//!
//! Shoppers buy one after the other, each order with a key of its own. Who gets no answer, or is refused, asks again with
//! the same key until the server that comes back says what became of it. So in the end every key has one answer, and the
//! orders in the database are exactly those: none lost, none twice, none that nobody knows of. After each start the live
//! database is audited.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::arrivals::must_be_positive;
use crate::buyer::Placed;
use crate::client::{Answer, Pool, Request, checkout, get, put};
use crate::measure::{Spread, milliseconds};
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::{Acknowledged, Aim, Goods, Needs, Stage};
use crate::tally::{Ending, Tally};
use crate::verdict::Fault;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often the server is killed
    #[arg(long, value_name = "N", default_value_t = 10)]
    kills: u32,
    /// After how many seconds under load, on average; each time at a moment of chance
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    after: f64,
    /// How many shoppers buy at the same time
    #[arg(long, value_name = "N", default_value_t = 64)]
    shoppers: usize,
    /// How many products they choose from
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    products: u32,
    #[command(flatten)]
    aim: Aim,
}

/// How long the server may take until everybody has an answer again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long somebody without an answer waits before he asks again.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    options.aim.must_be_own("kills the server")?;
    must_be_positive("--after", options.after)?;
    let goods = Goods::Plenty(usize::try_from(options.products)?);
    let needs = Needs { shoppers: options.shoppers, goods, basket: None, admin: false };
    let mut stage = Stage::set(&options.aim, needs, report).await?;
    let (tally, buying) = (Arc::new(Tally::new()), Arc::new(Open::default()));
    let pool = stage.pool(options.shoppers * 2);
    let mut shoppers = JoinSet::new();
    for (number, token) in stage.shoppers.iter().cloned().enumerate() {
        let shopper = Shopper {
            number,
            token,
            products: stage.products.clone(),
            pool: Arc::clone(&pool),
            tally: Arc::clone(&tally),
            open: Arc::clone(&buying),
        };
        shoppers.spawn(shopper.buy_on_and_on());
    }

    let progress = Progress::of("crash", f64::from(options.kills + 1) * options.after, &tally);
    let mut outages = Vec::new();
    for _ in 0..options.kills {
        // Until orders come in again, and then a while.
        let before = buying.orders.load(Ordering::Relaxed);
        let came = timeout(PATIENCE, async {
            while buying.orders.load(Ordering::Relaxed) == before {
                sleep(Duration::from_millis(1)).await;
            }
        });
        came.await.context("the server came back, and took no order for a minute")?;
        sleep(Duration::from_secs_f64(options.after * (0.5 + rand::random::<f64>()))).await;
        let killed = Instant::now();
        stage.restart_after_kill().await?;
        outages.push(killed.elapsed());
        stage.own()?.souk.run(&["audit"]).await.context("after a kill the books are wrong")?;
    }
    buying.closed.store(true, Ordering::Relaxed);
    let ended =
        timeout(PATIENCE, shoppers.join_all()).await.context("some shoppers are left without an answer")?;
    drop(progress);
    report.run("crash", &tally);

    let mut acknowledged = Vec::new();
    let mut unanswered = 0;
    for shopper in ended {
        let shopper = shopper?;
        unanswered += shopper.unanswered;
        acknowledged.extend(shopper.orders);
    }
    let outage = Spread::of(outages.iter().map(Duration::as_secs_f64));
    report.figure("kills", options.kills);
    report.figure("unanswered", unanswered);
    report.figure("outage_seconds", outage.median);
    report.say(&format!(
        "{} kills; {} orders; {unanswered} requests got no answer and were asked again; from kill to listening {} (at most {})",
        options.kills,
        acknowledged.len(),
        milliseconds(Duration::from_secs_f64(outage.median)),
        milliseconds(Duration::from_secs_f64(outage.most)),
    ));
    report.claim("shoppers were left without an answer, so that something was proved", unanswered > 0);
    again(&stage, &acknowledged, report).await?;
    let orders: Vec<_> = acknowledged.iter().map(|(order, _)| *order).collect();
    stage.close(&orders, report).await
}

/// Whether buying goes on, and how much was bought.
#[derive(Default)]
struct Open {
    closed: AtomicBool,
    orders: AtomicU64,
}

/// Somebody who buys.
struct Shopper {
    number: usize,
    token: HeaderValue,
    products: Vec<i64>,
    pool: Arc<Pool>,
    tally: Arc<Tally>,
    open: Arc<Open>,
}

/// What he knows in the end.
struct Receipts {
    /// Orders, and the keys that gave them.
    orders: Vec<(Acknowledged, String)>,
    unanswered: u64,
}

impl Shopper {
    async fn buy_on_and_on(self) -> anyhow::Result<Receipts> {
        let mut receipts = Receipts { orders: Vec::new(), unanswered: 0 };
        while !self.open.closed.load(Ordering::Relaxed) {
            self.fill_the_cart(&mut receipts).await?;
            let key = format!("{}-{}", self.number, receipts.orders.len());
            let planned = Instant::now();
            let answer = self.ask(&mut receipts, &[201], || checkout(&self.token, Some(&key))).await?;
            let order = answer.json::<Placed>()?.id;
            // Latency with the outages in it: it is what the shopper had.
            self.tally.count("order", planned, Ending::Good(answer));
            self.open.orders.fetch_add(1, Ordering::Relaxed);
            receipts.orders.push((Acknowledged { shopper: self.number, order }, key));
        }
        Ok(receipts)
    }

    /// Sees to it that the cart holds one unit. What was put without an answer may be in it or not, so he looks.
    async fn fill_the_cart(&self, receipts: &mut Receipts) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Cart {
            total_items: i64,
        }
        let product = self.products[(self.number + receipts.orders.len()) % self.products.len()];
        loop {
            if receipts.unanswered > 0 {
                let cart = self.ask(receipts, &[200], || get("/api/cart/", Some(&self.token))).await?;
                match cart.json::<Cart>()?.total_items {
                    0 => {}
                    1 => return Ok(()),
                    more => anyhow::bail!("a cart holds {more} units, and one was put into it"),
                }
            }
            match self.try_once(put(&self.token, product, 1)?, &[201]).await {
                Ending::Good(_) => return Ok(()),
                ending => self.wait_after(ending, receipts).await?,
            }
        }
    }

    /// Asks until there is a good answer.
    async fn ask(
        &self,
        receipts: &mut Receipts,
        good: &[u16],
        request: impl Fn() -> anyhow::Result<Request>,
    ) -> anyhow::Result<Answer> {
        loop {
            match self.try_once(request()?, good).await {
                Ending::Good(answer) => return Ok(answer),
                ending => self.wait_after(ending, receipts).await?,
            }
        }
    }

    async fn try_once(&self, request: Request, good: &[u16]) -> Ending {
        Ending::of(self.pool.send(request).await, good)
    }

    /// Here no answer is no fault: it is what the scenario is about.
    async fn wait_after(&self, ending: Ending, receipts: &mut Receipts) -> anyhow::Result<()> {
        match ending {
            Ending::Good(_) => {}
            Ending::Refused(wait) => {
                self.tally.count("order", Instant::now(), Ending::Refused(wait));
                sleep(PAUSE).await;
            }
            Ending::Bad(Fault::NoAnswer, _) => {
                receipts.unanswered += 1;
                sleep(PAUSE).await;
            }
            Ending::Bad(fault, example) => {
                self.tally.fault(fault, example.clone());
                anyhow::bail!("a shopper was told: {example}");
            }
        }
        Ok(())
    }
}

/// Asks once more with some of the keys: each gives the order that it gave before.
async fn again(stage: &Stage, orders: &[(Acknowledged, String)], report: &mut Report) -> anyhow::Result<()> {
    let pool = stage.pool(1);
    let mut asked = 0;
    for (told, key) in orders.iter().step_by((orders.len() / 500).max(1)) {
        let answer = pool.send(checkout(&stage.shoppers[told.shopper], Some(key))?).await?;
        let same = answer.status == StatusCode::CREATED && answer.json::<Placed>()?.id == told.order;
        if !same {
            report.fault(
                Fault::Doubled,
                format!("key {key} gave order {}, and now: {}", told.order, answer.in_words()),
            );
        }
        asked += 1;
    }
    report.say(&format!("{asked} of the keys were sent once more, and had to give the same orders"));
    Ok(())
}
