//! N units of one product, and ten buyers for each: exactly N get one, and everybody else is told that there is none.
//!
//! Each buyer has the product in the cart, comes within a few seconds of the start, and checks out once, with a key. Who
//! is refused because the server has too much to do comes again, with the same key, as a good client does.

use crate::arrivals::{Plan, Spacing, must_be_positive};
use crate::buyer::{ORDER, SOLD_OUT, all_buy};
use crate::report::Report;
use crate::shop::Basket;
use crate::stage::{Aim, Goods, Needs, Stage};
use crate::verdict::Fault;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many units there are
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    units: u32,
    /// How many buyers there are for each
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    buyers: u32,
    /// Within how many seconds they come
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    within: f64,
    /// How many keep-alive connections there are at most
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    connections: usize,
    #[command(flatten)]
    aim: Aim,
}

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    must_be_positive("--within", options.within)?;
    let units = i64::from(options.units);
    let buyers = usize::try_from(u64::from(options.units) * u64::from(options.buyers))?;
    let needs = Needs {
        shoppers: buyers,
        goods: Goods::Units(units),
        basket: Some(Basket { hot: true, lines: 1 }),
        admin: false,
    };
    let stage = Stage::set(&options.aim, needs, report).await?;
    let plan = Plan::new(buyers as f64 / options.within, Spacing::Poisson, buyers, 1);
    let (tally, acknowledged) = all_buy("flash-sale", plan, &stage, options.connections, report).await;
    let (sold, sent_away) = (tally.good(ORDER), tally.good(SOLD_OUT));
    let left = stage.stock(stage.products[0]).await?;
    report.figure("sold", sold);
    report.figure("sold_out", sent_away);
    report.say(&format!(
        "{units} units, {buyers} buyers: {sold} bought, {sent_away} were sent away, {left} units are left"
    ));
    let units = u64::from(options.units);
    report.faults(Fault::Oversold, sold.saturating_sub(units), format!("{sold} of {units} units were sold"));
    report.faults(Fault::Undersold, units.saturating_sub(sold), format!("{sold} of {units} units were sold"));
    report.claim("exactly as many were sold as there were, and none is left", sold == units && left == 0);
    report.claim("everybody else was told so", sold + sent_away == buyers as u64);
    stage.close(&acknowledged, report).await
}
