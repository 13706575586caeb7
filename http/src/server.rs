//! The server: serves on a listener that is bound already, and stops in order.
//!
//! Only the binary's frame calls this. Stopping ends the accepting at once and lets requests under way finish; what is
//! not finished by then is cut. WebSockets are not seen by it: they end when the actors' tree is drained.

use std::io;
use std::time::Duration;

use salvo::conn::tcp::TcpAcceptor;
use salvo::fuse::FuseConfig;
use salvo::server::ServerHandle;
use salvo::{Server as Salvo, Service};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long a client may take for the head of a request, and between two pieces of its body.
const READ_STALL: Duration = Duration::from_secs(20);
/// How long a client may leave what it was sent unread.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub struct Server {
    handle: ServerHandle,
    serving: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Serves from now on.
    ///
    /// # Errors
    /// If the listener has no address, which means that it is not bound.
    pub fn start(listener: TcpListener, service: Service) -> io::Result<Self> {
        // WebSockets are silent for long: the library lifts the write limit from them, and there is no limit to idling.
        let fuse = FuseConfig::default()
            .with_http1_header_timeout(READ_STALL)
            .with_request_body_timeout(READ_STALL)
            .with_write_stall_timeout(WRITE_STALL);
        let server = Salvo::new(TcpAcceptor::try_from(listener)?).fuse_config(fuse);
        let handle = server.handle();
        #[expect(clippy::disallowed_methods, reason = "`stop` waits for its end")]
        let serving = tokio::spawn(server.try_serve(service));
        Ok(Self { handle, serving })
    }

    /// Accepts nobody any more, waits for the requests under way, at most for `grace`, and cuts the rest.
    pub async fn stop(self, grace: Duration) {
        self.handle.stop_graceful(grace);
        match self.serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the server ended badly"),
            Err(error) => tracing::error!(%error, "the server's task ended badly"),
        }
    }
}
