//! A client as thin as hyper makes it: one keep-alive HTTP/1.1 connection, one request at a time.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// An open connection. Dropping it closes it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    /// The task that moves the bytes.
    _moving: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut moving = JoinSet::new();
        moving.spawn(async move {
            // What goes wrong here is an error of the request under way.
            drop(connection.await);
        });
        Ok(Self { sender, host: HeaderValue::from_str(&address.to_string())?, _moving: moving })
    }

    /// Sends `request` and reads the whole answer.
    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> anyhow::Result<(Parts, Bytes)> {
        request.headers_mut().insert(HOST, self.host.clone());
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await.context("no answer")?.into_parts();
        Ok((head, body.collect().await?.to_bytes()))
    }
}

/// A request without a body.
pub(crate) fn get(path: &str, token: Option<&HeaderValue>) -> anyhow::Result<Request<Full<Bytes>>> {
    request(Method::GET, path, token, Bytes::new())
}

/// A request with this JSON as its body.
pub(crate) fn post(
    path: &str,
    token: Option<&HeaderValue>,
    json: Bytes,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = request(Method::POST, path, token, json)?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(request)
}

fn request(
    method: Method,
    path: &str,
    token: Option<&HeaderValue>,
    body: Bytes,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(method).uri(path).body(Full::new(body))?;
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, token.clone());
    }
    Ok(request)
}
