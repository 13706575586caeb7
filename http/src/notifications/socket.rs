//! An open WebSocket: tells events as they come, listens to the little that clients have to say, and ends it well.
//!
//! One task serves one socket, and does one thing at a time: while it sends it does not read, so a client that sends
//! without reading holds up itself alone. What waits for it is bounded (one message here, the queue of its session), and
//! so is the time that one message may take. What it does rarely is boxed, since the task keeps room for the largest
//! thing it ever does, thousands of times over. If the task panics, the connection closes and the session is left.
//!
//! | close code | why |
//! | --- | --- |
//! | 1001 | the server shuts down |
//! | 1002, 1007 | the client broke the protocol, or sent text that is no UTF-8 |
//! | 1009 | a message of more than 4 KiB |
//! | 1011 | two pings without an answer |
//! | 1013 | too slow, or events cannot be read at the moment: come back with the last `id` |
//! | 4401 | the token has run out or is void, or its owner was deactivated |
//! | 4403 | no longer an admin, who may watch the events of others |

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt, StreamExt};
use salvo::http::StatusCode;
use serde::{Deserialize, Serialize};
use souk_actors::{Attached, Delivery, Ended};
use souk_store::model::{EventId, UserId};
use souk_store::{chain, events};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::{Instrument, Span};

use super::EventView;
use crate::Api;
use crate::extract::active_user;
use crate::tokens::Access;

/// How often the server pings, and looks whether the holder may still be here.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How many pings may be without an answer.
const MOST_UNANSWERED: u32 = 2;
/// How long one message may take to be sent.
const SEND_WITHIN: Duration = Duration::from_secs(30);
/// How long a socket that was told to close is waited for, and how much of what it still sends is read.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
const MOST_LEFT_OVER: usize = 16 * 1024 * 1024;

const WHAT_CLIENTS_SAY: &str = r#"Expected {"type": "ping"} or {"type": "read", "up_to": id}."#;

/// Somebody's stay on the events of a user.
pub(super) struct Visit {
    guest: Guest,
    attached: Attached,
}

/// Who stays, and on whose events.
struct Guest {
    api: Arc<Api>,
    access: Access,
    user: UserId,
}

/// What the server says besides events.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Notice {
    ConnectionReady { user_id: UserId, last_event_id: EventId },
    Pong,
    Error { detail: &'static str },
}

/// What a client may say.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Word {
    Ping,
    Read { up_to: i64 },
}

/// How a visit ends.
enum Close {
    /// With this code and reason.
    With(u16, &'static str),
    /// The client has said goodbye.
    ByClient,
    /// The connection is gone, or takes no more.
    Lost,
}

enum Happened {
    Expired,
    Tick,
    Heard(Option<Result<Message, Error>>),
    Delivered(Delivery),
}

impl Visit {
    pub(super) fn new(api: Arc<Api>, access: Access, user: UserId, attached: Attached) -> Self {
        Self { guest: Guest { api, access, user }, attached }
    }

    /// On whose events.
    pub(super) fn user(&self) -> UserId {
        self.guest.user
    }

    /// Serves the socket to its end. The caller closes the connection first, and then leaves the place in the session.
    /// Neither is moved in here, since a future keeps room for both what is moved and where it is moved to.
    pub(super) async fn serve<S>(&mut self, stream: &mut WebSocketStream<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Err(close) = self.stay(stream).await;
        if let Close::With(code, reason) = &close {
            tracing::debug!(user.id = %self.guest.user, socket.code = code, socket.reason = reason, "a socket is closed");
        }
        // Whoever does not go along is left behind.
        drop(timeout(CLOSE_WITHIN, leave(stream, close)).await);
    }

    async fn stay<S>(&mut self, stream: &mut WebSocketStream<S>) -> Result<Infallible, Close>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { guest, attached } = self;
        let last_event_id = attached.last_event_id();
        say(stream, &Notice::ConnectionReady { user_id: guest.user, last_event_id }).await?;
        let mut expiry = pin!(sleep(until(guest.access.expires_at)));
        let mut ticks = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = 0;
        loop {
            let happened = tokio::select! {
                () = &mut expiry => Happened::Expired,
                _ = ticks.tick() => Happened::Tick,
                heard = stream.next() => Happened::Heard(heard),
                delivery = attached.next() => Happened::Delivered(delivery),
            };
            match happened {
                Happened::Expired => return Err(Close::With(4401, "the token has run out")),
                Happened::Tick => {
                    if unanswered >= MOST_UNANSWERED {
                        return Err(Close::With(1011, "no answer to pings"));
                    }
                    guest.is_still_welcome().await?;
                    unanswered += 1;
                    send(stream, Message::Ping(Vec::new().into())).await?;
                }
                Happened::Heard(Some(Ok(Message::Pong(_)))) => unanswered = 0,
                Happened::Heard(Some(Ok(message))) => guest.answer(stream, message).await?,
                Happened::Heard(Some(Err(error))) => return Err(Close::because_of(&error)),
                Happened::Heard(None) => return Err(Close::Lost),
                Happened::Delivered(Delivery::Event(event)) => say(stream, &EventView::from(&event)).await?,
                Happened::Delivered(Delivery::Doubted) => guest.is_still_welcome().await?,
                Happened::Delivered(Delivery::Ended(why)) => return Err(why.into()),
            }
        }
    }
}

