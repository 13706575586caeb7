//! The same cart is checked out several times at once, as by an impatient finger: it makes one order.
//!
//! Every other shopper sends the same idempotency key each time, and is given the same order each time, all but one of the
//! answers marked as repeated. The others send no key: one of their clicks gets the order, the rest find the cart empty.

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::arrivals::{Plan, Spacing, at_their_times, must_be_positive};
use crate::buyer::Placed;
use crate::client::{Answer, Pool, checkout};
use crate::progress::Progress;
use crate::report::Report;
use crate::shop::Basket;
use crate::stage::{Acknowledged, Aim, Goods, Needs, Stage};
use crate::tally::{Ending, Tally};
use crate::verdict::Fault;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many shoppers click
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    shoppers: usize,
    /// How often each of them does, at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=32))]
    clicks: u8,
    /// How many shoppers come a second
    #[arg(long, value_name = "N", default_value_t = 400.0)]
    rate: f64,
    /// How many keep-alive connections there are at most
    #[arg(long, value_name = "N", default_value_t = 512)]
    connections: usize,
    #[command(flatten)]
    aim: Aim,
}

/// How often a click that was refused is made again.
const ATTEMPTS: u32 = 30;

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    must_be_positive("--rate", options.rate)?;
    let needs = Needs {
        shoppers: options.shoppers,
        goods: Goods::Plenty(100),
        basket: Some(Basket { hot: false, lines: 1 }),
        admin: false,
    };
    let stage = Stage::set(&options.aim, needs, report).await?;
    let (pool, tally) = (stage.pool(options.connections), Arc::new(Tally::new()));
    let shoppers: Arc<[_]> = stage.shoppers.clone().into();
    let progress = Progress::of("double-click", options.shoppers as f64 / options.rate, &tally);
    let (run, clicks) = (uuid::Uuid::new_v4().simple(), options.clicks);
    let made = at_their_times(Plan::new(options.rate, Spacing::Poisson, options.shoppers, 1), |arrival| {
        let (pool, tally, shoppers) = (Arc::clone(&pool), Arc::clone(&tally), Arc::clone(&shoppers));
        async move {
            let shopper = arrival.number;
            let key = shopper.is_multiple_of(2).then(|| format!("{run}-{shopper}"));
            let mut clicking = JoinSet::new();
            for _ in 0..clicks {
                let (pool, tally) = (Arc::clone(&pool), Arc::clone(&tally));
                clicking.spawn(click(pool, tally, shoppers[shopper].clone(), key.clone(), arrival.planned));
            }
            let answers = clicking.join_all().await.into_iter().flatten().collect();
            let orders = judge(shopper, key.is_some(), clicks, answers, &tally);
            orders.into_iter().map(move |order| Acknowledged { shopper, order })
        }
    })
    .await;
    drop(progress);
    report.run("double-click", &tally);
    let acknowledged: Vec<_> = made.into_iter().flatten().collect();
    report.say(&format!(
        "{} shoppers clicked {} times each: {} orders",
        options.shoppers,
        options.clicks,
        acknowledged.len()
    ));
    stage.close(&acknowledged, report).await
}

/// One click, made again while it is refused; none if it failed, which is counted.
async fn click(
    pool: Arc<Pool>,
    tally: Arc<Tally>,
    token: HeaderValue,
    key: Option<String>,
    planned: Instant,
) -> Option<Answer> {
    let (kind, good): (_, &[u16]) =
        if key.is_some() { ("with a key", &[201]) } else { ("without", &[201, 400]) };
    let mut asked = planned;
    for _ in 0..ATTEMPTS {
        match Ending::of_asking(&pool, checkout(&token, key.as_deref()), good).await {
            Ending::Refused(wait) => {
                tally.count(kind, asked, Ending::Refused(wait));
                sleep(wait).await;
                asked = Instant::now();
            }
            ending => return tally.count(kind, asked, ending),
        }
    }
    tally.fault(Fault::NoAnswer, format!("refused {ATTEMPTS} times"));
    None
}

/// Finds what is wrong between the answers of one shopper; gives the orders that he was told of.
fn judge(shopper: usize, keyed: bool, clicks: u8, answers: Vec<Answer>, tally: &Tally) -> BTreeSet<i64> {
    let mut orders = BTreeSet::new();
    let (mut placed, mut first) = (0_u64, 0_u64);
    let complete = answers.len() == usize::from(clicks);
    for answer in answers {
        match answer.json::<Placed>() {
            Ok(order) if answer.status == StatusCode::CREATED => {
                placed += 1;
                first += u64::from(!answer.headers.contains_key("idempotent-replayed"));
                orders.insert(order.id);
            }
            _ if answer.body.windows(14).any(|text| text == b"Cart is empty.") => {}
            _ => tally.fault(Fault::Unexpected, format!("shopper {shopper}: {}", answer.in_words())),
        }
    }
    // A key's answers are one order in several copies; without one each copy is another order.
    let made = if keyed { orders.len() as u64 } else { placed };
    if made > 1 {
        tally.fault(Fault::Doubled, format!("shopper {shopper}: {made} orders of one cart, {orders:?}"));
    }
    if complete && made == 0 {
        tally.fault(Fault::Lost, format!("shopper {shopper}: no click got the order"));
    }
    if complete && keyed && first != 1 {
        tally.fault(Fault::Doubled, format!("shopper {shopper}: {first} answers call themselves the first"));
    }
    orders
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &'static str, replayed: bool) -> Answer {
        let mut headers = HeaderMap::new();
        if replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.into() }
    }

    fn faults(keyed: bool, answers: Vec<Answer>) -> Vec<Fault> {
        let tally = Tally::new();
        judge(7, keyed, 2, answers, &tally);
        let found = tally.take_faults();
        [Fault::Doubled, Fault::Lost, Fault::Unexpected]
            .into_iter()
            .filter(|fault| found.times(*fault) > 0)
            .collect()
    }

    #[test]
    fn one_order_of_one_cart_is_right_and_anything_else_is_not() {
        let (first, again) = (|| answer(201, r#"{"id": 1}"#, false), || answer(201, r#"{"id": 1}"#, true));
        let (other, empty) =
            (|| answer(201, r#"{"id": 2}"#, false), || answer(400, r#"{"detail": "Cart is empty."}"#, false));
        assert_eq!(faults(true, vec![first(), again()]), []);
        assert_eq!(faults(true, vec![first(), first()]), [Fault::Doubled]);
        assert_eq!(faults(true, vec![again(), again()]), [Fault::Doubled]);
        assert_eq!(faults(true, vec![first(), other()]), [Fault::Doubled]);
        assert_eq!(faults(true, vec![first()]), [], "one answer is missing, which is counted elsewhere");
        assert_eq!(faults(false, vec![first(), empty()]), []);
        assert_eq!(faults(false, vec![first(), other()]), [Fault::Doubled]);
        assert_eq!(faults(false, vec![first(), first()]), [Fault::Doubled]);
        assert_eq!(faults(false, vec![empty(), empty()]), [Fault::Lost]);
        assert_eq!(
            faults(false, vec![first(), answer(400, r#"{"phone": ["No."]}"#, false)]),
            [Fault::Unexpected]
        );
    }
}
