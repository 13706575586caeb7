//! `souk`: the command line. One short function a command; what they share is in the library beside this file.

mod audit;
mod logging;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use souk::App;
use souk::config::{BadSetting, Config, Environment, settings_help};
use souk_store::Db;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A shop over HTTP and WebSocket, in one binary.
#[derive(Parser)]
#[command(name = "souk", version, after_help = settings_help())]
struct Cli {
    /// Without a command: serve.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Migrate the database, then serve HTTP and WebSocket on one port.
    #[command(after_help = settings_help())]
    Serve,
    /// Bring the database's schema up to date.
    Migrate,
    /// Check the books of a database, live or not; exit code 1 if they are wrong.
    Audit,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command.unwrap_or(Command::Serve)) {
        Ok(code) => code,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "souk: {}", in_one_line(&error)));
            // After a bad setting the code is that of a bad argument.
            if error.is::<BadSetting>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// The error with its causes behind colons; libraries repeat themselves, which is left out.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(|cause| cause.to_string().replace('\n', " ")) {
        if !line.contains(&cause) {
            line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
        }
    }
    line
}

#[tokio::main]
async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let config = Config::read(&Environment::read()?)?;
    logging::start(&config);
    match command {
        Command::Serve => serve(&config).await,
        Command::Migrate => migrate(&config).await,
        Command::Audit => audit::run(&config).await,
    }
}

async fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    let mut stop = StopSignals::install()?;
    config.secret_key()?;
    let listener = souk::bind(config).await?;
    let app = App::start(config, listener).await?;
    tracing::info!("listening on http://{}", app.addr());
    stop.next().await;
    tracing::info!("stopping; once more to stop at once");
    tokio::select! {
        outcome = app.shutdown() => outcome?,
        () = stop.next() => anyhow::bail!("stopped at once"),
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// SIGTERM, as from a service manager, and Ctrl-C.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn install() -> anyhow::Result<Self> {
        let install = || Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
        let (terminate, interrupt) =
            install().map_err(|error: std::io::Error| error).context("cannot listen for signals")?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn migrate(config: &Config) -> anyhow::Result<ExitCode> {
    let db = open(config).await?;
    db.close().await;
    tracing::info!("the database is up to date");
    Ok(ExitCode::SUCCESS)
}

/// The database of the settings, migrated.
async fn open(config: &Config) -> anyhow::Result<Db> {
    let db = Db::connect(config.database_url.reveal()).await.context("cannot open the database")?;
    db.migrate().await?;
    Ok(db)
}
