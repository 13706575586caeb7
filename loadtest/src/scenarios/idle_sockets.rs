//! What an idle notification socket costs the server: its memory before and after many of them are open.
//!
//! Each socket is of another user, which is the dearest case: every one has its session. Some of them are asked whether
//! they still live.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::enough_descriptors;
use crate::report::Report;
use crate::souk::{Memory, megabytes};
use crate::stage::{Aim, Goods, Needs, Stage};
use crate::verdict::{Fault, Limit};
use crate::wire::Wire;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many sockets are opened
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..))]
    sockets: u32,
    /// How long they stay idle before the memory is read
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    hold: f64,
    #[command(flatten)]
    aim: Aim,
}

/// What a socket may cost, in KB.
const MOST: f64 = 15.0;
/// How many are opened first, so that what the first sockets need once is not counted.
const FIRST: usize = 100;
/// How many are opened at the same time.
const AT_ONCE: usize = 64;

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    options.aim.must_be_own("reads the memory of the server's process")?;
    ensure!((0.0..3_600.0).contains(&options.hold), "--hold must be a number of seconds");
    let sockets = usize::try_from(options.sockets)?;
    enough_descriptors(sockets, "less with --sockets")?;
    let needs = Needs { shoppers: sockets + FIRST, goods: Goods::Plenty(1), basket: None, admin: false };
    let stage = Stage::set(&options.aim, needs, report).await?;
    let warm = open(&stage, 0..FIRST).await?;
    sleep(Duration::from_secs(1)).await;
    let memory = || -> anyhow::Result<Memory> { stage.own()?.serving.memory() };
    let before = memory()?;
    let mut open = open(&stage, FIRST..FIRST + sockets).await?;
    sleep(Duration::from_secs_f64(options.hold)).await;
    let after = memory()?;
    let each = after.now.saturating_sub(before.now) as f64 / sockets as f64 / 1e3;
    report.figure("sockets", sockets);
    report.figure("kb_each", each);
    report.say(&format!(
        "{sockets} sockets: the server's memory went from {} to {}, {each:.1} KB each",
        megabytes(before.now),
        megabytes(after.now)
    ));
    for wire in open.iter_mut().step_by(sockets / 100) {
        if let Err(error) = wire.ping().await {
            report.fault(Fault::NoAnswer, format!("a socket that should live: {error:#}"));
        }
    }
    drop((open, warm));
    sleep(Duration::from_secs(2)).await;
    report.say(&format!("two seconds after all were closed it has {}", megabytes(memory()?.now)));
    report.limit("an idle socket", each, " KB", Limit::AtMost(MOST));
    stage.close(&[], report).await
}

async fn open(stage: &Stage, range: std::ops::Range<usize>) -> anyhow::Result<Vec<Wire>> {
    let (users, places, mut opening) =
        (stage.users().await?, Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for number in range {
        let (site, token, user) = (stage.site.clone(), stage.shoppers[number].clone(), users[number]);
        let places = Arc::clone(&places);
        opening.spawn(async move {
            let _place = places.acquire().await?;
            Wire::open(&site, user, &token, None).await.context("a socket did not open")
        });
    }
    let mut open = Vec::new();
    while let Some(opened) = opening.join_next().await {
        open.push(opened??);
    }
    Ok(open)
}
