//! A WebSocket of the shop as its subscriber sees it: a knock on the door with some credentials, and then
//! events. Every wait has a deadline.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

use super::{DEADLINE, escaped};

/// An attempt to open a socket.
pub(crate) struct Knock {
    base: String,
    user: String,
    query: Vec<String>,
    headers: Vec<(&'static str, String)>,
}

impl Knock {
    pub(super) fn at(base: &str, user: i64) -> Self {
        let base = base.replacen("http", "ws", 1);
        Self { base, user: user.to_string(), query: Vec::new(), headers: Vec::new() }
    }

    /// Another user's door.
    pub(crate) fn door_of(mut self, user: &impl ToString) -> Self {
        self.user = user.to_string();
        self
    }

    pub(crate) fn bearer(self, access: &str) -> Self {
        self.header("authorization", &format!("Bearer {access}"))
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(format!("{name}={}", escaped(value)));
        self
    }

    pub(crate) fn request(&self) -> Request {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query.join("&")) };
        let url = format!("{}/ws/notifications/{}/{query}", self.base, self.user);
        let mut request = url.into_client_request().expect("a WebSocket request");
        for (name, value) in &self.headers {
            request.headers_mut().append(*name, value.parse().expect("a header's value"));
        }
        request
    }

    /// Expects to be let in, and to be greeted.
    pub(crate) async fn open(self) -> Socket {
        let request = self.request();
        let asked = request.uri().clone();
        let (stream, headers) = match timeout(DEADLINE, connect_async(request)).await {
            Ok(Ok((stream, response))) => (stream, response.headers().clone()),
            Ok(Err(error)) => panic!("the socket {asked} should open: {error:?}"),
            Err(_) => panic!("the socket {asked} should open: no answer"),
        };
        let mut socket = Socket { stream, headers, ready: Value::Null };
        socket.ready = socket.next_event().await;
        assert_eq!(socket.ready["type"], "connection_ready", "a socket begins with connection_ready");
        socket
    }

    /// Opens a socket whose operating system takes in next to nothing until it is read.
    pub(crate) async fn open_narrow(self) -> Socket {
        let request = self.request();
        let address = self.base.replace("ws://", "").parse().expect("an address");
        let narrow = TcpSocket::new_v4().expect("a socket");
        narrow.set_recv_buffer_size(4096).expect("a small buffer");
        let stream = MaybeTlsStream::Plain(narrow.connect(address).await.expect("the shop listens"));
        let (stream, response) = client_async(request, stream).await.expect("the socket should open");
        let mut socket = Socket { stream, headers: response.headers().clone(), ready: Value::Null };
        socket.ready = socket.next_event().await;
        socket
    }

    /// Expects to be turned away before the upgrade; the status and the body.
    pub(crate) async fn refused(self) -> (u16, Value) {
        let request = self.request();
        let asked = request.uri().clone();
        match timeout(DEADLINE, connect_async(request)).await {
            Ok(Err(Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                (response.status().as_u16(), serde_json::from_slice(body).unwrap_or(Value::Null))
            }
            Ok(Ok(_)) => panic!("the socket {asked} should be refused, and is open"),
            Ok(Err(error)) => panic!("the socket {asked} should be refused with a status: {error:?}"),
            Err(_) => panic!("the socket {asked} should be refused: no answer"),
        }
    }
}

pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Of the answer to the upgrade.
    pub(crate) headers: HeaderMap,
    /// The greeting.
    pub(crate) ready: Value,
}

impl Socket {
    /// The next event; protocol pings are answered on the way and not shown.
    pub(crate) async fn next_event(&mut self) -> Value {
        match self.next().await {
            Ok(event) => event,
            Err(code) => panic!("an event should come, but the socket was closed with {code:?}"),
        }
    }

    /// The next event, asserted to be of that type.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        let event = self.next_event().await;
        assert_eq!(event["type"], kind, "the next event should be {kind}: {event}");
        event
    }

    /// The code that the server closes with. Events before it are an error.
    pub(crate) async fn closed_with(&mut self) -> Option<u16> {
        match self.next().await {
            Ok(event) => panic!("the socket should be closed, but sends {event}"),
            Err(code) => code,
        }
    }

    /// The events up to the close, and its code.
    pub(crate) async fn rest(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(event) => events.push(event),
                Err(code) => return (events, code),
            }
        }
    }

    /// Reads until an `error` event or the end, whichever comes.
    pub(crate) async fn rest_or_error(&mut self) {
        while let Ok(event) = self.next().await {
            if event["type"] == "error" {
                return;
            }
        }
    }

    /// Asks without reading the answers until no more can be sent: then the server, in turn, cannot send.
    pub(crate) async fn stuff_the_pipe(&mut self) {
        // A server that is merely slow would take more in the end.
        const STUCK: Duration = Duration::from_secs(3);
        let pings = "x".repeat(4_000);
        // Messages that are no good get an `error` each, which is longer than a pong.
        while let Ok(Ok(())) = timeout(STUCK, self.stream.send(Message::text(pings.as_str()))).await {}
    }

    /// Asserts that nothing waits to be read: what is asked for now is answered next.
    pub(crate) async fn is_quiet(&mut self) {
        self.say(r#"{"type": "ping"}"#).await;
        self.next_of("pong").await;
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        let sent = timeout(DEADLINE, self.stream.send(message)).await;
        sent.expect("a socket that takes messages").expect("a socket that is open");
    }

    /// As the subscriber that leaves politely.
    pub(crate) async fn leave(mut self) {
        timeout(DEADLINE, self.stream.close(None)).await.expect("a socket that closes").expect("a close");
    }

    /// An event, or the end: the close code if there was a close frame.
    async fn next(&mut self) -> Result<Value, Option<u16>> {
        // The server's pings are no reason to wait longer.
        let until = Instant::now() + DEADLINE;
        loop {
            let Ok(message) = timeout_at(until, self.stream.next()).await else {
                panic!("nothing came over the socket within {DEADLINE:?}");
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    let event: Value = serde_json::from_str(text.as_str()).expect("a frame of JSON");
                    assert!(event.is_object(), "a frame should be one JSON object: {event}");
                    return Ok(event);
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| u16::from(frame.code))),
                Some(Ok(other)) => panic!("a text frame should come, not {other:?}"),
                Some(Err(_)) | None => return Err(None),
            }
        }
    }
}
