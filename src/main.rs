//! `souk`: the command line. One short function a command; what they share is in the library beside this file.

mod audit;
mod demo;
mod logging;
mod seed;
mod superuser;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use souk::App;
use souk::config::{BadSetting, Config, Environment, settings_help};
use souk_http::tls::Tls;
use souk_store::{Db, identity};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The system's own takes a third of the processor time of a node under load.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
    Serve {
        /// Fill an empty shop with sample data and an admin, whose password is printed once; embedded database only.
        #[arg(long)]
        demo: bool,
    },
    /// Bring the database's schema up to date.
    Migrate,
    /// Make an admin: asks on a terminal, or takes everything from arguments and environment.
    Createsuperuser(superuser::Wish),
    /// Store sample data, the same for the same numbers; what is there already is left as it is.
    Seed(seed::Wish),
    /// Print the API's document, OpenAPI 3.1 in JSON.
    Openapi,
    /// Check the books of a database, live or not; exit code 1 if they are wrong.
    Audit,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "souk: cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli.command.unwrap_or(Command::Serve { demo: false })));
    // Whatever is still computed is waited for by nobody: the orderly ends have waited for theirs.
    runtime.shutdown_background();
    match outcome {
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

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let environment = Environment::read()?;
    let config = Config::read(&environment)?;
    let log = logging::start(&config, matches!(command, Command::Serve { .. }))?;
    let outcome = perform(command, &config, &environment).await;
    log.close().await;
    outcome
}

async fn perform(command: Command, config: &Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve { demo } => serve(config, demo).await,
        Command::Migrate => migrate(config).await,
        Command::Createsuperuser(wish) => create_superuser(config, &wish, environment).await,
        Command::Seed(wish) => seed::run(config, &wish).await,
        Command::Openapi => print_openapi(),
        Command::Audit => audit::run(config).await,
    }
}

/// SIGXFSZ, which has this number wherever Souk runs.
const FILE_SIZE_EXCEEDED: i32 = 25;

async fn serve(config: &Config, demo: bool) -> anyhow::Result<ExitCode> {
    let mut stop = StopSignals::install()?;
    // A file that may not grow any further shall be an error of the write, as on a full disk, and not the end of it all.
    let _file_size = listen(SignalKind::from_raw(FILE_SIZE_EXCEEDED))?;
    let listener = souk::bind(config).await?;
    let opening = async {
        if demo {
            // Before it fills a database that a missing key would not let open.
            config.secret_key()?;
            config.tls()?;
            demo::furnish(config).await?;
        }
        App::start(config, listener).await
    };
    let app = tokio::select! {
        app = opening => app?,
        () = stop.next() => {
            tracing::info!("stopped before the shop was open");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let scheme = if app.tls().is_some() { "https" } else { "http" };
    tracing::info!("listening on {scheme}://{}", app.addr());
    if config.debug {
        show_links(scheme, app.addr())?;
    }
    match app.tls() {
        None => stop.next().await,
        Some(tls) => {
            let mut hangups = listen(SignalKind::hangup())?;
            loop {
                tokio::select! {
                    () = stop.next() => break,
                    _ = hangups.recv() => reload(tls),
                }
            }
        }
    }
    tracing::info!("stopping; once more to stop at once");
    tokio::select! {
        outcome = app.shutdown() => outcome?,
        () = stop.next() => anyhow::bail!("stopped at once"),
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// SIGHUP: a new certificate, for the connections to come.
fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(()) => tracing::info!("the certificate was read again"),
        Err(bad) => tracing::error!("the certificate stays as it was: {}", BadSetting::from(bad)),
    }
}

/// For people, beside the log.
fn show_links(scheme: &str, address: SocketAddr) -> std::io::Result<()> {
    let sockets = if scheme == "https" { "wss" } else { "ws" };
    let links = format!(
        "\n  What this is      {scheme}://{address}/\n  API documents     {scheme}://{address}/api/docs/\n  Administration    {scheme}://{address}/admin/\n  \
         Notifications     {sockets}://{address}/ws/notifications/{{user_id}}/\n  To stop           Ctrl-C\n\n"
    );
    std::io::stdout().write_all(links.as_bytes())
}

/// SIGTERM, as from a service manager, and Ctrl-C.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn install() -> anyhow::Result<Self> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot listen for signals")
}

fn print_openapi() -> anyhow::Result<ExitCode> {
    let document = serde_json::to_string_pretty(&souk_http::openapi())?;
    writeln!(std::io::stdout(), "{document}")?;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(config: &Config) -> anyhow::Result<ExitCode> {
    let db = open(config).await?;
    db.close().await;
    tracing::info!("the database is up to date");
    Ok(ExitCode::SUCCESS)
}

async fn create_superuser(
    config: &Config,
    wish: &superuser::Wish,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let db = open(config).await?;
    let email = superuser::run(&db, wish, environment).await?;
    identity::announce(&db).await?;
    db.close().await;
    writeln!(std::io::stdout(), "{email} is an admin now.")?;
    Ok(ExitCode::SUCCESS)
}

/// The database of the settings, migrated.
async fn open(config: &Config) -> anyhow::Result<Db> {
    let db =
        Db::connect_for_command(config.database_url.reveal()).await.context("cannot open the database")?;
    db.migrate().await?;
    Ok(db)
}
