//! The settings: each is declared, documented and checked here, read once at the start and passed on as a value.
//!
//! They come from the environment and from a `.env` file beside it. clap does the parsing, from the names and values
//! that [`Environment`] gathered instead of a command line, so that type, default, help text and group of a setting
//! stand in one place and a test needs no process environment. A bad value is a [`BadSetting`], one line that names
//! the setting; the value itself is quoted only where it cannot be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use souk_actors::SocketLimits;
use souk_http::proxies::Network;
use souk_http::tls::{BadTls, Tls, TlsFile};
use souk_http::tokens::Tokens;

use crate::secret_key;

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: not for logs.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a start ends before it begins: one line that names the setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct BadSetting {
    /// The setting's name, or the file that could not be read.
    pub setting: String,
    /// What is wrong with it.
    pub reason: String,
}

impl BadSetting {
    pub(crate) fn new(setting: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { setting: setting.into(), reason: reason.to_string() }
    }
}

impl From<BadTls> for BadSetting {
    fn from(bad: BadTls) -> Self {
        let setting = match bad.file {
            TlsFile::Certificate => "TLS_CERT",
            TlsFile::Key => "TLS_KEY",
        };
        Self::new(setting, bad)
    }
}

/// Names and values from the process environment over those of the `.env` file; an empty value counts as none.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads the process environment and `.env` in the working directory, if there is one.
    ///
    /// # Errors
    /// If the file cannot be read or a line of it is no `NAME=VALUE`. The line is not quoted: it may hold a secret.
    pub fn read() -> Result<Self, BadSetting> {
        let mut values = BTreeMap::new();
        match dotenvy::from_path_iter(".env") {
            Ok(entries) => {
                let mut last = "the start".to_owned();
                for entry in entries {
                    let (name, value) = entry.map_err(|error| match error {
                        dotenvy::Error::Io(cause) => BadSetting::new(".env", cause),
                        _ => BadSetting::new(".env", format!("the line after {last} is not NAME=VALUE")),
                    })?;
                    last.clone_from(&name);
                    values.entry(name).or_insert(value);
                }
            }
            Err(error) if error.not_found() => {}
            Err(error) => return Err(BadSetting::new(".env", error)),
        }
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            // A value that is no text is kept in a form that no setting takes, so that it is refused by name.
            values.insert(name, value.into_string().unwrap_or_else(|_| "\u{fffd}".to_owned()));
        }
        Ok(Self::from_iter(values))
    }

    /// The value of a name, be it a setting of [`Config`] or another, such as a command's password.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let named = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(named.filter(|(_, value): &(String, String)| !value.is_empty()).collect())
    }
}

