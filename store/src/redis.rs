//! Redis, where nodes meet: a second level of the cache, news from node to node, and what the door counts and keeps.
//!
//! Everything here may fail or be away, and nothing depends on it: reads come from the database, writes succeed, and
//! only what nodes would tell each other is missing. The rules by which nothing old is ever served:
//!
//! 1. **A connection that failed once is never used again.** There is no reconnecting behind our back: a connection is
//!    one to read and write and one that listens, and it is *lost* as a whole when a message could not be published,
//!    when its own messages do not come back in time, when a message of another node is missing, or when it could not
//!    keep up with them.
//! 2. **A new connection begins with a new epoch**, after it hears its own hello (so its subscription is in force), and
//!    tells everybody to forget everything. So whatever was not told before needs not be told any more: values in Redis
//!    carry their epoch, and those of another one count as not there. A Redis that was emptied has no epoch, and gets
//!    a new one; one that came back with old data is met by new connections only.
//! 3. **Values carry the stamps of what they depend on**, read before the database was. To forget is to set
//!    new stamps, which are random and never come back. A reader who loaded before a write and stores after it
//!    stores under stamps that nobody accepts any more. This is the rule of `cache.rs`'s generations, across nodes.
//! 4. **While something is forgotten here that Redis does not know of yet, this node passes Redis by**, so that it
//!    needs not wait for Redis before it answers. Stamps are set before the news is published, and a reader takes its
//!    generation before it looks into Redis: what it found before the stamps were set is under a generation that the news
//!    will end.
//! 5. **Without a connection a node trusts its memory for half a second**, and announces in the database that it writes,
//!    for those who are connected; see `Nodes` in the actors' crate.
//!
//! What is late: a node that dies after a commit and before its news was sent. The others miss its heartbeat after two
//! seconds, forget everything, and begin a new epoch. And what a node writes that alone has lost its Redis is noticed by
//! the others within two seconds.
//!
//! Readers wait 100 ms at most, the door 800 ms, and then nobody asks again until a heartbeat has come through quickly.
//!
//! Nothing of a person stands in Redis: users are not kept there, searches are not, and the door's keys are digests.

mod door;
mod letters;
mod link;
mod second_level;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use fred::prelude::{Builder, Client, ClientLike, Config, Error, ErrorKind, HashesInterface, KeysInterface};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout};

pub use self::door::Try;
pub use self::letters::News;
pub use self::link::{Heard, Link};
pub(crate) use self::second_level::Place;

use self::letters::Outbox;

/// How long somebody who reads waits for Redis.
const READ_DEADLINE: Duration = Duration::from_millis(100);
/// How long somebody waits for it at the door, where a password costs as much anyway.
const DOOR_DEADLINE: Duration = Duration::from_millis(800);
/// How long a message may take, which nobody waits for.
const POST_DEADLINE: Duration = Duration::from_millis(600);
/// How long a letter may take to come back to its writer.
const ECHO_WITHIN: Duration = Duration::from_millis(600);
/// How long making a connection may take in all.
const CONNECT_DEADLINE: Duration = Duration::from_millis(600);
/// Messages that may wait for the one who listens; beyond it the connection counts as lost.
const MOST_UNHEARD: usize = 8_192;
/// How long an epoch and its stamps are kept; after it a new one begins.
const EPOCH_LIFE: i64 = 24 * 60 * 60;
/// The field of the stamps that holds the epoch.
const EPOCH: &str = "epoch";

/// Why Redis cannot be used. The text holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The URL is none.
    #[error("must be redis://HOST[:PORT][/DATABASE], with USER:PASSWORD@ before the host if need be")]
    Url,
    /// It lets nobody in with these credentials, or has no such database.
    #[error("the server refuses the connection: {0}")]
    Refused(String),
    /// It is too old.
    #[error("Redis 6.2 or later is needed, or Valkey, and this is {0}")]
    TooOld(String),
    /// It does not answer, or not in time. It may later.
    #[error("the server cannot be reached: {0}")]
    Away(String),
}

/// What became of Redis since the start, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisCounts {
    /// Reads for which the second level of the cache had what the first had not.
    pub hits: u64,
    /// How often readers, or those at the door, began to pass it by because it was slow or failed.
    pub passed_by: u64,
    /// How often a connection that was in use was lost.
    pub losses: u64,
}

