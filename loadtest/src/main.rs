//! Load scenarios for Souk, each with a table of figures and a verdict.
//!
//! A scenario makes a shop of its own, measures, checks that the books are right, and removes it. The exit code is 1 if
//! a claim failed or a fault was found. Those that compare speeds print ratios of sides that take turns within one run;
//! `loadtest/README.md` has the figures of one machine. A new scenario is a file in `scenarios/`, a line in [`Scenario`]
//! and one in [`play`].

mod arrivals;
mod buyer;
mod by_hand;
mod client;
mod cores;
mod dawdlers;
mod measure;
mod picture;
mod private;
mod progress;
mod report;
mod scenarios;
mod server;
mod shop;
mod souk;
mod stage;
mod tally;
mod verdict;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use mimalloc::MiMalloc;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::report::{Outputs, Report};

/// As in `souk`, whose parts are measured here.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures Souk under load, on a database that is made for it, and checks the books afterwards
///
/// Exit code 1: a claim failed (a figure beyond its limit), or something was oversold, lost, doubled, stale, a 5xx. A 503
/// with Retry-After is a refusal, and right. Run it in a release build on a quiet machine:
///
///     cargo run --release -p souk-loadtest -- flash-sale
///     cargo run --release -p souk-loadtest -- checkout-spread --rate 2000 --postgres --picture run.svg
#[derive(Parser)]
#[command(name = "souk-loadtest", verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(Subcommand)]
enum Scenario {
    /// N units and ten buyers for each: exactly N are sold, everybody else is told that there is none
    FlashSale(scenarios::flash_sale::Options),
    /// Checkouts at a fixed rate, spread over many products
    CheckoutSpread(scenarios::checkouts::Options),
    /// Checkouts at a fixed rate, all of the same product
    CheckoutHot(scenarios::checkouts::Options),
    /// The same cart is checked out several times at once, with one key and without: one order
    DoubleClick(scenarios::double_click::Options),
    /// People who look around, at a fixed rate
    Browse(scenarios::browse::Options),
    /// Searches that no cache can answer, on 100,000 products
    Search(scenarios::search::Options),
    /// 80 % lists, 15 % products, 5 % checkouts at a fixed rate, while prices change: nothing is stale
    Mixed(scenarios::mixed::Options),
    /// Sockets that are cut and resume while orders move: every event once, in order
    Notifications(scenarios::notifications::Options),
    /// What ten thousand idle sockets cost the server
    IdleSockets(scenarios::idle_sockets::Options),
    /// Ten times more than the server carries: the rest is refused, and what it can do it does
    Overload(scenarios::overload::Options),
    /// Thousands who dawdle, guess and send bombs: who came to shop is served, and nothing of them is left
    Siege(scenarios::siege::Options),
    /// From start to ready, and the memory of an idle server
    Start(scenarios::start::Options),
    /// The server is killed under load, again and again: what was acknowledged is there, and nothing twice
    Crash(scenarios::crash::Options),
    /// Orders a second through the ledger, against one transaction an order on the same database
    Ledger(scenarios::ledger::Options),
    /// Product list and detail from the cache, against the same server answering fixed bytes of the same size
    Catalogue(scenarios::catalogue::Options),
    /// Checkout through HTTP: one hot product against orders spread over many, and against one transaction an order
    Checkout(scenarios::checkout::Options),
    /// The server that `catalogue` and `checkout` start as a process of its own
    #[command(hide = true)]
    Serve(server::Options),
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "souk-loadtest: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether the verdict is clean.
fn run() -> anyhow::Result<bool> {
    let matches = Arguments::command().get_matches();
    let name = matches.subcommand_name().unwrap_or_default().to_owned();
    let Arguments { scenario, outputs } =
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut runtime = Builder::new_multi_thread();
    runtime.enable_all();
    match &scenario {
        Scenario::Serve(options) => {
            runtime.worker_threads(options.threads).build()?.block_on(server::serve(options))?;
            return Ok(true);
        }
        Scenario::Catalogue(options) => {
            runtime.worker_threads(options.client_threads());
        }
        _ => {}
    }
    let mut report = Report::new(&name, outputs);
    runtime.build()?.block_on(async {
        // Whatever was started is dropped with the scenario, and ends.
        tokio::select! {
            played = play(&scenario, &mut report) => played,
            interrupted = interrupted() => interrupted,
        }
    })?;
    report.end()
}

async fn play(scenario: &Scenario, report: &mut Report) -> anyhow::Result<()> {
    use scenarios as s;
    match scenario {
        Scenario::FlashSale(options) => s::flash_sale::run(options, report).await,
        Scenario::CheckoutSpread(options) => s::checkouts::run(options, false, report).await,
        Scenario::CheckoutHot(options) => s::checkouts::run(options, true, report).await,
        Scenario::DoubleClick(options) => s::double_click::run(options, report).await,
        Scenario::Browse(options) => s::browse::run(options, report).await,
        Scenario::Search(options) => s::search::run(options, report).await,
        Scenario::Mixed(options) => s::mixed::run(options, report).await,
        Scenario::Notifications(options) => s::notifications::run(options, report).await,
        Scenario::IdleSockets(options) => s::idle_sockets::run(options, report).await,
        Scenario::Overload(options) => s::overload::run(options, report).await,
        Scenario::Siege(options) => s::siege::run(options, report).await,
        Scenario::Start(options) => s::start::run(options, report).await,
        Scenario::Crash(options) => s::crash::run(options, report).await,
        Scenario::Ledger(options) => s::ledger::run(options, report).await,
        Scenario::Catalogue(options) => s::catalogue::run(options, report).await,
        Scenario::Checkout(options) => s::checkout::run(options, report).await,
        Scenario::Serve(_) => Ok(()),
    }
}

/// Ctrl-C, or SIGTERM as from `timeout`.
async fn interrupted() -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    bail!("interrupted")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
