//! Checkouts at a fixed rate, whether the server keeps up or not: spread over many products, or all of the same one.
//!
//! Each arrival is another shopper, whose cart holds one line. There is plenty of everything, so nobody may be sent away.

use std::sync::{Arc, Mutex, PoisonError};

use crate::arrivals::{Load, Usual, at_their_times};
use crate::buyer::{Bought, SOLD_OUT, buy};
use crate::progress::Progress;
use crate::report::Report;
use crate::shop::Basket;
use crate::stage::{Acknowledged, Aim, Goods, Needs, Stage};
use crate::tally::Tally;
use crate::verdict::Fault;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    load: Load,
    /// How many lines a cart has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    lines: u8,
    /// How many products there are
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    products: u32,
    #[command(flatten)]
    aim: Aim,
}

const USUAL: Usual = Usual { rate: 1_000.0, seconds: 15.0 };

pub(crate) async fn run(options: &Options, hot: bool, report: &mut Report) -> anyhow::Result<()> {
    let name = if hot { "checkout-hot" } else { "checkout-spread" };
    let plan = options.load.plan(USUAL)?;
    let needs = Needs {
        shoppers: plan.arrivals(),
        goods: Goods::Plenty(usize::try_from(options.products)?),
        basket: Some(Basket { hot, lines: usize::from(options.lines) }),
        admin: false,
    };
    let stage = Stage::set(&options.aim, needs, report).await?;
    let (pool, tally) = (stage.pool(options.load.connections.get()), Arc::new(Tally::new()));
    let shoppers: Arc<[_]> = stage.shoppers.clone().into();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let progress = Progress::of(name, plan.seconds(), &tally);
    let run = uuid::Uuid::new_v4().simple();
    at_their_times(plan, |arrival| {
        let (pool, tally, shoppers) = (Arc::clone(&pool), Arc::clone(&tally), Arc::clone(&shoppers));
        let acknowledged = Arc::clone(&acknowledged);
        async move {
            let (shopper, key) = (arrival.number, format!("{run}-{}", arrival.number));
            if let Bought::Order(order) = buy(&pool, &tally, &shoppers[shopper], &key, arrival.planned).await
            {
                let mut all = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(Acknowledged { shopper, order });
            }
        }
    })
    .await;
    drop(progress);
    report.run(name, &tally);
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
    report.faults(Fault::Undersold, tally.good(SOLD_OUT), "there is plenty, and somebody was sent away");
    stage.close(&acknowledged, report).await
}