/// The settings as an operator writes them. The doc comments are what `souk serve --help` prints.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Settings {
    /// Address or host name to listen on; 0.0.0.0 for every network of this machine.
    #[arg(long = "HOST", default_value = "127.0.0.1", value_parser = host, help_heading = "Server")]
    host: String,

    /// Port to listen on; 0 picks a free one, which the log names.
    #[arg(long = "PORT", default_value = "8000", value_parser = port, help_heading = "Server")]
    port: u16,

    /// true: logs for people; false: logs in JSON, and `SECRET_KEY` is required. Left out: true with SQLite, false
    /// with Postgres.
    #[arg(long = "DEBUG", value_parser = switch, help_heading = "Server")]
    debug: Option<bool>,

    /// What to log: a level (error, warn, info, debug, trace), or targets with levels, as in souk=debug,sqlx=info.
    #[arg(long = "RUST_LOG", default_value = "info", value_parser = log_filter, help_heading = "Server")]
    rust_log: String,

    /// How many milliseconds a request may take before the log warns of it; 0 tells of each.
    #[arg(long = "SLOW_REQUEST_MS", default_value = "1000", value_parser = milliseconds, help_heading = "Server")]
    slow_request: Duration,

    /// The same for a statement of the database.
    #[arg(long = "SLOW_QUERY_MS", default_value = "250", value_parser = milliseconds, help_heading = "Server")]
    slow_query: Duration,

    /// `http://HOST:PORT` of an OpenTelemetry collector: spans of requests are sent there, as OTLP over HTTP. Left out: they
    /// are not made. The standard's other variables, as `OTEL_TRACES_SAMPLER`, count too.
    #[arg(long = "OTEL_EXPORTER_OTLP_ENDPOINT", value_parser = collector, help_heading = "Server")]
    collector: Option<String>,

    /// What the collector knows this service by.
    #[arg(long = "OTEL_SERVICE_NAME", default_value = "souk", help_heading = "Server")]
    service_name: String,

    /// `sqlite://PATH` (made when it is not there) or `postgres://USER:PASSWORD@HOST:PORT/NAME`.
    #[arg(
        long = "DATABASE_URL",
        default_value = "sqlite://data/souk.db",
        value_parser = database_url,
        help_heading = "Database"
    )]
    database_url: String,

    /// Name of a Postgres database; this and the next four stand in for `DATABASE_URL` when that is not given.
    #[arg(long = "DB_NAME", help_heading = "Database")]
    db_name: Option<String>,

    /// Its user.
    #[arg(long = "DB_USER", default_value = "postgres", help_heading = "Database")]
    db_user: String,

    /// The user's password.
    #[arg(long = "DB_PASSWORD", help_heading = "Database")]
    db_password: Option<String>,

    /// Host of the Postgres server.
    #[arg(long = "DB_HOST", default_value = "localhost", value_parser = host, help_heading = "Database")]
    db_host: String,

    /// Port of the Postgres server.
    #[arg(long = "DB_PORT", default_value = "5432", value_parser = port, help_heading = "Database")]
    db_port: u16,

    /// Folder of uploaded images, made when it is not there; with several nodes one that they all see.
    #[arg(long = "MEDIA_ROOT", default_value = "data/media", help_heading = "Images")]
    media_root: PathBuf,

    /// Signs the tokens; 32 bytes or more, the same on every node. Left out: made once and kept beside the SQLite
    /// file. Required with Postgres, and with DEBUG=false.
    #[arg(long = "SECRET_KEY", value_parser = secret_key::check, help_heading = "Security")]
    secret_key: Option<String>,

    /// How many minutes an access token is good for.
    #[arg(long = "ACCESS_TOKEN_MINUTES", default_value = "60", value_parser = minutes, help_heading = "Security")]
    access_token_minutes: u32,

    /// How many days a refresh token is good for.
    #[arg(long = "REFRESH_TOKEN_DAYS", default_value = "7", value_parser = days, help_heading = "Security")]
    refresh_token_days: u32,

    /// Foreign origins that browsers may call from, over HTTP and WebSocket; comma-separated, as in
    /// `https://shop.example,http://localhost:3000`.
    #[arg(long = "CORS_ALLOWED_ORIGINS", value_delimiter = ',', value_parser = origin, help_heading = "Security")]
    cors_allowed_origins: Vec<String>,

    /// `redis://USER:PASSWORD@HOST:PORT/NUMBER`, of which only the host is needed: where several nodes meet (Redis 6.2
    /// or later, or Valkey). Without it there must be one node only.
    #[arg(long = "REDIS_URL", value_parser = redis_url, help_heading = "Several nodes")]
    redis_url: Option<String>,

    /// PEM file of the certificate and those above it: serves HTTPS and WSS, and nothing else, on the same port. SIGHUP
    /// reads both files again.
    #[arg(long = "TLS_CERT", help_heading = "Network")]
    tls_cert: Option<PathBuf>,

    /// PEM file of its private key.
    #[arg(long = "TLS_KEY", help_heading = "Network")]
    tls_key: Option<PathBuf>,

    /// Addresses and networks of the proxies before the shop, as in `127.0.0.1,10.0.0.0/8`, whose X-Forwarded-For,
    /// -Proto and -Host are believed. They must write all three. Left out: nobody is believed.
    #[arg(long = "TRUSTED_PROXIES", value_delimiter = ',', help_heading = "Network")]
    trusted_proxies: Vec<Network>,

    /// How many requests a minute one client address may make; without it, as many as it likes. Failed logins are
    /// always limited.
    #[arg(long = "RATE_LIMIT", value_parser = requests, help_heading = "Limits")]
    rate_limit: Option<NonZeroU32>,

    /// How many connections there may be, WebSockets included; fewer if the system allows fewer open files.
    #[arg(long = "MAX_CONNECTIONS", default_value = "16000", value_parser = amount, help_heading = "Limits")]
    max_connections: usize,

    /// How many requests are worked on at one time; more are answered 503, nothing done.
    #[arg(long = "MAX_REQUESTS", default_value = "512", value_parser = amount, help_heading = "Limits")]
    max_requests: usize,

    /// How many WebSockets there may be in all.
    #[arg(long = "MAX_SOCKETS", default_value = "12000", value_parser = amount, help_heading = "Limits")]
    max_sockets: usize,

    /// How many WebSockets there may be on one user's events.
    #[arg(long = "MAX_SOCKETS_PER_USER", default_value = "20", value_parser = amount, help_heading = "Limits")]
    max_sockets_per_user: usize,
}