/// Redis as this process uses it. Cheap to clone.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    config: Config,
    /// What every key and the channel begin with.
    prefix: String,
    current: RwLock<Option<Arc<Connection>>>,
    /// Rises with each connection made; not to be confused with a connection's id.
    last_id: AtomicU64,
    outbox: Mutex<Outbox>,
    filled: Notify,
    /// Redis knows of all that was forgotten here.
    told_all: AtomicBool,
    /// There was something to tell when there was no connection, or one that was lost with it.
    untold: AtomicBool,
    hits: AtomicU64,
    /// How often callers began to pass it by.
    passed_by: Arc<AtomicU64>,
    /// How often a connection was lost.
    losses: AtomicU64,
}

/// A pair of connections, one of which listens. Dropping it closes both.
struct Connection {
    id: u64,
    commands: Client,
    tasks: [Task; 2],
    readers: Patience,
    door: Patience,
    /// How many letters were written.
    written: AtomicU64,
    /// The number of the last own letter that came back.
    echoed: AtomicU64,
    /// A letter that did not when this was last looked at, and when it was sent.
    awaited: Mutex<Option<(u64, Instant)>>,
}

/// How long one kind of caller waits, and whether that was too short: until Redis is quick again none of them waits.
struct Patience {
    deadline: Duration,
    lost: AtomicBool,
    /// How often it was lost; counted for all kinds of callers, and all connections, together.
    passed_by: Arc<AtomicU64>,
}

impl Patience {
    fn new(deadline: Duration, passed_by: &Arc<AtomicU64>) -> Self {
        Self { deadline, lost: AtomicBool::new(false), passed_by: Arc::clone(passed_by) }
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Says whether it was lost.
    fn regain(&self) -> bool {
        self.lost.swap(false, Ordering::AcqRel)
    }

    /// One question. None if Redis does not answer: then nobody asks again until it is well.
    async fn ask<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Option<T> {
        let why = match timeout(self.deadline, question).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if !self.lost.swap(true, Ordering::AcqRel) {
            self.passed_by.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(error = why, "Redis is passed by until it is well");
        }
        None
    }
}

/// A task of fred's that ends with its owner.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    fn is_alive(&self) -> bool {
        self.tasks.iter().all(|task| !task.0.is_finished())
    }

    /// Fails if letters take too long to come back, of which this is the last.
    fn expect_echo(&self, number: u64, sent: Instant) -> Result<(), RedisError> {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        match *awaited {
            Some((number, sent)) if self.echoed.load(Ordering::Acquire) < number => {
                if sent.elapsed() > ECHO_WITHIN {
                    return Err(RedisError::Away("messages do not come back".to_owned()));
                }
            }
            _ => *awaited = Some((number, sent)),
        }
        Ok(())
    }
}

