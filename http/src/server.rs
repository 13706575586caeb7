//! The server: accepts connections, with TLS or without, serves requests on them, and stops in order.
//!
//! Only the binary's frame calls this. There are never more connections than [`ServerLimits`] says, WebSockets included; a
//! few beyond it are let in to be told so, and what comes after them is closed at once. Stopping closes the listener, so
//! that newcomers are refused by the system, and lets requests under way finish; what is not finished by then is cut.
//! WebSockets are not seen by it: they end when the actors' tree is drained.
//!
//! The loop is not salvo's own: that one knows no end of an idle HTTP/2 connection, forgets a connection once it has
//! become a WebSocket, and keeps the listener open while it stops.

mod connection;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use salvo::Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::connection::Connection;
pub(crate) use self::connection::Life;
use crate::tls::Tls;

/// How many connections beyond the limit are let in, to be told that they are too many, and for probes.
const SPARE: usize = 64;

/// The head of a request over HTTP/1: its line and its headers. More is a 431.
const LONGEST_HEAD: usize = 32 * 1024;
const MOST_HEADERS: usize = 100;

/// Over HTTP/2: requests at once on one connection, and what may be under way to and from the client.
const MOST_STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
const HTTP2_HEADERS: u32 = 16 * 1024;
/// Requests that the client takes back before anybody looked at them; beyond it the connection ends.
const MOST_TAKEN_BACK: usize = 20;
/// The same of those that the server had to refuse.
const MOST_REFUSED: usize = 200;

/// How long the system may refuse connections, mostly for want of descriptors, before it is asked again.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// What a server holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections, WebSockets included.
    pub connections: usize,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    stopping: CancellationToken,
    accepting: JoinHandle<JoinSet<()>>,
}

impl Server {
    /// Serves from now on; HTTPS alone if there are certificates.
    #[must_use]
    pub fn start(listener: TcpListener, service: Service, tls: Option<Tls>, limits: ServerLimits) -> Self {
        let stopping = CancellationToken::new();
        let porter = Porter {
            service: Arc::new(service),
            builder: Arc::new(builder()),
            tls,
            places: Arc::new(Semaphore::new(limits.connections)),
            spare: Arc::new(Semaphore::new(SPARE)),
            stopping: stopping.clone(),
        };
        #[expect(clippy::disallowed_methods, reason = "`stop` waits for its end")]
        let accepting = tokio::spawn(porter.accept(listener));
        Self { stopping, accepting }
    }

    /// Accepts nobody any more, waits for the requests under way, at most for `grace`, and cuts the rest.
    pub async fn stop(self, grace: Duration) {
        self.stopping.cancel();
        let mut connections = match self.accepting.await {
            Ok(connections) => connections,
            Err(error) => {
                tracing::error!(%error, "the server's task ended badly");
                return;
            }
        };
        let finished = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, finished).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests that took too long are cut");
        }
        connections.shutdown().await;
    }
}

/// How HTTP is spoken.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(connection::IDLE)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HTTP2_HEADERS)
        .max_pending_accept_reset_streams(MOST_TAKEN_BACK)
        .max_local_error_reset_streams(MOST_REFUSED);
    builder
}

/// What lets connections in.
struct Porter {
    service: Arc<Service>,
    builder: Arc<auto::Builder<TokioExecutor>>,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Porter {
    /// Accepts until the server stops; gives the connections that there are then.
    async fn accept(self, listener: TcpListener) -> JoinSet<()> {
        let mut connections = JoinSet::new();
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // So that nothing of a connection is kept longer than it.
                Some(_) = connections.join_next() => continue,
                () = self.stopping.cancelled() => return connections,
            };
            match accepted {
                Ok((stream, peer)) => {
                    is_failing = false;
                    if let Some(connection) = self.admit(stream, peer) {
                        connections.spawn(connection.serve(self.builder.clone(), self.stopping.clone()));
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    // Said once, not twenty times a second for as long as it lasts.
                    if !is_failing {
                        tracing::error!(%error, "no connection can be accepted");
                    }
                    is_failing = true;
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    /// A connection with a place of its own; None if even those are taken that say so.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Connection> {
        let place = |places: &Arc<Semaphore>| places.clone().try_acquire_owned().ok();
        let (place, is_one_too_many): (OwnedSemaphorePermit, bool) = match place(&self.places) {
            Some(place) => (place, false),
            None => (place(&self.spare)?, true),
        };
        let local = stream.local_addr().ok()?;
        // Events are small and shall not wait for each other.
        drop(stream.set_nodelay(true));
        Some(Connection::new(
            stream,
            [local, peer],
            self.service.clone(),
            self.tls.clone(),
            place,
            is_one_too_many,
        ))
    }
}

/// Whether it is about the one connection that could not be accepted.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
