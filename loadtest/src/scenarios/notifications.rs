//! Sockets that are cut and come back while orders move: every event comes once, in order, however often.
//!
//! Shoppers order, and an admin ships or cancels what they ordered. Each shopper has several sockets. Every now and then one
//! is cut, mostly without a word, and opened again with the number of the last event that it showed. In the end each of
//! them has seen 1, 2, 3, … up to the shopper's last event, and as many as the acknowledged changes make.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::Method;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::json;
use souk_store::model::UserId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::arrivals::must_be_positive;
use crate::buyer::{Bought, buy};
use crate::client::{Pool, Request, Site, get, put, with_json};
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::{Acknowledged, Aim, Goods, Needs, Stage, expected};
use crate::tally::{Ending, Tally};
use crate::verdict::{Fault, Faults};
use crate::wire::{Event, Wire};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many shoppers order, each one order after the other
    #[arg(long, value_name = "N", default_value_t = 50)]
    shoppers: usize,
    /// How many sockets each of them has
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4))]
    sockets: u8,
    /// For how many seconds they order
    #[arg(long, value_name = "N", default_value_t = 15.0)]
    seconds: f64,
    /// A socket is cut after as many events, on average
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    cut_after: u32,
    #[command(flatten)]
    aim: Aim,
}

/// How long the last events may take once nothing happens any more.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    must_be_positive("--seconds", options.seconds)?;
    let needs = Needs { shoppers: options.shoppers, goods: Goods::Plenty(20), basket: None, admin: true };
    let stage = Stage::set(&options.aim, needs, report).await?;
    let (users, admin) = (stage.users().await?, stage.admin()?.clone());
    let (pool, tally) = (stage.pool(options.shoppers * 2), Arc::new(Tally::new()));
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let progress = Progress::of("notifications", options.seconds, &tally);
    let (mut listening, mut moving) = (JoinSet::new(), JoinSet::new());
    for (number, (token, user)) in stage.shoppers.iter().cloned().zip(users).enumerate() {
        let first = last_event(&pool, &token).await?;
        let (end, known) = watch::channel(None);
        for _ in 0..options.sockets {
            let ears = Ears {
                site: stage.site.clone(),
                user,
                token: token.clone(),
                cut_after: options.cut_after,
                end: known.clone(),
                last: first,
                announced: BTreeSet::new(),
                heard: Heard::default(),
            };
            listening.spawn(ears.listen());
        }
        let product = stage.products[number % stage.products.len()];
        let shopper =
            Mover { number, product, token, admin: admin.clone(), pool: pool.clone(), tally: tally.clone() };
        moving.spawn(async move {
            let moved = shopper.move_orders(until).await;
            // Also if it failed, so that nobody listens for ever.
            let last = last_event(&shopper.pool, &shopper.token).await;
            end.send_replace(Some(*last.as_ref().unwrap_or(&0)));
            let moved = moved?;
            anyhow::Ok((moved, last? - first))
        });
    }
    let (mut acknowledged, mut faults) = (Vec::new(), Faults::default());
    while let Some(moved) = moving.join_next().await {
        let (moved, told) = moved??;
        let changes = moved.changes;
        if told < changes {
            let missing = u64::try_from(changes - told)?;
            faults.add_times(Fault::Lost, missing, format!("{changes} changes made {told} events"));
        }
        if told > changes {
            let more = u64::try_from(told - changes)?;
            faults.add_times(Fault::Doubled, more, format!("{changes} changes made {told} events"));
        }
        acknowledged.extend(moved.orders);
    }
    let mut heard = Heard::default();
    while let Some(one) = listening.join_next().await {
        let one = one??;
        heard.events += one.events;
        heard.cuts += one.cuts;
        faults.merge(one.faults);
    }
    drop(progress);
    report.run("notifications", &tally);
    report.found(faults);
    report.figure("events", heard.events);
    report.figure("cuts", heard.cuts);
    report
        .say(&format!("{} events came over the sockets, which were cut {} times", heard.events, heard.cuts));
    report.claim(
        "events came and sockets were cut, so that something was proved",
        heard.events > 0 && heard.cuts > 0,
    );
    stage.close(&acknowledged, report).await
}

/// The number of a shopper's newest event, 0 without any.
async fn last_event(pool: &Pool, token: &HeaderValue) -> anyhow::Result<i64> {
    #[derive(Deserialize)]
    struct Page {
        results: Vec<Told>,
    }
    #[derive(Deserialize)]
    struct Told {
        id: i64,
    }
    let answer = pool.send(get("/api/notifications/?page_size=1", Some(token))?).await?;
    let page: Page = expected(answer, 200)?.json()?;
    Ok(page.results.first().map_or(0, |event| event.id))
}

