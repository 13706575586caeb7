//! How long the server takes from its start to being ready, on a migrated SQLite file, and what it needs when idle.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::client::{Connection, get};
use crate::measure::{Spread, Table};
use crate::report::Report;
use crate::shop::{Place, Shop};
use crate::souk::Souk;
use crate::verdict::Limit;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often it is started; what is judged is the median
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..))]
    starts: u16,
    /// How many products the shop has
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    products: usize,
    #[command(flatten)]
    place: Place,
}

/// In milliseconds, and in MB.
const READY_WITHIN: f64 = 200.0;
const IDLE_MEMORY: f64 = 40.0;

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    report.set_in(options.place.describe());
    let shop = Shop::open(&options.place, 10, options.products).await?;
    let souk = Souk::find(&options.place, &shop.url, Vec::new()).await?;
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for _ in 0..options.starts {
        let began = Instant::now();
        let serving = souk.serve(0).await?;
        loop {
            let (head, _) = Connection::open(&serving.site).await?.send(get("/readyz", None)?).await?;
            if head.status.is_success() {
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(30), "the server was not ready within 30 seconds");
            sleep(Duration::from_millis(1)).await;
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
        sleep(Duration::from_millis(500)).await;
        memories.push(serving.memory()?.now as f64 / 1e6);
        let status = serving.stop().await?;
        ensure!(status.success(), "the server ended badly: {status}");
    }
    let (time, memory) = (Spread::of(times), Spread::of(memories));
    let mut table = Table::new(&["starts", "ready after, ms", "idle memory, MB"]);
    table.row([options.starts.to_string(), time.as_ratio(0), memory.as_ratio(1)]);
    report.table(&table);
    report.figure("ready_ms", time.median);
    report.figure("idle_mb", memory.median);
    if options.place.postgres.is_none() {
        report.limit("from start to ready", time.median, " ms", Limit::AtMost(READY_WITHIN));
        report.limit("memory when idle", memory.median, " MB", Limit::AtMost(IDLE_MEMORY));
    }
    shop.close("the books", &[], report).await
}
