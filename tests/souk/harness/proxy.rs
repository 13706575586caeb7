//! A wire between clients and a shop that can be cut without either side hearing of it: no more bytes, and no end.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Shop;

pub(crate) struct Proxy {
    address: SocketAddr,
    silent: watch::Sender<bool>,
    _wires: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn before(shop: &Shop) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let behind = shop.address();
        let silent = watch::Sender::new(false);
        let heard = silent.subscribe();
        let mut wires = JoinSet::new();
        wires.spawn(async move {
            let mut wires = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&behind).await.expect("the shop listens");
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                wires.spawn(carry(from_client, to_server, heard.clone()));
                wires.spawn(carry(from_server, to_client, heard.clone()));
            }
        });
        Self { address, silent, _wires: wires }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on nothing is carried, and nobody is told.
    pub(crate) fn fall_silent(&self) {
        self.silent.send_replace(true);
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut silent: watch::Receiver<bool>,
) {
    let mut piece = [0; 4096];
    loop {
        tokio::select! {
            biased;
            // Both ends are held for as long as the proxy lives.
            () = async { drop(silent.wait_for(|silent| *silent).await) } => std::future::pending().await,
            read = from.read(&mut piece) => match read {
                Ok(length) if length > 0 && to.write_all(&piece[..length]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
