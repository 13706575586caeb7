//! Searches that nobody asked before, so that no cache can answer them: what the database and its indexes give.
//!
//! First a fixed number of clients ask one after the other, which is what the limit is about; then searches come by the
//! clock at half of the rate that those got, and latency counts from the planned start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::arrivals::{Plan, Spacing, at_their_times, must_be_positive};
use crate::client::{Pool, get};
use crate::measure::whole;
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::{Aim, Goods, Needs, Stage, expected};
use crate::tally::{Ending, Tally};
use crate::verdict::Limit;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many products the run's own shop has
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    products: u32,
    /// How many clients ask side by side
    #[arg(long, value_name = "N", default_value_t = 16)]
    clients: usize,
    /// How many searches they make together
    #[arg(long, value_name = "N", default_value_t = 4_000)]
    searches: usize,
    /// For how many seconds searches come by the clock
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    seconds: f64,
    /// How many come a second then; otherwise half of what the clients got
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    #[command(flatten)]
    aim: Aim,
}

/// What 99 of 100 searches must stay within, in milliseconds, and with how many products and clients.
const MOST: f64 = 25.0;
const JUDGED: (u32, usize) = (100_000, 16);

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    ensure!(
        options.clients > 0 && options.searches > 0,
        "--clients and --searches must be more than nothing"
    );
    must_be_positive("--seconds", options.seconds)?;
    if let Some(rate) = options.rate {
        must_be_positive("--rate", rate)?;
    }
    let goods = Goods::Sample(usize::try_from(options.products)?);
    let stage =
        Stage::set(&options.aim, Needs { shoppers: 0, goods, basket: None, admin: false }, report).await?;
    let pool = stage.pool(options.clients.max(256));
    let questions = Arc::new(Questions::of(&pool).await?);

    let (tally, next) = (Arc::new(Tally::new()), Arc::new(AtomicUsize::new(0)));
    let progress = Progress::of("search by clients", options.searches as f64 / 400.0, &tally);
    let mut asking = JoinSet::new();
    for _ in 0..options.clients {
        let (pool, tally, questions, next) = (pool.clone(), tally.clone(), questions.clone(), next.clone());
        let searches = options.searches;
        asking.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= searches {
                    return;
                }
                ask(&pool, &tally, &questions.path(number), Instant::now()).await;
            }
        });
    }
    asking.join_all().await;
    drop(progress);
    report.run(&format!("{} clients", options.clients), &tally);
    let (carried, p99) = (tally.goodput(), tally.latency(SEARCH, 0.99));
    report.figure("searches_per_second", carried);
    if stage.own().is_ok() && (options.products, options.clients) == JUDGED {
        let what =
            format!("99 of 100 searches, {} products, {} clients", whole(f64::from(JUDGED.0)), JUDGED.1);
        report.limit(&what, p99.unwrap_or(f64::NAN), " ms", Limit::AtMost(MOST));
    }

    let rate = options.rate.unwrap_or(carried / 2.0).max(1.0);
    let tally = Arc::new(Tally::new());
    let progress = Progress::of("search by the clock", options.seconds, &tally);
    at_their_times(Plan::lasting(rate, Spacing::Poisson, options.seconds), |arrival| {
        let (pool, tally, questions) = (pool.clone(), tally.clone(), questions.clone());
        let number = options.searches + arrival.number;
        async move { ask(&pool, &tally, &questions.path(number), arrival.planned).await }
    })
    .await;
    drop(progress);
    report.run(&format!("{rate:.0} a second"), &tally);
    stage.close(&[], report).await
}

const SEARCH: &str = "search";

async fn ask(pool: &Pool, tally: &Tally, path: &str, planned: Instant) {
    let ending = Ending::of_asking(pool, get(path, None), &[200]).await;
    tally.count(SEARCH, planned, ending);
}

/// What is searched for: words of the shop's own products, and a lowest price that is another each time.
pub(crate) struct Questions {
    words: Vec<String>,
    /// So that two runs against one server do not ask the same.
    offset: usize,
}

impl Questions {
    pub(crate) async fn of(pool: &Pool) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Page {
            results: Vec<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let answer = pool.send(get("/api/products/?page_size=100", None)?).await?;
        let names = expected(answer, 200)?.json::<Page>()?.results;
        let mut words: Vec<_> = names.iter().flat_map(|product| plain_words(&product.name)).collect();
        words.sort_unstable();
        words.dedup();
        ensure!(!words.is_empty(), "the shop has no products to search for: `souk seed` brings some");
        Ok(Self { words, offset: usize::from(rand::random::<u16>()) })
    }

    /// Another one for each number.
    pub(crate) fn path(&self, number: usize) -> String {
        let word = |stride: usize| &self.words[number.wrapping_mul(stride) % self.words.len()];
        let words =
            if number.is_multiple_of(2) { word(7).clone() } else { format!("{}+{}", word(7), word(13)) };
        let order = ["name", "-price", "-created_at"][number % 3];
        let cents = self.offset + number;
        format!(
            "/api/products/?search={words}&price_min={}.{:02}&ordering={order}",
            cents / 100 % 20,
            cents % 100
        ) + &format!("&price_max={}.{:02}", 10_000 + cents / 2_000, cents % 100)
    }
}

/// Words that need no escaping in a query, and are long enough for the index.
fn plain_words(name: &str) -> impl Iterator<Item = String> + '_ {
    name.split_whitespace()
        .filter(|word| word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nobody_asked_it_before() {
        let questions = Questions { words: vec!["lamp".to_owned(), "walnut".to_owned()], offset: 7 };
        let paths: BTreeSet<_> = (0..50_000).map(|number| questions.path(number)).collect();
        assert_eq!(paths.len(), 50_000);
        assert!(paths.iter().all(|path| !path.contains(' ')));
    }

    #[test]
    fn words_are_taken_that_need_no_escaping() {
        let words: Vec<_> = plain_words("The Café Lamp No. 12, of oak & brass").collect();
        assert_eq!(words, ["the", "lamp", "oak", "brass"]);
    }
}
