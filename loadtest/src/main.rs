//! Load scenarios for Souk, each with a table of figures and a verdict.
//!
//! A scenario makes a shop of its own, measures, checks that the books are right, and removes it. The exit code is 1 if
//! a claim failed. Figures are ratios of sides that take turns within one run; `loadtest/README.md` has those of one
//! machine. A new scenario is a file in `scenarios/` and a line in [`Scenario`].

mod client;
mod measure;
mod scenarios;
mod server;
mod shop;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

/// Measures Souk under load, on a database that is made for it, and checks the books afterwards
///
/// Exit code 1: a claim failed, that is a figure below its floor, an order lost or sold twice. Run it in a release build
/// on a quiet machine:
///
///     cargo run --release -p souk-loadtest -- ledger
#[derive(Parser)]
#[command(name = "souk-loadtest", verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Orders a second through the ledger, against one transaction an order on the same database
    Ledger(scenarios::ledger::Options),
    /// Product list and detail from the cache, against the same server answering fixed bytes of the same size
    Catalogue(scenarios::catalogue::Options),
    /// Checkout through HTTP: everybody wants the same product, against orders spread over many
    Checkout(scenarios::checkout::Options),
    /// The server that other scenarios start as a process of its own
    #[command(hide = true)]
    Serve(server::Options),
}

fn main() -> anyhow::Result<()> {
    let Arguments { scenario } = Arguments::parse();
    let mut runtime = Builder::new_multi_thread();
    runtime.enable_all();
    match scenario {
        Scenario::Ledger(options) => runtime.build()?.block_on(scenarios::ledger::run(&options)),
        Scenario::Catalogue(options) => runtime
            .worker_threads(options.client_threads())
            .build()?
            .block_on(scenarios::catalogue::run(&options)),
        Scenario::Checkout(options) => runtime.build()?.block_on(scenarios::checkout::run(&options)),
        Scenario::Serve(options) => {
            runtime.worker_threads(options.threads).build()?.block_on(server::serve(&options))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