/// The settings whose values no message quotes.
const SECRETS: [&str; 4] = ["SECRET_KEY", "DATABASE_URL", "DB_PASSWORD", "REDIS_URL"];

fn host(text: &str) -> Result<String, &'static str> {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:%".contains(c)) {
        Ok(text.to_owned())
    } else {
        Err("must be an IP address or a host name, without a port")
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "must be a port number from 0 to 65535")
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false"),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn milliseconds(text: &str) -> Result<Duration, &'static str> {
    let millis = text.parse().ok().filter(|millis| *millis <= 3_600_000);
    millis.map(Duration::from_millis).ok_or("must be a number of milliseconds from 0 to 3600000")
}

fn collector(text: &str) -> Result<String, &'static str> {
    let address = text.trim_end_matches('/');
    match address.strip_prefix("http://") {
        Some(host) if !host.is_empty() && !host.contains(['?', '#', '@', ' ']) => Ok(address.to_owned()),
        _ => Err("must be http://HOST:PORT"),
    }
}

fn minutes(text: &str) -> Result<u32, &'static str> {
    whole_number(text, 525_600).ok_or("must be a number of minutes from 1 to 525600")
}

fn days(text: &str) -> Result<u32, &'static str> {
    whole_number(text, 3_650).ok_or("must be a number of days from 1 to 3650")
}

fn whole_number(text: &str, most: u32) -> Option<u32> {
    text.parse().ok().filter(|number| (1..=most).contains(number))
}

fn database_url(text: &str) -> Result<String, &'static str> {
    let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    if !known {
        return Err("must begin with sqlite:// or postgres://");
    }
    if let Some(path) = souk_store::db::sqlite_path(text) {
        if path.is_empty() || path == ":memory:" {
            return Err("sqlite:// needs the path of a file");
        }
        if path.contains('?') {
            return Err("sqlite://PATH takes no parameters after a question mark");
        }
    }
    Ok(text.to_owned())
}

fn redis_url(text: &str) -> Result<String, String> {
    // The identity does not matter here.
    souk_store::Redis::new(text, "").map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// `scheme://host[:port]` as a browser sends it in `Origin`.
fn origin(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ', '"']) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err("must be origins such as https://shop.example, separated by commas, without a path"),
    }
}

fn requests(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse().map_err(|_| "must be a whole number of requests a minute, from 1")
}

fn amount(text: &str) -> Result<usize, &'static str> {
    let number = whole_number(text, 1_000_000).and_then(|number| usize::try_from(number).ok());
    number.ok_or("must be a whole number from 1 to 1000000")
}

