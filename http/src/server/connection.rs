//! One connection: its TLS, its requests, and its end when it asks for nothing.
//!
//! A connection may be silent, or slow to say what it wants, for [`IDLE`]: from its beginning, or from the last time that
//! it was answered something. While a request is under way, the request's own deadlines count. A client that does not read
//! is cut off after [`WRITE_STALL`]. All of this is no concern of a WebSocket, which keeps nothing of the connection but its
//! place.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use salvo::conn::StraightStream;
use salvo::fuse::{ConnObserver, FuseConfig};
use salvo::http::uri::Scheme;
use salvo::http::{Body, ResBody};
use salvo::hyper::body::{Frame, Incoming, SizeHint};
use salvo::hyper::service::Service as HyperService;
use salvo::hyper::{Request, Response};
use salvo::{ConnCtrl, Service};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::gate::LastRefusal;
use crate::tls::Tls;

/// How long a connection may be without a request.
pub(super) const IDLE: Duration = Duration::from_secs(20);
/// The same of one that is too many.
const IDLE_ONE_TOO_MANY: Duration = Duration::from_secs(3);
/// How long a client may take for its part of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may leave what it was sent unread.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// How long a connection has for its goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection that was let in.
pub(super) struct Connection {
    stream: StraightStream<TcpStream>,
    life: Arc<Life>,
    control: ConnCtrl,
    addresses: [SocketAddr; 2],
    service: Arc<Service>,
    tls: Option<Tls>,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        addresses: [SocketAddr; 2],
        service: Arc<Service>,
        tls: Option<Tls>,
        place: OwnedSemaphorePermit,
        is_one_too_many: bool,
    ) -> Self {
        let control = ConnCtrl::new();
        let life = Arc::new(Life {
            began: Instant::now(),
            last_active: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            is_one_too_many,
            last_refusal: LastRefusal::default(),
            _place: place,
        });
        // Held by the stream, the place is taken for as long as the connection is open, whatever it becomes.
        let stream = StraightStream::new(stream, Some(fuse()), control.clone(), Some(life.clone()));
        Self { stream, life, control, addresses, service, tls }
    }

    /// Serves it to its end. When the server stops, the request under way is finished, and no other begun.
    pub(super) async fn serve(self, builder: Arc<auto::Builder<TokioExecutor>>, stopping: CancellationToken) {
        let Self { stream, life, control, addresses, service, tls } = self;
        let [local, peer] = addresses;
        let scheme = if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let handler = service.hyper_handler(local.into(), peer.into(), scheme, Some(fuse()), control, None);
        let service = Counted { handler, life };
        match tls {
            None => converse(stream, service, &builder, stopping).await,
            Some(tls) => {
                let handshake = timeout(HANDSHAKE, tls.accept(stream));
                let stream = tokio::select! {
                    stream = handshake => stream,
                    () = stopping.cancelled() => return,
                };
                match stream {
                    Ok(Ok(stream)) => converse(stream, service, &builder, stopping).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a client failed at its tls handshake"),
                    Err(_) => tracing::debug!("a client was too slow at its tls handshake"),
                }
            }
        }
    }
}

fn fuse() -> FuseConfig {
    FuseConfig::disabled().with_write_stall_timeout(WRITE_STALL)
}

async fn converse<I, H>(
    stream: I,
    service: Counted<H>,
    builder: &auto::Builder<TokioExecutor>,
    stopping: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handles,
{
    let life = service.life.clone();
    let mut talk = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = talk.as_mut() => Some(ended),
        () = stopping.cancelled() => None,
        () = life.end() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            talk.as_mut().graceful_shutdown();
            // The server, while it stops, has its own patience with the request under way.
            tokio::select! {
                ended = talk.as_mut() => ended,
                () = life.linger() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// What a connection has been about, and its place among all connections. In an `Arc` among the extensions of its requests.
#[derive(Debug)]
pub(crate) struct Life {
    began: Instant,
    /// When something was last answered or sent, in milliseconds of the connection's life.
    last_active: AtomicU64,
    /// Requests that are not answered to their last byte.
    under_way: AtomicUsize,
    /// It is beyond the limit, and gets no more than the news of that.
    pub(crate) is_one_too_many: bool,
    pub(crate) last_refusal: LastRefusal,
    _place: OwnedSemaphorePermit,
}

impl Life {
    fn is_active(&self) {
        let age = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_active.store(age, Ordering::Relaxed);
    }

    /// Waits until there has been no request for too long.
    async fn end(&self) {
        let patience = if self.is_one_too_many { IDLE_ONE_TOO_MANY } else { IDLE };
        loop {
            let now = Instant::now();
            let end = self.began + Duration::from_millis(self.last_active.load(Ordering::Relaxed)) + patience;
            if self.under_way.load(Ordering::Acquire) > 0 {
                sleep_until(now + patience).await;
            } else if end > now {
                sleep_until(end).await;
            } else {
                return;
            }
        }
    }

    /// Waits until nothing is under way, and a moment for the goodbye.
    async fn linger(&self) {
        loop {
            tokio::time::sleep(GOODBYE).await;
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
        }
    }
}

impl ConnObserver for Life {
    fn on_write(&self, _bytes: usize) {
        self.is_active();
    }
}

/// A request that is not answered to its last byte.
struct UnderWay(Arc<Life>);

impl UnderWay {
    fn new(life: &Arc<Life>) -> Self {
        life.under_way.fetch_add(1, Ordering::AcqRel);
        Self(life.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.is_active();
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What salvo makes of a service for one connection; its type has no name outside.
trait Handles:
    HyperService<
        Request<Incoming>,
        Response = Response<ResBody>,
        Error = salvo::hyper::Error,
        Future: Send + 'static,
    >
{
}

impl<H> Handles for H where
    H: HyperService<
            Request<Incoming>,
            Response = Response<ResBody>,
            Error = salvo::hyper::Error,
            Future: Send + 'static,
        >
{
}

/// Counts the requests of a connection.
struct Counted<H> {
    handler: H,
    life: Arc<Life>,
}

impl<H: Handles> HyperService<Request<Incoming>> for Counted<H> {
    type Response = Response<CountedBody>;
    type Error = salvo::hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let under_way = UnderWay::new(&self.life);
        request.extensions_mut().insert(self.life.clone());
        let answer = self.handler.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| CountedBody { body, _under_way: under_way })) })
    }
}

/// A body of an answer, until it is sent.
struct CountedBody {
    body: ResBody,
    _under_way: UnderWay,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = <ResBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
