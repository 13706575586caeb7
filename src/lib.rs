//! Souk's frame: the settings, and the one place that knows the order of start and stop.

pub mod config;
mod descriptors;
mod secret_key;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use souk_actors::Tree;
use souk_http::tls::Tls;
use souk_http::{Api, Server, ServerLimits, Settings};
use souk_store::redis::RedisError;
use souk_store::{Cache, Db, Redis, identity};
use tokio::net::{TcpListener, TcpSocket, lookup_host};

use crate::config::{BadSetting, Config};

/// How long requests under way may take once the stop has begun.
const REQUESTS_GRACE: Duration = Duration::from_secs(4);
/// How long the actors may take for what is queued, and their goodbyes.
const DRAIN_GRACE: Duration = Duration::from_secs(4);
/// How long the whole way down may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// How much memory the cache may fill.
const CACHE_BYTES: u64 = 64 << 20;

/// How many connections may wait to be taken, when very many come at one moment. The system may allow fewer
/// (`net.core.somaxconn` on Linux).
const BACKLOG: u32 = 4_096;

/// Binds the address of the settings, before anything else is touched.
///
/// # Errors
/// One line that names the setting: the address is taken, not this machine's, or not allowed.
pub async fn bind(config: &Config) -> Result<TcpListener, BadSetting> {
    open_at(&config.host, config.port).await.map_err(|error| {
        let setting = match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => "PORT",
            _ => "HOST",
        };
        BadSetting {
            setting: setting.to_owned(),
            reason: format!("cannot listen on {}, port {}: {error}", config.host, config.port),
        }
    })
}

/// At the first of the host's addresses that is to be had.
async fn open_at(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in lookup_host((host, port)).await? {
        let listen = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match listen() {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Redis, if the settings name one. One that is away is waited for while the shop is open; one that will not let us in
/// never will.
async fn redis(config: &Config, db: &Db) -> anyhow::Result<Option<Redis>> {
    let Some(url) = &config.redis_url else { return Ok(None) };
    let identity = identity::of(db).await.context("cannot read the shop's identity")?;
    let bad = |error: &RedisError| BadSetting { setting: "REDIS_URL".to_owned(), reason: error.to_string() };
    let redis = Redis::new(url.reveal(), &identity).map_err(|error| bad(&error))?;
    match redis.check().await {
        // Said by the actor that goes on trying.
        Ok(()) | Err(RedisError::Away(_)) => Ok(Some(redis)),
        Err(error) => Err(bad(&error).into()),
    }
}

/// Makes the folder of images. One that cannot be written into is told now, not by the first upload.
fn media_root(config: &Config) -> Result<(), BadSetting> {
    souk_http::media::prepare(&config.media_root).map_err(|error| BadSetting {
        setting: "MEDIA_ROOT".to_owned(),
        reason: format!("cannot write into {}: {error}", config.media_root.display()),
    })
}

/// A shop that is open: database, cache, actors and server, in that order up, and in the other order down.
pub struct App {
    address: SocketAddr,
    api: Arc<Api>,
    server: Server,
    tls: Option<Tls>,
    tree: Tree,
    db: Db,
}

impl App {
    /// Migrates the database, starts the actors, and serves on `listener`.
    ///
    /// # Errors
    /// If the database or the key is not usable; nothing runs then.
    pub async fn start(config: &Config, listener: TcpListener) -> anyhow::Result<Self> {
        let address = listener.local_addr().context("the listener is not bound")?;
        let secret_key = config.secret_key()?;
        let tls = config.tls()?;
        let connections = descriptors::connections(config.max_connections, config.max_requests);
        media_root(config)?;
        let db = Db::connect(config.database_url.reveal(), config.slow_query)
            .await
            .context("cannot open the database")?;
        db.migrate().await?;
        let cache = Cache::over(CACHE_BYTES, redis(config, &db).await?);
        let tree = Tree::start(&db, &cache, config.socket_limits).await?;
        let settings = Settings {
            secret_key: secret_key.reveal().as_bytes().to_vec(),
            access_token_life: config.access_token_life(),
            refresh_token_life: config.refresh_token_life(),
            cors_allowed_origins: config.cors_allowed_origins.clone(),
            rate_limit: config.rate_limit,
            trusted_proxies: config.trusted_proxies.clone(),
            max_requests: config.max_requests,
            media_root: config.media_root.clone(),
            slow_request: config.slow_request,
            exports_spans: config.collector.is_some(),
        };
        let api = Arc::new(Api::new(db.clone(), cache, tree.handles().clone(), settings));
        let limits = ServerLimits { connections };
        let server = Server::start(listener, souk_http::service(&api), tls.clone(), limits);
        Ok(Self { address, api, server, tls, tree, db })
    }

    /// Where it listens; the port is the one that was picked, if that was left open.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The certificate and its key, if it speaks TLS: they can be read again.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Closes the shop: not ready any more, no new connections, requests under way finish, actors do what is queued
    /// and say goodbye to the sockets, the database is closed.
    ///
    /// # Errors
    /// If that takes longer than 10 seconds. What was answered is on disk all the same.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        let Self { address: _, api, server, tls: _, tree, db } = self;
        let way_down = async {
            api.begin_closing();
            server.stop(REQUESTS_GRACE).await;
            api.close().await;
            tree.drain(DRAIN_GRACE).await;
            db.close().await;
        };
        tokio::time::timeout(SHUTDOWN_DEADLINE, way_down).await.context("the shutdown took too long")
    }
}
