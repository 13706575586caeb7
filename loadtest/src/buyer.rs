//! Somebody who buys as a good client does: with an idempotency key, and again with the same one when he was refused.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::arrivals::{Plan, at_their_times};
use crate::client::{Answer, Pool, checkout};
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::{Acknowledged, Stage};
use crate::tally::{Ending, Tally};
use crate::verdict::Fault;

/// For how long a buyer who is refused comes again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the client wants to know of an order.
#[derive(Deserialize)]
pub(crate) struct Placed {
    pub(crate) id: i64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bought {
    Order(i64),
    /// 409: as many as were wanted are not there.
    SoldOut,
    /// Neither; why is counted.
    Nothing,
}

/// Names under which answers are counted.
pub(crate) const ORDER: &str = "order";
pub(crate) const SOLD_OUT: &str = "sold out";

/// Checks out a cart of one line of one unit; latencies count from `planned`, however often it takes.
pub(crate) async fn buy(
    pool: &Pool,
    tally: &Tally,
    token: &HeaderValue,
    key: &str,
    planned: Instant,
) -> Bought {
    let mut asked = planned;
    loop {
        match Ending::of_asking(pool, checkout(token, Some(key)), &[201, 409]).await {
            Ending::Refused(wait) if planned.elapsed() < PATIENCE => {
                tally.count(ORDER, asked, Ending::Refused(wait));
                // Not all at the same moment again.
                sleep(wait.mul_f64(1.0 + rand::random::<f64>() / 2.0)).await;
                asked = Instant::now();
            }
            Ending::Good(answer) if answer.status == StatusCode::CONFLICT => {
                return match sold_out(&answer) {
                    Ok(()) => {
                        tally.count(SOLD_OUT, planned, Ending::Good(answer));
                        Bought::SoldOut
                    }
                    Err((fault, example)) => {
                        tally.count(SOLD_OUT, planned, Ending::Bad(fault, example));
                        Bought::Nothing
                    }
                };
            }
            Ending::Good(answer) => {
                return match answer.json::<Placed>() {
                    Ok(order) => {
                        tally.count(ORDER, planned, Ending::Good(answer));
                        Bought::Order(order.id)
                    }
                    Err(error) => {
                        tally.count(ORDER, planned, Ending::Bad(Fault::Unexpected, error.to_string()));
                        Bought::Nothing
                    }
                };
            }
            Ending::Refused(wait) => {
                tally.count(ORDER, asked, Ending::Refused(wait));
                tally.fault(Fault::NoAnswer, format!("refused for {PATIENCE:?}"));
                return Bought::Nothing;
            }
            bad => {
                tally.count(ORDER, asked, bad);
                return Bought::Nothing;
            }
        }
    }
}

/// Lets another shopper check out at each arrival, shows how it goes, and gives what was counted and acknowledged.
pub(crate) async fn all_buy(
    name: &'static str,
    plan: Plan,
    stage: &Stage,
    connections: usize,
    report: &mut Report,
) -> (Arc<Tally>, Vec<Acknowledged>) {
    let (pool, tally) = (stage.pool(connections), Arc::new(Tally::new()));
    let shoppers: Arc<[_]> = stage.shoppers.clone().into();
    let progress = Progress::of(name, plan.seconds(), &tally);
    let run = uuid::Uuid::new_v4().simple();
    let bought = at_their_times(plan, |arrival| {
        let (pool, tally, shoppers) = (Arc::clone(&pool), Arc::clone(&tally), Arc::clone(&shoppers));
        async move {
            let (shopper, key) = (arrival.number, format!("{run}-{}", arrival.number));
            match buy(&pool, &tally, &shoppers[shopper], &key, arrival.planned).await {
                Bought::Order(order) => Some(Acknowledged { shopper, order }),
                Bought::SoldOut | Bought::Nothing => None,
            }
        }
    })
    .await;
    drop(progress);
    report.run(name, &tally);
    (tally, bought.into_iter().flatten().collect())
}

/// Whether a refusal for lack of stock says that there are fewer than were wanted.
fn sold_out(answer: &Answer) -> Result<(), (Fault, String)> {
    #[derive(Deserialize)]
    struct Short {
        items: Vec<Line>,
    }
    #[derive(Deserialize)]
    struct Line {
        requested: i64,
        available: i64,
    }
    let short: Short = answer.json().map_err(|error| (Fault::Unexpected, error.to_string()))?;
    if short.items.is_empty() || short.items.iter().any(|line| line.available >= line.requested) {
        return Err((Fault::Undersold, format!("sold out, though it says: {}", answer.in_words())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shop_that_has_enough_is_not_sold_out() {
        let answer = |body: &'static str| Answer {
            status: StatusCode::CONFLICT,
            headers: hyper::HeaderMap::new(),
            body: body.into(),
        };
        let line = |available: &str| {
            format!(r#"{{"items": [{{"product": 1, "requested": 2, "available": {available}}}]}}"#)
        };
        let judged = |body: String| sold_out(&answer(body.leak())).map_err(|(fault, _)| fault);
        assert_eq!(judged(line("1")), Ok(()));
        assert_eq!(judged(line("2")), Err(Fault::Undersold));
        assert_eq!(judged(r#"{"items": []}"#.to_owned()), Err(Fault::Undersold));
        assert_eq!(judged(r#"{"detail": "another conflict"}"#.to_owned()), Err(Fault::Unexpected));
    }
}
