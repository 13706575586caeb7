//! Clients that take a connection and make nothing of it. The end-to-end suite has them too: it compiles this very file.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::interval;

/// The head of a login, but for the length of its body.
pub(crate) const LOGIN: &str =
    "POST /auth/api/token/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";

/// Says nothing until it is let go.
pub(crate) async fn be_silent(mut reading: impl AsyncRead + Unpin) {
    let mut answer = [0; 256];
    while matches!(reading.read(&mut answer).await, Ok(1..)) {}
}

/// Sends a byte a second until it is let go: of the head of a request, or of its body.
pub(crate) async fn dawdle(stream: impl AsyncRead + AsyncWrite, in_the_body: bool) {
    let (reading, mut writing) = tokio::io::split(stream);
    let writing = async {
        let head = format!("{LOGIN}content-length: 1000\r\n\r\n");
        if in_the_body && writing.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        let bytes = if in_the_body { "{    " } else { LOGIN };
        let mut seconds = interval(Duration::from_secs(1));
        for byte in bytes.bytes().cycle() {
            seconds.tick().await;
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = be_silent(reading) => {}
    }
}
