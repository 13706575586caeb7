//! A connection's life: how it is made, how letters are written and heard on it, and how its end is noticed.
//!
//! The actor `Nodes` drives it: it asks for a connection, and then runs [`Link::next`] and [`Redis::post`] side by side
//! until either says that the connection is lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::prelude::{EventInterface, HashesInterface, PubsubInterface};
use fred::types::Message;
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout};

use super::letters::{Letter, News, Outbox, Says};
use super::{
    CONNECT_DEADLINE, Connection, DOOR_DEADLINE, POST_DEADLINE, Patience, READ_DEADLINE, Redis, RedisError,
    new_stamp, second_level, too_late,
};

/// How often a node says that it lives, at least.
const BEAT_EVERY: Duration = Duration::from_millis(200);
/// A node that was not heard of for this long is gone, and what it had to tell with it.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// What came from the other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something changed there.
    News(News),
    /// Nobody knows what has changed.
    Everything,
    /// A node fell silent without a farewell: it may have changed something and not told.
    Silence,
}

/// The listening half of a connection.
pub struct Link {
    redis: Redis,
    connection: Arc<Connection>,
    letters: broadcast::Receiver<Message>,
    peers: HashMap<u64, Peer>,
    looked: Instant,
}

struct Peer {
    /// The number of its last letter.
    number: u64,
    heard: Instant,
}

impl Redis {
    /// Makes a new connection, in the place of the last one. When it is there, its subscription is in force, a new
    /// epoch has begun, and the other nodes have been told to forget everything; the caller forgets everything here.
    ///
    /// # Errors
    /// Any [`RedisError`]; there is no connection then.
    pub async fn connect(&self) -> Result<Link, RedisError> {
        if let Some(connection) = self.current() {
            self.lose(connection.id);
        }
        let link = timeout(CONNECT_DEADLINE, self.meet()).await.map_err(|_| too_late())?;
        if link.is_err() {
            *self.outbox() = Outbox::default();
        }
        link
    }

    async fn meet(&self) -> Result<Link, RedisError> {
        let ((commands, writing), (listener, listening)) = tokio::try_join!(self.dial(), self.dial())?;
        let connection = Arc::new(Connection {
            id: rand::random(),
            commands,
            tasks: [writing, listening],
            readers: Patience::new(READ_DEADLINE, &self.0.passed_by),
            door: Patience::new(DOOR_DEADLINE, &self.0.passed_by),
            written: AtomicU64::new(0),
            echoed: AtomicU64::new(0),
            awaited: Mutex::new(None),
        });
        let mut letters = listener.message_rx();
        listener.subscribe(self.channel()).await?;
        let after = self.0.last_id.swap(connection.id, Ordering::AcqRel);
        // Until it comes back the subscription may not be in force.
        let hello = self.write(&connection, Says::Hello { after }, &[]).await?;
        loop {
            let letter =
                letters.recv().await.map_err(|_| RedisError::Away("the connection ended".to_owned()))?;
            if read(&letter).is_some_and(|letter| letter.from == connection.id && letter.number == hello) {
                connection.echoed.store(hello, Ordering::Release);
                break;
            }
        }
        // What is forgotten from here on is told by this connection; what was before, the epoch covers.
        *self.outbox() = Outbox::open_for(Some(connection.id));
        self.set_epoch(&connection.commands).await?;
        self.write(&connection, Says::Everything, &[]).await?;
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&connection));
        let outbox = self.outbox();
        if outbox.forgets_nothing() {
            self.0.told_all.store(true, Ordering::SeqCst);
        }
        drop(outbox);
        Ok(Link { redis: self.clone(), connection, letters, peers: HashMap::new(), looked: Instant::now() })
    }

    /// Sets new stamps for `forgotten` and publishes a letter, in this order; gives its number.
    async fn write(
        &self,
        connection: &Connection,
        says: Says,
        forgotten: &[crate::cache::Key],
    ) -> Result<u64, RedisError> {
        let number = connection.written.fetch_add(1, Ordering::AcqRel) + 1;
        let letter = Letter { from: connection.id, number, says };
        let letter = serde_json::to_string(&letter).expect("plain data is always JSON");
        let mut fields: Vec<_> = forgotten.iter().filter_map(|key| second_level::field(*key)).collect();
        fields.sort_unstable();
        fields.dedup();
        let stamps: Vec<_> = fields.into_iter().map(|field| (field, new_stamp())).collect();
        let work = async {
            if stamps.is_empty() {
                return connection.commands.publish::<(), _, _>(self.channel(), letter).await;
            }
            let pipeline = connection.commands.pipeline();
            let () = pipeline.hset(self.stamps(), stamps).await?;
            let () = pipeline.publish(self.channel(), letter).await?;
            pipeline.all().await
        };
        timeout(POST_DEADLINE, work).await.map_err(|_| too_late())??;
        Ok(number)
    }

    /// Writes what there is to tell as it comes, everything that came meanwhile in one letter, until the connection
    /// is lost.
    pub async fn post(&self) {
        let Some(connection) = self.current() else { return };
        let why = loop {
            // Woken too often it only sends an empty letter.
            drop(timeout(BEAT_EVERY, self.0.filled.notified()).await);
            if let Err(error) = self.send(&connection).await {
                break error;
            }
        };
        tracing::warn!(error = crate::chain(&why), "the connection to Redis is lost");
        self.lose(connection.id);
    }

    /// Sends what was gathered and looks whether earlier letters came back.
    pub(super) async fn send(&self, connection: &Connection) -> Result<(), RedisError> {
        let news = self.outbox().take();
        let forgotten = news.forget.clone();
        let says = if news.is_empty() { Says::Beat } else { Says::News(news) };
        let began = Instant::now();
        let number = self.write(connection, says, &forgotten).await?;
        let outbox = self.outbox();
        if outbox.taker == Some(connection.id) && outbox.forgets_nothing() {
            self.0.told_all.store(true, Ordering::SeqCst);
        }
        drop(outbox);
        if began.elapsed() < READ_DEADLINE {
            connection.door.regain();
            if connection.readers.regain() {
                tracing::info!("Redis is well again");
            }
        }
        connection.expect_echo(number, began)
    }

    /// Sends what is left to tell and says goodbye, so that nobody takes the silence for a death.
    pub async fn part(&self) {
        let Some(connection) = self.current() else { return };
        if self.send(&connection).await.is_ok() {
            drop(self.write(&connection, Says::Goodbye, &[]).await);
        }
        self.lose(connection.id);
    }
}

