//! A notification socket, as a client holds it.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use hyper::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use souk_store::model::UserId;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::client::Site;

/// How long a greeting or an answer may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// An open socket. Dropping it cuts the connection without a word.
pub(crate) struct Wire(WebSocketStream<TcpStream>);

/// What comes over it.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Event {
    ConnectionReady,
    OrderCreated { id: i64, order_id: i64 },
    OrderStatusUpdate { id: i64, order_id: i64 },
    Pong,
    Error { detail: String },
}

impl Wire {
    /// Opens a user's socket, and is greeted. With a number: every event after that one comes first.
    pub(crate) async fn open(
        site: &Site,
        user: UserId,
        token: &HeaderValue,
        after: Option<i64>,
    ) -> anyhow::Result<Self> {
        let stream =
            timeout(DEADLINE, TcpStream::connect(site.address)).await.context("not let in in time")??;
        Self::over(stream, site, user, token, after).await
    }

    /// The same over this connection.
    pub(crate) async fn over(
        stream: TcpStream,
        site: &Site,
        user: UserId,
        token: &HeaderValue,
        after: Option<i64>,
    ) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        let query = after.map_or_else(String::new, |after| format!("?last_event_id={after}"));
        let url = format!("ws://{}/ws/notifications/{}/{query}", site.host, user.0);
        let mut request = url.into_client_request()?;
        request.headers_mut().insert(AUTHORIZATION, token.clone());
        // Ten thousand of the usual buffers are more than a gigabyte.
        let small = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(0);
        let opening = async {
            let (stream, _) = client_async_with_config(request, stream, Some(small)).await?;
            let mut wire = Self(stream);
            match wire.next().await?.context("closed instead of a greeting")? {
                Event::ConnectionReady => Ok(wire),
                other => bail!("instead of a greeting: {other:?}"),
            }
        };
        timeout(DEADLINE, opening).await.context("no greeting in time")?
    }

    /// The next event; none when the server has closed, or the connection broke.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            return match self.0.next().await {
                Some(Ok(Message::Text(text))) => Ok(Some(serde_json::from_str(text.as_str())?)),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => Ok(None),
                Some(Ok(other)) => bail!("no text: {other:?}"),
            };
        }
    }

    /// Asks whether it lives.
    pub(crate) async fn ping(&mut self) -> anyhow::Result<()> {
        self.0.send(Message::text(r#"{"type": "ping"}"#)).await?;
        match timeout(DEADLINE, self.next()).await.context("no pong in time")?? {
            Some(Event::Pong) => Ok(()),
            other => bail!("instead of a pong: {other:?}"),
        }
    }

    /// Asks and asks without reading, until nothing more is taken for so long.
    pub(crate) async fn stuff(&mut self, stuck: Duration) {
        // What is no good is answered at more length than a ping.
        let nonsense = "x".repeat(4_000);
        while let Ok(Ok(())) = timeout(stuck, self.0.send(Message::text(nonsense.as_str()))).await {}
    }

    /// Leaves politely.
    pub(crate) async fn close(mut self) {
        // It is left either way.
        drop(timeout(Duration::from_secs(1), self.0.close(None)).await);
    }
}
