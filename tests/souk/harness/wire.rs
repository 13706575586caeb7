//! A connection to the shop, spoken to in bytes: for what no client would say.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{DEADLINE, Shop};
use crate::dawdlers::LOGIN;

pub(crate) struct Wire<S = TcpStream> {
    pub(crate) stream: S,
}

impl Wire {
    pub(crate) async fn to(shop: &Shop) -> Self {
        Self { stream: TcpStream::connect(shop.address()).await.expect("the shop listens") }
    }

    /// A connection with a login whose body has begun, and does not go on.
    pub(crate) async fn with_half_a_login(shop: &Shop) -> Self {
        let mut wire = Self::to(shop).await;
        wire.send(LOGIN).await;
        wire.send("content-length: 60\r\n\r\n{").await;
        wire
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("a connection that takes what is sent");
    }

    /// Asks for a path, and gives the whole answer.
    pub(crate) async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        self.answer().await
    }

    /// The next answer: its head, and as much of a body as it announces; nothing if the connection ends.
    pub(crate) async fn answer(&mut self) -> String {
        let reading = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match self.stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return String::from_utf8_lossy(&head).into_owned(),
                }
            }
            let mut answer = String::from_utf8(head).expect("a head of text");
            let length = answer.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().expect("a length"));
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.expect("as much as was announced");
            answer.push_str(&String::from_utf8_lossy(&body));
            answer
        };
        timeout(DEADLINE, reading).await.expect("an answer, or the end")
    }

    /// Waits until the other side ends it.
    pub(crate) async fn is_ended(&mut self) {
        let mut rest = [0; 1024];
        let reading = async { while matches!(self.stream.read(&mut rest).await, Ok(1..)) {} };
        timeout(DEADLINE, reading).await.expect("the end of the connection");
    }
}
