//! A client as thin as hyper makes it: keep-alive HTTP/1.1 connections, each with one request at a time, and a pool of
//! them for those who do not care which they get.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::http::response::Parts;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than the server may take for any request.
const DEADLINE: Duration = Duration::from_secs(35);

/// A request, made and not sent.
pub(crate) type Request = hyper::Request<Full<Bytes>>;

/// Where a server listens, and how it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    /// Host and port, as in a URL.
    pub(crate) host: String,
}

impl Site {
    /// # Errors
    /// If this is not `http://HOST[:PORT]`, or nobody knows the host.
    pub(crate) async fn of_url(url: &str) -> anyhow::Result<Self> {
        let rest = url.trim_end_matches('/').strip_prefix("http://");
        let host = rest.filter(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']));
        let host =
            host.with_context(|| format!("{url}: the URL must be http://HOST[:PORT], without a path"))?;
        let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let found = tokio::net::lookup_host(&with_port).await;
        let mut found = found.with_context(|| format!("cannot find {host}"))?;
        Ok(Self {
            address: found.next().with_context(|| format!("{host} has no address"))?,
            host: host.to_owned(),
        })
    }
}

impl From<SocketAddr> for Site {
    fn from(address: SocketAddr) -> Self {
        Self { address, host: address.to_string() }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.host)
    }
}

/// An open connection. Dropping it closes it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    /// The task that moves the bytes.
    _moving: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn open(site: &Site) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(site.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut moving = JoinSet::new();
        moving.spawn(async move {
            // What goes wrong here is an error of the request under way.
            drop(connection.await);
        });
        Ok(Self { sender, host: HeaderValue::from_str(&site.host)?, _moving: moving })
    }

    /// Sends `request` and reads the whole answer.
    pub(crate) async fn send(&mut self, mut request: Request) -> anyhow::Result<(Parts, Bytes)> {
        request.headers_mut().insert(HOST, self.host.clone());
        self.sender.ready().await.context("the connection was closed")?;
        let (head, body) = self.sender.send_request(request).await.context("no answer")?.into_parts();
        Ok((head, body.collect().await.context("half an answer")?.to_bytes()))
    }

    fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// After how long to come again, if it says so in whole seconds.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not what was expected: {}", self.in_words()))
    }

    /// The status and the beginning of the body.
    pub(crate) fn in_words(&self) -> String {
        let text: String = String::from_utf8_lossy(&self.body).chars().take(200).collect();
        format!("{} {text}", self.status.as_u16())
    }
}

/// Connections to one server, opened when they are needed and kept, up to a number; who finds none free waits.
pub(crate) struct Pool {
    site: Site,
    idle: Mutex<Vec<Connection>>,
    places: Semaphore,
}

impl Pool {
    pub(crate) fn new(site: &Site, most: usize) -> Arc<Self> {
        Arc::new(Self { site: site.clone(), idle: Mutex::default(), places: Semaphore::new(most) })
    }

    /// Sends a request over one of them. A connection that failed is not used again.
    pub(crate) async fn send(&self, request: Request) -> anyhow::Result<Answer> {
        let _place = self.places.acquire().await?;
        let sending = async {
            let mut connection = match self.take() {
                Some(connection) => connection,
                None => Connection::open(&self.site).await?,
            };
            let (head, body) = connection.send(request).await?;
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        timeout(DEADLINE, sending).await.context("no answer in time")?
    }

    /// The one that was used last, whose memory is the warmest; the server may have closed it meanwhile.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(Connection::is_open)
    }
}

/// This process and the server's each need one for every connection; `or_else` says what to ask for otherwise.
pub(crate) fn enough_descriptors(connections: usize, or_else: &str) -> anyhow::Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let most = open_files.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    let needed = connections + 500;
    ensure!(
        most.is_none_or(|most| most >= needed),
        "{connections} connections need {needed} file descriptors, and {} are allowed: `ulimit -n {needed}` before, or ask \
         for {or_else}",
        most.unwrap_or_default()
    );
    Ok(())
}

/// A request without a body.
pub(crate) fn get(path: &str, token: Option<&HeaderValue>) -> anyhow::Result<Request> {
    request(Method::GET, path, token, Bytes::new())
}

/// A request with this JSON as its body.
pub(crate) fn post(path: &str, token: Option<&HeaderValue>, json: Bytes) -> anyhow::Result<Request> {
    with_json(Method::POST, path, token, json)
}

/// The same by any method.
pub(crate) fn with_json(
    method: Method,
    path: &str,
    token: Option<&HeaderValue>,
    json: Bytes,
) -> anyhow::Result<Request> {
    let mut request = request(method, path, token, json)?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(request)
}

/// A checkout under this idempotency key.
pub(crate) fn checkout(token: &HeaderValue, key: Option<&str>) -> anyhow::Result<Request> {
    const KEY: HeaderName = HeaderName::from_static("idempotency-key");
    let body = Bytes::from_static(
        br#"{"shipping_address": "Rheingasse 12, 4058 Basel", "phone": "+41 61 555 01 02"}"#,
    );
    let mut request = post("/api/orders/", Some(token), body)?;
    if let Some(key) = key {
        request.headers_mut().insert(KEY, HeaderValue::from_str(key)?);
    }
    Ok(request)
}

/// A line that goes into the cart.
pub(crate) fn put(token: &HeaderValue, product: i64, quantity: i64) -> anyhow::Result<Request> {
    let body = format!(r#"{{"product_id": {product}, "quantity": {quantity}}}"#);
    post("/api/cart/items/", Some(token), body.into())
}

fn request(method: Method, path: &str, token: Option<&HeaderValue>, body: Bytes) -> anyhow::Result<Request> {
    let mut request = hyper::Request::builder().method(method).uri(path).body(Full::new(body))?;
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, token.clone());
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_is_a_scheme_and_a_host() {
        let site = Site::of_url("http://127.0.0.1:8000/").await.unwrap();
        assert_eq!((site.to_string().as_str(), site.address.port()), ("http://127.0.0.1:8000", 8000));
        assert_eq!(Site::of_url("http://127.0.0.1").await.unwrap().address.port(), 80);
        for bad in ["", "127.0.0.1:8000", "https://127.0.0.1", "http://", "http://127.0.0.1:8000/api/"] {
            assert!(Site::of_url(bad).await.is_err(), "{bad}");
        }
    }
}