impl Guest {
    /// For what is logged while something is asked for this socket. One that lived as long would cost a kilobyte.
    fn span(&self) -> Span {
        tracing::info_span!("socket", user.id = %self.access.user)
    }

    /// Asked when the session says that the account has changed, and now and then, for what was not told.
    async fn is_still_welcome(&self) -> Result<(), Close> {
        match Box::pin(active_user(&self.api, self.access).instrument(self.span())).await {
            Ok(caller) if caller.user.id == self.user || caller.user.is_admin => Ok(()),
            Ok(_) => Err(Close::With(4403, "no longer an admin")),
            Err(error) if error.status() == StatusCode::UNAUTHORIZED => {
                Err(Close::With(4401, "the token is void, or its owner not active"))
            }
            // The database is away: that is no reason to send anybody away.
            Err(_) => Ok(()),
        }
    }

    async fn answer<S>(&self, stream: &mut WebSocketStream<S>, message: Message) -> Result<(), Close>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let word = match &message {
            Message::Text(text) => serde_json::from_str(text.as_str()).ok(),
            Message::Binary(_) => None,
            Message::Close(_) => return Err(Close::ByClient),
            // The library has answered a ping, with the next read or write.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(()),
        };
        let detail = match word {
            Some(Word::Ping) => return say(stream, &Notice::Pong).await,
            Some(Word::Read { up_to }) if up_to < 0 => WHAT_CLIENTS_SAY,
            Some(Word::Read { .. }) if self.access.user != self.user => {
                "Only their owner can mark events as read."
            }
            Some(Word::Read { up_to }) => {
                let marking = events::mark_read(&self.api.db, self.user, EventId(up_to));
                match Box::pin(marking.instrument(self.span())).await {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        let error = chain(&error);
                        tracing::warn!(user.id = %self.user, error, "a read mark could not be stored");
                        "Not available at the moment. Try again later."
                    }
                }
            }
            None => WHAT_CLIENTS_SAY,
        };
        say(stream, &Notice::Error { detail }).await
    }
}

impl From<Ended> for Close {
    fn from(why: Ended) -> Self {
        match why {
            Ended::ShuttingDown => Self::With(1001, "the server shuts down"),
            Ended::TooSlow => Self::With(1013, "too slow: come back with the last id"),
            Ended::Unavailable => Self::With(1013, "not available: come back with the last id"),
            Ended::Deactivated => Self::With(4401, "the account is not active"),
        }
    }
}

impl Close {
    fn because_of(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::With(1009, "a message may have at most 4096 bytes"),
            Error::Utf8(_) => Self::With(1007, "text must be UTF-8"),
            Error::Protocol(_) => Self::With(1002, "protocol error"),
            _ => Self::Lost,
        }
    }
}

/// How long it is until this second since 1970 begins.
fn until(unix_seconds: i64) -> Duration {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or_default());
    end.duration_since(SystemTime::now()).unwrap_or_default()
}

async fn say<S>(stream: &mut WebSocketStream<S>, what: &impl Serialize) -> Result<(), Close>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let text = serde_json::to_string(what).map_err(|error| {
        tracing::error!(%error, "a message could not be written as json");
        Close::With(1011, "internal error")
    })?;
    send(stream, Message::text(text)).await
}

async fn send<S>(stream: &mut WebSocketStream<S>, message: Message) -> Result<(), Close>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(SEND_WITHIN, stream.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Close::Lost),
        // Events wait in the database, too, where nobody counts them.
        Err(_) => Err(Ended::TooSlow.into()),
    }
}

/// Says goodbye and waits for the other side to go. What it still sends is read and thrown away: a connection that is
/// closed over unread bytes is reset, and then the client may never see why it was closed.
async fn leave<S>(stream: &mut WebSocketStream<S>, close: Close)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match close {
        Close::With(code, reason) => {
            let frame = CloseFrame { code: code.into(), reason: reason.into() };
            if stream.send(Message::Close(Some(frame))).await.is_err() {
                return;
            }
        }
        // The library has an answer ready.
        Close::ByClient => drop(stream.flush().await),
        Close::Lost => return,
    }
    let connection = stream.get_mut();
    drop(connection.shutdown().await);
    let mut left_over = vec![0; 2048];
    let mut total = 0;
    while let Ok(length @ 1..) = connection.read(&mut left_over).await {
        total += length;
        if total > MOST_LEFT_OVER {
            break;
        }
    }
}