/// Everything that an operator decided, checked. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address or host name to listen on.
    pub host: String,
    /// Port to listen on; 0 picks a free one.
    pub port: u16,
    /// Whether people read the logs, rather than machines.
    pub debug: bool,
    /// What to log, checked.
    pub log_filter: String,
    /// Which database; `Db::connect` takes it.
    pub database_url: Secret,
    /// Where several nodes meet; `Redis::new` takes it.
    pub redis_url: Option<Secret>,
    /// Lifetime of access tokens.
    pub access_token_minutes: u32,
    /// Lifetime of refresh tokens.
    pub refresh_token_days: u32,
    /// Foreign origins, in lower case.
    pub cors_allowed_origins: Vec<String>,
    /// Requests a minute for one client address.
    pub rate_limit: Option<NonZeroU32>,
    /// Whose `X-Forwarded-` headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// How many connections there may be.
    pub max_connections: usize,
    /// How many requests are worked on at one time.
    pub max_requests: usize,
    /// How many WebSockets there may be.
    pub socket_limits: SocketLimits,
    /// Where uploaded images are kept.
    pub media_root: PathBuf,
    tls_files: Option<[PathBuf; 2]>,
    /// From here on a request is a slow one.
    pub slow_request: Duration,
    /// From here on a statement is a slow one.
    pub slow_query: Duration,
    /// Where spans are sent; without a slash at the end.
    pub collector: Option<String>,
    /// Under which name.
    pub service_name: String,
    given_secret_key: Option<Secret>,
    debug_given: bool,
}

impl Config {
    /// Checks the settings of an environment.
    ///
    /// # Errors
    /// The first setting that is no good.
    pub fn read(environment: &Environment) -> Result<Self, BadSetting> {
        let command = Settings::command();
        let names: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let given = |name: &str| environment.get(name).is_some();
        let arguments =
            names.iter().filter_map(|name| environment.get(name).map(|value| format!("--{name}={value}")));
        let settings = Settings::try_parse_from(arguments).map_err(|error| in_one_line(&error))?;

        let database_url = if given("DATABASE_URL") || !names.iter().any(|n| n.starts_with("DB_") && given(n))
        {
            settings.database_url
        } else {
            settings.postgres_url()?
        };
        let embedded = souk_store::db::sqlite_path(&database_url).is_some();
        let tls_files = match (settings.tls_cert, settings.tls_key) {
            (Some(certificate), Some(key)) => Some([certificate, key]),
            (None, None) => None,
            (Some(_), None) => return Err(BadSetting::new("TLS_KEY", "required with TLS_CERT")),
            (None, Some(_)) => return Err(BadSetting::new("TLS_CERT", "required with TLS_KEY")),
        };
        Ok(Self {
            host: settings.host,
            port: settings.port,
            debug: settings.debug.unwrap_or(embedded),
            log_filter: settings.rust_log,
            database_url: Secret(database_url),
            redis_url: settings.redis_url.map(Secret),
            access_token_minutes: settings.access_token_minutes,
            refresh_token_days: settings.refresh_token_days,
            cors_allowed_origins: settings.cors_allowed_origins,
            rate_limit: settings.rate_limit,
            trusted_proxies: settings.trusted_proxies,
            max_connections: settings.max_connections,
            max_requests: settings.max_requests,
            socket_limits: SocketLimits {
                total: settings.max_sockets,
                per_user: settings.max_sockets_per_user,
            },
            tls_files,
            media_root: settings.media_root,
            slow_request: settings.slow_request,
            slow_query: settings.slow_query,
            collector: settings.collector,
            service_name: settings.service_name,
            given_secret_key: settings.secret_key.map(Secret),
            debug_given: settings.debug.is_some(),
        })
    }

    /// What makes tokens that this configuration's servers accept.
    ///
    /// # Errors
    /// As [`Config::secret_key`].
    pub fn tokens(&self) -> Result<Tokens, BadSetting> {
        let key = self.secret_key()?;
        Ok(Tokens::new(key.reveal().as_bytes(), self.access_token_life(), self.refresh_token_life()))
    }

    /// The certificate and its key, read now; none without the settings.
    ///
    /// # Errors
    /// If a file is not there or no good.
    pub fn tls(&self) -> Result<Option<Tls>, BadSetting> {
        let Some([certificate, key]) = &self.tls_files else { return Ok(None) };
        Tls::load(certificate, key).map(Some).map_err(BadSetting::from)
    }

    /// How long an access token lives.
    #[must_use]
    pub fn access_token_life(&self) -> Duration {
        Duration::from_mins(u64::from(self.access_token_minutes))
    }