impl Link {
    /// What the other nodes say next; none if the connection is lost.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            if self.looked.elapsed() >= SILENT_AFTER / 4
                && self.letters.is_empty()
                && let Some(heard) = self.look_for_silence()
            {
                return Some(heard);
            }
            let letter = match timeout(SILENT_AFTER / 4, self.letters.recv()).await {
                Err(_) => continue,
                Ok(Ok(letter)) => letter,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "news from other nodes were lost");
                    self.redis.lose(self.connection.id);
                    return None;
                }
            };
            // What is no letter comes from somebody else; then a number is missing, if it was to be one.
            let Some(letter) = read(&letter) else { continue };
            match self.take(letter) {
                Ok(Some(heard)) => return Some(heard),
                Ok(None) => {}
                Err(Missed) => {
                    tracing::warn!("a letter of another node is missing");
                    self.redis.lose(self.connection.id);
                    return None;
                }
            }
        }
    }

    fn take(&mut self, letter: Letter) -> Result<Option<Heard>, Missed> {
        if letter.from == self.connection.id {
            self.connection.echoed.fetch_max(letter.number, Ordering::AcqRel);
            return Ok(None);
        }
        if let Says::Hello { after } = &letter.says {
            self.peers.remove(after);
        }
        let (number, heard) = (letter.number, Instant::now());
        // Of a node that is heard of for the first time everything was forgotten, here or there.
        if self
            .peers
            .insert(letter.from, Peer { number, heard })
            .is_some_and(|peer| peer.number.wrapping_add(1) != number)
        {
            return Err(Missed);
        }
        Ok(match letter.says {
            Says::News(news) => Some(Heard::News(news)),
            Says::Everything => Some(Heard::Everything),
            Says::Goodbye => {
                self.peers.remove(&letter.from);
                None
            }
            Says::Hello { .. } | Says::Beat => None,
        })
    }

    fn look_for_silence(&mut self) -> Option<Heard> {
        self.looked = Instant::now();
        let before = self.peers.len();
        self.peers.retain(|_, peer| peer.heard.elapsed() < SILENT_AFTER);
        (self.peers.len() < before).then_some(Heard::Silence)
    }
}

/// A letter of another node did not come.
struct Missed;

/// The letter in a message; none if it is something else.
fn read(message: &Message) -> Option<Letter> {
    serde_json::from_slice(message.value.as_bytes()?).ok()
}
