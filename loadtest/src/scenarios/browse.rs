//! People who look around: pages of the catalogue, some of them filtered, and products.

use std::sync::Arc;

use crate::arrivals::{Load, Usual, at_their_times};
use crate::client::get;
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::{Aim, Goods, Needs, Stage};
use crate::tally::{Ending, Tally};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    load: Load,
    /// How many products the run's own shop has
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    products: u32,
    #[command(flatten)]
    aim: Aim,
}

const USUAL: Usual = Usual { rate: 2_000.0, seconds: 15.0 };

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let plan = options.load.plan(USUAL)?;
    let goods = Goods::Sample(usize::try_from(options.products)?);
    let needs = Needs { shoppers: 0, goods, basket: None, admin: false };
    let stage = Stage::set(&options.aim, needs, report).await?;
    let (pool, tally) = (stage.pool(options.load.connections.get()), Arc::new(Tally::new()));
    let products: Arc<[i64]> = stage.products.clone().into();
    let progress = Progress::of("browse", plan.seconds(), &tally);
    at_their_times(plan, |arrival| {
        let (pool, tally, products) = (Arc::clone(&pool), Arc::clone(&tally), Arc::clone(&products));
        async move {
            let (kind, path) = visit(rand::random(), &products);
            let ending = Ending::of_asking(&pool, get(&path, None), &[200]).await;
            tally.count(kind, arrival.planned, ending);
        }
    })
    .await;
    drop(progress);
    report.run("browse", &tally);
    stage.close(&[], report).await
}

/// What a person looks at, by a number made at random; most look at the first page.
fn visit(random: u64, products: &[i64]) -> (&'static str, String) {
    let (choice, rest) = (random % 100, usize::try_from(random / 100 % 1_000_000).unwrap_or_default());
    match choice {
        0..35 => ("list", "/api/products/".to_owned()),
        35..45 => ("list", format!("/api/products/?page={}", 1 + rest % 5)),
        45..55 => ("filtered", format!("/api/products/?category={}&in_stock=true", 1 + rest % 8)),
        55..60 => ("filtered", "/api/products/?price_max=50&ordering=price".to_owned()),
        60..65 => ("featured", "/api/products/featured/".to_owned()),
        65..70 => ("categories", "/api/categories/".to_owned()),
        _ => ("detail", format!("/api/products/{}/", products[rest % products.len()])),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn people_look_at_everything_and_most_at_lists() {
        let mut counts = BTreeMap::new();
        for number in 0..100_000_u64 {
            *counts.entry(visit(number * 31, &[1, 2, 3]).0).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 5, "{counts:?}");
        assert!(counts["list"] > counts["detail"] && counts["detail"] > counts["filtered"], "{counts:?}");
    }
}