/// A shopper who orders, and the admin who deals with his orders.
struct Mover {
    number: usize,
    product: i64,
    token: HeaderValue,
    admin: HeaderValue,
    pool: Arc<Pool>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Moved {
    orders: Vec<Acknowledged>,
    /// Acknowledged changes, each of which is to make an event.
    changes: i64,
}

impl Mover {
    async fn move_orders(&self, until: Instant) -> anyhow::Result<Moved> {
        let (mut moved, run) = (Moved::default(), uuid::Uuid::new_v4().simple());
        while Instant::now() < until {
            self.insist("cart", &[201], || put(&self.token, self.product, 1)).await?;
            let key = format!("{run}-{}", moved.orders.len());
            let Bought::Order(order) = buy(&self.pool, &self.tally, &self.token, &key, Instant::now()).await
            else {
                // Why is counted.
                return Ok(moved);
            };
            moved.orders.push(Acknowledged { shopper: self.number, order });
            moved.changes += 1;
            let steps: &[&str] = match rand::random::<u8>() % 3 {
                0 => &[],
                1 => &["cancelled"],
                _ => &["shipped", "delivered"],
            };
            for status in steps {
                // The present status once more changes nothing and tells nothing, so it may be asked again.
                let body = json!({ "status": status }).to_string();
                let path = format!("/api/orders/{order}/status/");
                let step = || with_json(Method::PATCH, &path, Some(&self.admin), body.clone().into());
                self.insist("step", &[200], step).await?;
                moved.changes += 1;
            }
        }
        Ok(moved)
    }

    /// Asks until it is not refused.
    async fn insist(
        &self,
        kind: &'static str,
        good: &[u16],
        request: impl Fn() -> anyhow::Result<Request>,
    ) -> anyhow::Result<()> {
        loop {
            let asked = Instant::now();
            match Ending::of(self.pool.send(request()?).await, good) {
                Ending::Refused(wait) => {
                    self.tally.count(kind, asked, Ending::Refused(wait));
                    sleep(wait).await;
                }
                ending => {
                    let good = self.tally.count(kind, asked, ending);
                    return good.map(drop).context("a change was not made, so what follows cannot be judged");
                }
            }
        }
    }
}

/// One listener, whatever becomes of his sockets, and what he heard.
struct Ears {
    site: Site,
    user: UserId,
    token: HeaderValue,
    cut_after: u32,
    /// The number of the last event, once that is known.
    end: watch::Receiver<Option<i64>>,
    last: i64,
    /// The orders that were announced.
    announced: BTreeSet<i64>,
    heard: Heard,
}

#[derive(Default)]
struct Heard {
    events: u64,
    cuts: u64,
    faults: Faults,
}

impl Ears {
    async fn listen(mut self) -> anyhow::Result<Heard> {
        loop {
            let mut wire = Wire::open(&self.site, self.user, &self.token, Some(self.last)).await?;
            let mut left = 1 + rand::random::<u32>() % (2 * self.cut_after);
            while left > 0 {
                let end = *self.end.borrow_and_update();
                if let Some(end) = end {
                    match timeout(PATIENCE, self.rest(&mut wire, end)).await {
                        Ok(rest) => rest?,
                        Err(_) => {
                            let missing = u64::try_from(end - self.last).unwrap_or_default();
                            let example = format!("user {}: {} came last, of {end}", self.user.0, self.last);
                            self.heard.faults.add_times(Fault::Lost, missing, example);
                        }
                    }
                    return Ok(self.heard);
                }
                tokio::select! {
                    event = wire.next() => match event? {
                        Some(event) => { self.note(&event)?; left -= 1; }
                        // The server may close a slow reader; he resumes as after any other cut.
                        None => break,
                    },
                    _ = self.end.changed() => {}
                }
            }
            self.heard.cuts += 1;
            if rand::random::<u8>().is_multiple_of(4) {
                wire.close().await;
            }
        }
    }

    /// Hears what is left up to the last event, and that nothing follows it.
    async fn rest(&mut self, wire: &mut Wire, end: i64) -> anyhow::Result<()> {
        while self.last < end {
            match wire.next().await? {
                Some(event) => self.note(&event)?,
                None => *wire = Wire::open(&self.site, self.user, &self.token, Some(self.last)).await?,
            }
        }
        wire.ping().await.context("after the last event")
    }

    fn note(&mut self, event: &Event) -> anyhow::Result<()> {
        let (id, order) = match event {
            Event::OrderCreated { id, order_id } => {
                if !self.announced.insert(*order_id) {
                    self.heard.faults.add(Fault::Doubled, format!("order {order_id} was announced again"));
                }
                (*id, *order_id)
            }
            Event::OrderStatusUpdate { id, order_id } => (*id, *order_id),
            Event::ConnectionReady | Event::Pong => return Ok(()),
            Event::Error { detail } => bail!("a socket was told: {detail}"),
        };
        if let Some((fault, times)) = judge(self.last, id) {
            let example =
                format!("user {}: after event {} came {id}, of order {order}", self.user.0, self.last);
            self.heard.faults.add_times(fault, times, example);
        }
        self.heard.events += 1;
        self.last = self.last.max(id);
        Ok(())
    }
}

/// What is wrong with an event of this number after that one; nothing if it is the next.
fn judge(last: i64, id: i64) -> Option<(Fault, u64)> {
    match id - last {
        1 => None,
        gap if gap > 1 => Some((Fault::Lost, u64::try_from(gap - 1).unwrap_or_default())),
        _ => Some((Fault::Doubled, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_alone_is_right() {
        assert_eq!(judge(0, 1), None);
        assert_eq!(judge(7, 8), None);
        assert_eq!(judge(7, 10), Some((Fault::Lost, 2)));
        assert_eq!(judge(7, 7), Some((Fault::Doubled, 1)));
        assert_eq!(judge(7, 3), Some((Fault::Doubled, 1)));
    }
}
