//! The shop speaks TLS itself: HTTPS, HTTP/2 and WSS on one port, with a certificate that can be renewed while it runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::{DEADLINE, Shop, Wire, eventually};

/// A certificate of its own for this machine, with its key.
struct Certificate {
    folder: TempDir,
}

impl Certificate {
    fn new() -> Self {
        let certificate = Self { folder: TempDir::with_prefix("souk-tls-").expect("a folder") };
        certificate.renew();
        certificate
    }

    fn renew(&self) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        fs::write(self.path("cert.pem"), cert.pem()).expect("a file");
        fs::write(self.path("key.pem"), signing_key.serialize_pem()).expect("a file");
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn shop(&self) -> Shop {
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        Shop::start_with(&[("TLS_CERT", &cert), ("TLS_KEY", &key)]).await
    }

    /// Connects as somebody who trusts this certificate alone.
    async fn try_connect(&self, shop: &Shop, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let certificate =
            CertificateDer::from_pem_file(Path::new(&self.path("cert.pem"))).expect("a certificate");
        roots.add(certificate).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        let stream = TcpStream::connect(shop.address()).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn connect(&self, shop: &Shop) -> Wire<TlsStream<TcpStream>> {
        Wire { stream: self.try_connect(shop, "http/1.1").await.expect("a connection with TLS") }
    }
}

fn json_of(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

/// Somebody new: the id and the access token.
async fn register(wire: &mut Wire<TlsStream<TcpStream>>) -> (i64, String) {
    let papers = crate::harness::Shopper::papers("ann").to_string();
    let length = papers.len();
    wire.send(&format!(
        "POST /auth/api/register/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{papers}"
    ))
    .await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let user = json_of(&answer);
    (user["id"].as_i64().expect("an id"), user["access"].as_str().expect("a token").to_owned())
}

#[tokio::test]
async fn https_and_websockets_over_it_are_served_and_nothing_else() {
    let certificate = Certificate::new();
    let shop = certificate.shop().await;
    assert!(shop.url().starts_with("https://"), "{}", shop.url());
    let mut wire = certificate.connect(&shop).await;
    let answer = wire.get("/api/").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age=31536000\r\n"), "{answer}");
    assert!(answer.contains("https://localhost/api/products/"), "{answer}");
    let login = wire.get("/admin/login/").await;
    assert!(login.contains("; Secure\r\n"), "{login}");

    let (id, access) = register(&mut wire).await;
    let mut request = format!("wss://localhost/ws/notifications/{id}/").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {access}").parse().unwrap());
    let stream = certificate.connect(&shop).await.stream;
    let (mut socket, _) = client_async(request, stream).await.expect("a socket over TLS");
    let Some(Ok(Message::Text(ready))) = socket.next().await else { panic!("no greeting") };
    assert!(ready.as_str().contains("connection_ready"), "{ready}");

    // Who does not speak TLS is not understood, and costs nobody anything.
    let mut plain = Wire::to(&shop).await;
    plain.send("GET /api/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    plain.is_ended().await;
    assert!(wire.get("/api/").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn http_2_is_spoken_to_who_offers_it() {
    let certificate = Certificate::new();
    let shop = certificate.shop().await;
    let stream = certificate.try_connect(&shop, "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, talk) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let asking = async {
        for _ in 0..3 {
            let request = hyper::Request::get("https://localhost/api/products/").body(Empty::<Bytes>::new());
            let answer = client.send_request(request.unwrap()).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
            assert!(answer.headers().contains_key("strict-transport-security"));
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["count"], 0);
        }
        let request = hyper::Request::get("https://user@localhost/api/").body(Empty::<Bytes>::new()).unwrap();
        let answer = client.send_request(request).await;
        assert!(answer.is_err() || answer.unwrap().status() == 400, "a host has no user");
    };
    tokio::select! {
        () = asking => {}
        ended = talk => panic!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_renewed_certificate_counts_for_the_connections_to_come() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let shop = old.shop().await;
    let mut before = old.connect(&shop).await;
    assert!(before.get("/api/").await.starts_with("HTTP/1.1 200 "));
    for name in ["cert.pem", "key.pem"] {
        fs::copy(new.path(name), old.path(name)).unwrap();
    }
    shop.signal("HUP").await;
    eventually("the new one is shown", async || new.try_connect(&shop, "http/1.1").await.is_ok()).await;
    assert!(before.get("/api/").await.starts_with("HTTP/1.1 200 "), "nobody is cut off");

    fs::write(old.path("key.pem"), "half a file").unwrap();
    shop.signal("HUP").await;
    eventually("the log says so", async || shop.log().contains("the certificate stays as it was: TLS_KEY: "))
        .await;
    assert!(new.connect(&shop).await.get("/api/").await.starts_with("HTTP/1.1 200 "));
    assert!(!shop.log().contains("half a file"));
}

#[tokio::test]
async fn whoever_does_not_get_on_with_the_handshake_is_let_go() {
    let certificate = Certificate::new();
    let shop = certificate.shop().await;
    let mut silent = TcpStream::connect(shop.address()).await.expect("an open door");
    let mut halting = TcpStream::connect(shop.address()).await.expect("an open door");
    // A record of 512 bytes, of which none comes.
    halting.write_all(&[22, 3, 1, 2, 0]).await.expect("an open door");
    for stream in [&mut silent, &mut halting] {
        let heard = timeout(DEADLINE, stream.read(&mut [0; 64])).await.expect("the server has patience");
        assert!(matches!(heard, Ok(0) | Err(_)), "{heard:?}");
    }
    assert!(certificate.connect(&shop).await.get("/healthz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn bad_files_end_the_start_with_one_line_that_names_the_setting() {
    let certificate = Certificate::new();
    let other = Certificate::new();
    let cases = [
        (
            certificate.path("cert.pem"),
            "/nowhere/key.pem".to_owned(),
            "souk: TLS_KEY: /nowhere/key.pem: cannot be read",
        ),
        (certificate.path("key.pem"), certificate.path("key.pem"), "souk: TLS_CERT: "),
        (certificate.path("cert.pem"), other.path("key.pem"), "souk: TLS_KEY: "),
    ];
    for (cert, key, line) in cases {
        let ran = Shop::closed(&[("TLS_CERT", &cert), ("TLS_KEY", &key)]).souk(&["serve"]).await.fails();
        let errors: Vec<_> = ran.err.lines().filter(|said| said.starts_with("souk: ")).collect();
        assert!(matches!(errors[..], [said] if said.starts_with(line)), "{}", ran.all());
        assert_eq!(ran.code, Some(2), "{}", ran.all());
    }
}