impl Redis {
    /// Redis at this URL for the shop of this [identity](crate::identity). Nothing is connected yet.
    ///
    /// # Errors
    /// [`RedisError::Url`].
    pub fn new(url: &str, identity: &str) -> Result<Self, RedisError> {
        let rest = url.strip_prefix("redis://").ok_or(RedisError::Url)?;
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        if rest.is_empty() || !path.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RedisError::Url);
        }
        let mut config = Config::from_url(url).map_err(|_| RedisError::Url)?;
        // What is wrong is heard from the attempt itself.
        config.fail_fast = true;
        Ok(Self(Arc::new(Inner {
            config,
            prefix: format!("souk:{identity}:"),
            current: RwLock::new(None),
            last_id: AtomicU64::new(0),
            outbox: Mutex::default(),
            filled: Notify::new(),
            told_all: AtomicBool::new(false),
            untold: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            passed_by: Arc::default(),
            losses: AtomicU64::new(0),
        })))
    }

    /// Whether the server can be reached, lets us in, and is new enough.
    ///
    /// # Errors
    /// All but [`RedisError::Away`] will not pass by themselves.
    pub async fn check(&self) -> Result<(), RedisError> {
        let (client, _task) = timeout(2 * CONNECT_DEADLINE, self.dial()).await.map_err(|_| too_late())??;
        if let Some(version) = client.server_version()
            && (version.major, version.minor) < (6, 2)
        {
            return Err(RedisError::TooOld(version.to_string()));
        }
        Ok(())
    }

    /// Whether a connection is in use.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.current().is_some_and(|connection| connection.is_alive())
    }

    /// Whether readers ask it: it is connected and quick.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.usable_by(|connection| &connection.readers).is_some()
    }

    /// What became of it since the start.
    #[must_use]
    pub fn counts(&self) -> RedisCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RedisCounts {
            hits: read(&self.0.hits),
            passed_by: read(&self.0.passed_by),
            losses: read(&self.0.losses),
        }
    }

    /// Tells the other nodes, soon. What is to be forgotten is passed by in Redis from now on, until it knows.
    pub fn tell(&self, news: &News) {
        let mut outbox = self.outbox();
        if !news.forget.is_empty() {
            self.0.told_all.store(false, Ordering::SeqCst);
        }
        if !outbox.put(news) {
            self.put_untold();
        }
        drop(outbox);
        self.0.filled.notify_one();
    }

    /// Whether there was something to tell since this was last asked that the other nodes may not have heard.
    #[must_use]
    pub fn take_untold(&self) -> bool {
        self.0.untold.swap(false, Ordering::AcqRel)
    }

    /// Takes back that it was dealt with.
    pub fn put_untold(&self) {
        self.0.untold.store(true, Ordering::Release);
    }

    /// Makes all that is kept in Redis count as not there.
    ///
    /// # Errors
    /// If it does not answer; then the connection is lost.
    pub async fn begin_epoch(&self) -> Result<(), RedisError> {
        let Some(connection) = self.current() else { return Ok(()) };
        let begun = self.set_epoch(&connection.commands).await;
        if begun.is_err() {
            self.lose(connection.id);
        }
        begun
    }

    async fn set_epoch(&self, client: &Client) -> Result<(), RedisError> {
        let pipeline = client.pipeline();
        let work = async {
            let () = pipeline.hset(self.stamps(), (EPOCH, new_stamp())).await?;
            let () = pipeline.expire(self.stamps(), EPOCH_LIFE, None).await?;
            pipeline.all::<()>().await
        };
        timeout(POST_DEADLINE, work).await.map_err(|_| too_late())?.map_err(RedisError::from)
    }

    /// From now on nobody uses the connection with this id.
    fn lose(&self, id: u64) {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|connection| connection.id == id) {
            *current = None;
            self.0.losses.fetch_add(1, Ordering::Relaxed);
        }
        drop(current);
        let mut outbox = self.outbox();
        if outbox.taker == Some(id) {
            self.0.told_all.store(false, Ordering::SeqCst);
            *outbox = Outbox::default();
            // Also what was under way.
            self.put_untold();
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.0.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Arc<Connection>> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection, if it is one that these callers may wait for.
    fn usable_by(&self, whose: impl Fn(&Connection) -> &Patience) -> Option<Arc<Connection>> {
        self.current().filter(|connection| !whose(connection).is_lost() && connection.is_alive())
    }

    /// The key of the hash that holds the epoch and all stamps. One key, so that they are lost together or not at all.
    fn stamps(&self) -> String {
        self.key("stamps")
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.0.prefix)
    }

    fn channel(&self) -> String {
        self.key("news")
    }

    /// A client that is connected, and the task that drives it.
    async fn dial(&self) -> Result<(Client, Task), RedisError> {
        let client = Builder::from_config(self.0.config.clone())
            .with_connection_config(|config| {
                config.connection_timeout = CONNECT_DEADLINE;
                config.internal_command_timeout = CONNECT_DEADLINE;
                config.max_command_attempts = 1;
                config.disable_cluster_health_check = true;
            })
            .with_performance_config(|config| {
                // Whoever asks has a deadline of their own, of which this is the longest.
                config.default_command_timeout = DOOR_DEADLINE;
                config.broadcast_channel_capacity = MOST_UNHEARD;
            })
            .build()?;
        let mut driver: JoinHandle<Result<(), Error>> = client.connect();
        let task = Task(driver.abort_handle());
        tokio::select! {
            // The driver ends when there is no connection, and tells why.
            ended = &mut driver => match ended {
                Ok(Err(error)) => return Err(error.into()),
                Ok(Ok(())) | Err(_) => return Err(RedisError::Away("the connection ended".to_owned())),
            },
            connected = client.wait_for_connect() => connected?,
        }
        Ok((client, task))
    }
}

impl fmt::Debug for Redis {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("connected", &self.is_connected()).finish_non_exhaustive()
    }
}

impl From<Error> for RedisError {
    fn from(error: Error) -> Self {
        // The server's own words, such as WRONGPASS; they quote no password.
        let text = error.details().to_owned();
        let refusals =
            ["WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR invalid password", "DB index is out of range"];
        if *error.kind() == ErrorKind::Auth || refusals.iter().any(|refusal| text.contains(refusal)) {
            Self::Refused(text)
        } else {
            Self::Away(text)
        }
    }
}

fn too_late() -> RedisError {
    RedisError::Away("no answer in time".to_owned())
}

/// A text that never was and never will be a stamp again.
fn new_stamp() -> String {
    format!("{:032x}", rand::random::<u128>())
}