    /// How long a refresh token lives.
    #[must_use]
    pub fn refresh_token_life(&self) -> Duration {
        Duration::from_hours(24 * u64::from(self.refresh_token_days))
    }

    /// The file of the embedded database; none with Postgres.
    #[must_use]
    pub fn sqlite_file(&self) -> Option<&Path> {
        souk_store::db::sqlite_path(self.database_url.reveal()).map(Path::new)
    }

    /// The key that signs tokens: the one given, or the one beside the SQLite file, made now if there is none yet.
    ///
    /// # Errors
    /// If a key has to be given and is not, or the file cannot be read or made.
    pub fn secret_key(&self) -> Result<Secret, BadSetting> {
        if let Some(key) = &self.given_secret_key {
            return Ok(key.clone());
        }
        let Some(database) = self.sqlite_file() else {
            return Err(BadSetting::new("SECRET_KEY", "required with Postgres: 32 bytes or more"));
        };
        if self.debug_given && !self.debug {
            return Err(BadSetting::new("SECRET_KEY", "required with DEBUG=false: 32 bytes or more"));
        }
        let mut name = database.as_os_str().to_owned();
        name.push("-secret-key");
        secret_key::keep(&PathBuf::from(name))
    }
}

impl Settings {
    fn postgres_url(&self) -> Result<String, BadSetting> {
        let Some(name) = &self.db_name else {
            return Err(BadSetting::new("DB_NAME", "required with the other DB_ settings"));
        };
        let password = self.db_password.as_deref().map(|password| format!(":{}", percent_encoded(password)));
        let host =
            if self.db_host.contains(':') { format!("[{}]", self.db_host) } else { self.db_host.clone() };
        Ok(format!(
            "postgres://{}{}@{host}:{}/{}",
            percent_encoded(&self.db_user),
            password.unwrap_or_default(),
            self.db_port,
            percent_encoded(name)
        ))
    }
}

/// As a part of a URL: everything but letters, digits and `-._~` as `%XX`.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// clap's error without its usage text and advice, which speak of flags.
fn in_one_line(error: &clap::Error) -> BadSetting {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let flag = text(ContextKind::InvalidArg);
    let setting = flag.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default();
    let reason = match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None if error.kind() == ErrorKind::InvalidValue => "a value is missing".to_owned(),
        None => error.kind().to_string(),
    };
    if SECRETS.contains(&setting) {
        return BadSetting::new(setting, reason);
    }
    BadSetting::new(setting, format!("{reason}, not {:?}", text(ContextKind::InvalidValue)))
}

/// How wide the help text is, and where its second column begins.
const HELP_WIDTH: usize = 96;
const HELP_COLUMN: usize = 24;

/// The settings in groups with their defaults, for `--help`.
#[must_use]
pub fn settings_help() -> String {
    let mut help = "Settings, from the environment or a .env file in the working directory:\n".to_owned();
    let mut group = None;
    for setting in Settings::command().get_arguments() {
        let Some(name) = setting.get_long() else { continue };
        if setting.get_help_heading() != group {
            group = setting.get_help_heading();
            help += &format!("\n{}:\n", group.unwrap_or_default());
        }
        // The backticks are for readers of the source.
        let text = setting.get_help().map(ToString::to_string).unwrap_or_default().replace('`', "");
        let defaults = setting.get_default_values().iter();
        let defaults: Vec<_> =
            defaults.map(|value| format!("[default: {}]", value.to_string_lossy())).collect();
        let mut line = format!("  {name:<width$}", width = HELP_COLUMN - 2);
        let mut blank = true;
        if name.len() + 2 >= HELP_COLUMN {
            help += &format!("{line}\n");
            line = " ".repeat(HELP_COLUMN);
        }
        for word in text.split_whitespace().chain(defaults.iter().map(String::as_str)) {
            if !blank && line.len() + 1 + word.len() > HELP_WIDTH {
                help += &format!("{line}\n");
                line = " ".repeat(HELP_COLUMN);
                blank = true;
            }
            if !blank {
                line.push(' ');
            }
            line += word;
            blank = false;
        }
        help += &format!("{line}\n");
    }
    help
}

#[cfg(test)]
mod tests;
