//! The server that scenarios over HTTP measure: Souk's own service in a process of its own, with two routes more.
//!
//! The first, `/fixed/NAME`, answers to a GET what was last sent to it by a POST: the same headers and the very same
//! bytes, through the same outer hoops, without any work. It is the first of all routes, so it is found no later than
//! any other. Behind all of them is `/by-hand/orders/`, see `by_hand.rs`. The process is this program again with the
//! hidden command `serve`; it ends when its standard input does.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hyper::header::HeaderValue;
use salvo::http::{HeaderMap, StatusCode, header};
use salvo::routing::FlowCtrl;
use salvo::{Depot, Handler, Request, Response, Router, async_trait};
use souk_actors::{SocketLimits, Tree};
use souk_http::tokens::Tokens;
use souk_http::{Api, Server, ServerLimits, Settings};
use souk_store::model::{Timestamp, UserId};
use souk_store::{Cache, Db};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};

use crate::by_hand;
use crate::client::Site;
use crate::shop::DRAIN;

/// Signs the tokens of shops that live for a minute.
pub(crate) const SECRET_KEY: &str = "known to everybody, of a shop that is gone in a minute";
const TOKEN_LIFE: Duration = Duration::from_hours(24);
/// How much memory the cache may fill, as in the real server.
const CACHE_BYTES: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The database, migrated
    #[arg(long)]
    url: String,
    /// How many threads serve
    #[arg(long)]
    pub(crate) threads: usize,
}

/// Serves until standard input ends; the first line of output is the address.
pub(crate) async fn serve(options: &Options) -> anyhow::Result<()> {
    let db = Db::connect_existing(&options.url).await?;
    let cache = Cache::new(CACHE_BYTES);
    let tree = Tree::start(&db, &cache, SocketLimits::default()).await?;
    let settings = Settings {
        secret_key: SECRET_KEY.into(),
        access_token_life: TOKEN_LIFE,
        refresh_token_life: TOKEN_LIFE,
        cors_allowed_origins: Vec::new(),
        rate_limit: None,
        trusted_proxies: Vec::new(),
        max_requests: 512,
        // Nobody uploads here.
        media_root: std::env::temp_dir().join("souk-loadtest-media"),
        slow_request: Duration::from_secs(1),
        exports_spans: false,
    };
    let api = Arc::new(Api::new(db.clone(), cache, tree.handles().clone(), settings));
    let mut service = souk_http::service(&api);
    let souk = Arc::into_inner(service.router).context("the routes are shared")?;
    let fixed = Fixed::default();
    let route = Router::with_path("fixed/{name}").get(fixed.clone()).post(fixed);
    let by_hand = by_hand::route(db.clone(), tokens());
    service.router = Arc::new(Router::new().push(route).push(souk).push(by_hand));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let server = Server::start(listener, service, None, ServerLimits { connections: 16_000 });
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    api.begin_closing();
    server.stop(Duration::from_secs(1)).await;
    tree.drain(DRAIN).await;
    db.close().await;
    Ok(())
}

/// What `/fixed/NAME` answers.
#[derive(Clone, Default)]
struct Fixed(Arc<RwLock<HashMap<String, (HeaderMap, Bytes)>>>);

#[async_trait]
impl Handler for Fixed {
    async fn handle(&self, req: &mut Request, _depot: &mut Depot, res: &mut Response, _ctrl: &mut FlowCtrl) {
        let name = req.param::<String>("name").unwrap_or_default();
        if req.method() == salvo::http::Method::POST {
            let body = req.payload().await.cloned().unwrap_or_default();
            let mut headers = req.headers().clone();
            for connection in [header::HOST, header::CONTENT_LENGTH] {
                headers.remove(connection);
            }
            self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, (headers, body));
            res.status_code(StatusCode::NO_CONTENT);
        } else if let Some((headers, body)) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&name)
        {
            res.status_code(StatusCode::OK);
            for (name, value) in headers {
                res.headers_mut().insert(name, value.clone());
            }
            res.body(body.clone());
        }
    }
}

/// A running server process. Dropping it kills the process.
pub(crate) struct ServerProcess {
    pub(crate) site: Site,
    child: Child,
    stdin: ChildStdin,
}

impl ServerProcess {
    /// Starts one over a migrated database.
    pub(crate) async fn start(url: &str, threads: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--url", url, "--threads", &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().context("the server has no input")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let address: SocketAddr = line.trim().parse().context("the server did not start")?;
        Ok(Self { site: address.into(), child, stdin })
    }

    /// The processor time that it has used so far; none where the system does not tell.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        let id = self.child.id()?;
        let threads = std::fs::read_dir(format!("/proc/{id}/task")).ok()?;
        let nanoseconds = threads
            .filter_map(|thread| {
                let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
                text.split_whitespace().next()?.parse::<u64>().ok()
            })
            .sum();
        Some(Duration::from_nanos(nanoseconds))
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stdin);
        let status = tokio::time::timeout(Duration::from_secs(15), self.child.wait()).await??;
        anyhow::ensure!(status.success(), "the server ended badly: {status}");
        Ok(())
    }
}

fn tokens() -> Tokens {
    Tokens::new(SECRET_KEY.as_bytes(), TOKEN_LIFE, TOKEN_LIFE)
}

/// What makes these users' requests theirs, ready for the `Authorization` header.
pub(crate) fn sign(users: &[UserId]) -> anyhow::Result<Vec<HeaderValue>> {
    let (tokens, now) = (tokens(), Timestamp::now());
    let bearer = |user: &UserId| HeaderValue::from_str(&format!("Bearer {}", tokens.access(*user, 0, now)));
    Ok(users.iter().map(bearer).collect::<Result<_, _>>()?)
}
