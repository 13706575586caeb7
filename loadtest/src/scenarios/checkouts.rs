//! Checkouts at a fixed rate, whether the server keeps up or not: spread over many products, or all of the same one.
//!
//! Each arrival is another shopper, whose cart holds one line. There is plenty of everything, so nobody may be sent away.

use crate::arrivals::{Load, Usual};
use crate::buyer::{SOLD_OUT, all_buy};
use crate::report::Report;
use crate::shop::Basket;
use crate::stage::{Aim, Goods, Needs, Stage};
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
    let (tally, acknowledged) = all_buy(name, plan, &stage, options.load.connections.get(), report).await;
    report.faults(Fault::Undersold, tally.good(SOLD_OUT), "there is plenty, and somebody was sent away");
    stage.close(&acknowledged, report).await
}
