//! What the tests are written in: shops, shoppers, answers and sockets. Nothing here knows a rule of the
//! contract beyond what it takes to be let in; the rules are in the tests.

mod answer;
mod browser;
mod database;
mod disk;
mod form;
mod nodes;
mod postgres;
mod process;
mod proxy;
mod shop;
mod shopper;
mod socket;
mod token;
mod wire;

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use answer::Answer;
pub(crate) use browser::{Browser, hidden, says};
pub(crate) use database::Place;
pub(crate) use disk::SmallDisk;
pub(crate) use form::{Form, jpeg, png};
pub(crate) use nodes::{Redis, ask, nodes, nodes_on, redis_of_the_run};
pub(crate) use postgres::Postgres;
pub(crate) use process::Ran;
pub(crate) use proxy::Proxy;
pub(crate) use shop::{Product, Shop};
pub(crate) use shopper::{Call, Shopper};
pub(crate) use socket::{Knock, Socket};
pub(crate) use token::{Forgery, claims_of};
pub(crate) use wire::Wire;

/// How long anything may take that a test waits for: far more than a slow machine needs, so that running into
/// it is a failure and never bad luck.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What every shopper's password is; like no name that a test gives, and no common one.
pub(crate) const PASSWORD: &str = "Tangerine-Kite-42";

/// The key that every shop signs its tokens with, known here so that tests can forge.
pub(crate) const SECRET_KEY: &str = "the-end-to-end-suite-signs-its-tokens-with-this";

/// Asks again and again until the answer is yes. Each round costs a request, so nothing spins; nothing sleeps
/// either.
pub(crate) async fn eventually<F>(what: &str, mut holds: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let asking = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(DEADLINE, asking).await.is_err() {
        panic!("{what}: not within {DEADLINE:?}");
    }
}

/// The same for what must not take longer than `within`, as promised; asked again at most every few milliseconds.
pub(crate) async fn within<F>(within: Duration, what: &str, mut holds: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
    }
}

/// Lets all of these run at once and gathers their answers, in no particular order.
pub(crate) async fn at_once(
    asking: impl IntoIterator<Item = impl Future<Output = Answer> + Send + 'static>,
) -> Vec<Answer> {
    let mut running = JoinSet::new();
    for one in asking {
        running.spawn(one);
    }
    running.join_all().await
}

/// How many of them have this status.
pub(crate) fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// A value of a query, escaped.
pub(crate) fn escaped(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
