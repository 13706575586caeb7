//! Several nodes of one shop, on one Postgres and one Redis.

use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{DEADLINE, Shop};

/// The servers that tests of several nodes need, if this run has them; else says that the test is not run.
pub(crate) fn redis_of_the_run() -> Option<String> {
    let named = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    let found = named("SOUK_TEST_POSTGRES_URL").and(named("SOUK_TEST_REDIS_URL"));
    if found.is_none() {
        eprintln!("not run: SOUK_TEST_POSTGRES_URL and SOUK_TEST_REDIS_URL are not both set");
    }
    found
}

/// So many nodes of a new shop; none if this run has no servers for them.
pub(crate) async fn nodes<const N: usize>() -> Option<[Shop; N]> {
    Some(nodes_on(&redis_of_the_run()?).await)
}

/// So many nodes of a new shop that meet at this Redis.
pub(crate) async fn nodes_on<const N: usize>(redis: &str) -> [Shop; N] {
    let first = Shop::start_with(&[("REDIS_URL", redis)]).await;
    let mut others = Vec::new();
    for _ in 1..N {
        others.push(first.node(&[]).await);
    }
    let all: Vec<_> = std::iter::once(first).chain(others).collect();
    all.try_into().unwrap_or_else(|_| unreachable!("there are as many as were started"))
}

/// A Redis server of the test's own, to be ill-treated, at the end of a line that can be made slow.
pub(crate) struct Redis {
    port: u16,
    line: Line,
    server: Option<Child>,
    folder: TempDir,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let line = Line::to(port).await;
        let folder = TempDir::with_prefix("souk-redis-").expect("a folder for Redis");
        let mut redis = Self { port, line, server: None, folder };
        redis.open().await;
        redis
    }

    /// Starts the server, on the port that it had; it has forgotten everything.
    pub(crate) async fn open(&mut self) {
        let mut server = Command::new("redis-server")
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server");
        let mut log = BufReader::new(server.stdout.take().expect("a piped stdout")).lines();
        let ready = async {
            while let Ok(Some(line)) = log.next_line().await {
                if line.contains("eady to accept connections") {
                    return;
                }
            }
            panic!("redis-server did not start");
        };
        timeout(DEADLINE, ready).await.expect("redis-server starts in time");
        self.server = Some(server);
    }

    pub(crate) fn url(&self) -> String {
        self.line.url()
    }

    /// From now on everything takes this much longer, each way.
    pub(crate) fn delay(&self, by: Duration) {
        self.line.delay(by);
    }

    /// A line of its own to the same server.
    pub(crate) async fn line(&self) -> Line {
        Line::to(self.port).await
    }

    /// SIGKILL.
    pub(crate) async fn kill9(&mut self) {
        let mut server = self.server.take().expect("a running Redis");
        server.kill().await.expect("Redis can be killed");
    }

    /// SIGSTOP: it holds its connections, and answers nobody.
    pub(crate) async fn freeze(&self) {
        self.signal("STOP").await;
    }

    /// SIGCONT.
    pub(crate) async fn thaw(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let process = self.server.as_ref().and_then(Child::id).expect("a running Redis");
        let status = Command::new("sh").arg("-c").arg(format!("kill -{signal} {process}")).status().await;
        assert!(status.expect("a shell").success(), "Redis was not there to get a signal");
    }

    /// What `redis-cli` prints.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> String {
        ask(&format!("redis://127.0.0.1:{}", self.port), arguments).await
    }
}

/// What `redis-cli` prints.
pub(crate) async fn ask(url: &str, arguments: &[&str]) -> String {
    let output =
        Command::new("redis-cli").args(["-u", url]).args(arguments).output().await.expect("redis-cli");
    assert!(output.status.success(), "redis-cli {arguments:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// A line to a port of this machine.
pub(crate) struct Line {
    port: u16,
    delay: watch::Sender<Duration>,
    _calls: JoinSet<()>,
}

impl Line {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let own_port = listener.local_addr().expect("an address").port();
        let (delay, delays) = watch::channel(Duration::ZERO);
        let mut calls = JoinSet::new();
        calls.spawn(async move {
            let mut calls = JoinSet::new();
            while let Ok((caller, _)) = listener.accept().await {
                // Nobody there: the caller is hung up on.
                let Ok(called) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let (caller_reads, caller_writes) = caller.into_split();
                let (called_reads, called_writes) = called.into_split();
                let (there, back) = (delays.clone(), delays.clone());
                calls.spawn(async move {
                    tokio::select! {
                        () = carry(caller_reads, called_writes, there) => {}
                        () = carry(called_reads, caller_writes, back) => {}
                    }
                });
            }
        });
        Self { port: own_port, delay, _calls: calls }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on everything takes this much longer, each way.
    pub(crate) fn delay(&self, by: Duration) {
        self.delay.send_replace(by);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: watch::Receiver<Duration>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let pause = *delay.borrow();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
