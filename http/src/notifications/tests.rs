//! The door, over real sockets; and what happens on an open one, with the clock in hand.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use salvo::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use souk_actors::{SocketLimits, Tree};
use souk_store::accounts;
use souk_store::cache::{Cache, Key};
use souk_store::model::{EventId, Timestamp, UserId};
use souk_store::testing::TestDb;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, pause, resume, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request as Knock;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::socket::Visit;
use crate::tokens::Access;
use crate::{Api, Server, ServerLimits, Settings, service};

/// A shop with nothing in it, and its actors.
struct House {
    test: TestDb,
    api: Arc<Api>,
    tree: Tree,
}

impl House {
    async fn open() -> Self {
        Self::with(SocketLimits::default()).await
    }

    async fn with(limits: SocketLimits) -> Self {
        let test = TestDb::create().await;
        let cache = Cache::new(1024 * 1024);
        let tree = Tree::start(&test.db, &cache, limits).await.unwrap();
        let settings = Settings {
            secret_key: b"a secret of thirty-two bytes or so".to_vec(),
            access_token_life: Duration::from_hours(1),
            refresh_token_life: Duration::from_hours(1),
            cors_allowed_origins: vec!["https://friend.example".to_owned()],
            rate_limit: None,
            trusted_proxies: Vec::new(),
            max_requests: 100,
            // Nobody uploads here.
            media_root: "nowhere".into(),
            slow_request: Duration::from_secs(1),
            exports_spans: false,
        };
        let api = Arc::new(Api::new(test.db.clone(), cache, tree.handles().clone(), settings));
        Self { test, api, tree }
    }

    async fn admin(&self) -> UserId {
        let admin = self.test.user().await;
        self.switch(admin, None, Some(true)).await;
        admin
    }

    async fn switch(&self, user: UserId, is_active: Option<bool>, is_admin: Option<bool>) {
        accounts::switch(&self.test.db, user, is_active, is_admin, None).await.unwrap();
        self.api.handles.invalidator.forget(&[Key::User(user)]);
    }

    fn token(&self, user: UserId) -> String {
        self.api.tokens.access(user, 0, Timestamp::now())
    }

    async fn happen(&self, user: UserId, count: i64) {
        self.api.handles.sessions.tell(self.test.events(user, count).await);
    }

    /// An open socket of `viewer` on the events of `user`, without a network in between.
    async fn visit(
        &self,
        user: UserId,
        viewer: UserId,
        from: Option<i64>,
        life: i64,
    ) -> Client<DuplexStream> {
        let attached =
            self.api.handles.sessions.attach(user, viewer, from.map(EventId)).await.expect("there is room");
        // It is known from here on, so that nothing waits for the database while the clock is in hand.
        self.api.cache.user(&self.api.db, viewer).await.unwrap();
        let access =
            Access { user: viewer, expires_at: Timestamp::now().unix_seconds() + life, generation: 0 };
        let mut visit = Visit::new(self.api.clone(), access, user, attached);
        let (near, far) = duplex(1024);
        let serving = spawn(async move {
            let config = Some(super::config());
            let mut stream = WebSocketStream::from_raw_socket(near, Role::Server, config).await;
            visit.serve(&mut stream).await;
        });
        let stream = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        let mut client = Client { stream, serving: Some(serving), headers: HeaderMap::new() };
        assert_eq!(client.next().await["type"], "connection_ready");
        client
    }

    async fn close(self) {
        self.tree.drain(Duration::from_secs(5)).await;
    }
}

struct Client<S> {
    stream: WebSocketStream<S>,
    serving: Option<JoinHandle<()>>,
    /// Of the answer that agreed.
    headers: HeaderMap,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The next message that is not a ping.
    async fn next(&mut self) -> Value {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(text.as_str()).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("not a message: {other:?}"),
            }
        }
    }

    async fn say(&mut self, text: &str) -> Value {
        self.stream.send(Message::text(text)).await.unwrap();
        self.next().await
    }

    async fn expect_events(&mut self, numbers: impl IntoIterator<Item = i64>) {
        for number in numbers {
            assert_eq!(self.next().await["id"], number);
        }
    }

    /// Reads to the end and gives the close code; the server's task must end too.
    async fn closed_with(mut self) -> u16 {
        let code = loop {
            match self.stream.next().await.expect("a close frame before the end") {
                Ok(Message::Close(frame)) => break frame.expect("a code").code.into(),
                Ok(_) => {}
                Err(error) => panic!("cut off: {error}"),
            }
        };
        while let Some(Ok(_)) = self.stream.next().await {}
        drop(self.stream);
        if let Some(serving) = self.serving {
            serving.await.unwrap();
        }
        code
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests wait for it")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

/// The code with which a socket is closed to which a text of so many bytes is sent.
async fn closed_over<S: AsyncRead + AsyncWrite + Unpin>(stream: WebSocketStream<S>, bytes: usize) -> u16 {
    let (mut sender, mut receiver) = stream.split();
    let sending = async {
        // It may be cut off before all is sent.
        drop(sender.send(Message::text("x".repeat(bytes))).await);
    };
    let receiving = async {
        loop {
            match receiver.next().await {
                Some(Ok(Message::Close(frame))) => break u16::from(frame.unwrap().code),
                Some(Ok(_)) => {}
                other => panic!("cut off: {other:?}"),
            }
        }
    };
    tokio::join!(sending, receiving).1
}

#[tokio::test]
async fn events_come_as_the_contract_shows_them() {
    let house = House::open().await;
    let user = house.test.user().await;
    let told = house.test.events(user, 1).await;
    let mut client = house.visit(user, user, Some(0), 60).await;
    let expected = json!({
        "type": "order_status_update",
        "id": 1,
        "order_id": 1001,
        "status": "shipped",
        "previous_status": "pending",
        "message": "Order 1001 is now shipped.",
        "created_at": told[0].created_at.to_string(),
    });
    assert_eq!(client.next().await, expected);
    drop(client);
    house.close().await;
}

#[tokio::test]
async fn clients_may_ping_mark_as_read_and_are_told_what_else_is_wrong() {
    let house = House::open().await;
    let (user, admin) = (house.test.user().await, house.admin().await);
    house.happen(user, 3).await;
    let mut client = house.visit(user, user, None, 60).await;
    assert_eq!(client.say(r#"{"type": "ping", "more": 1}"#).await, json!({"type": "pong"}));
    for nonsense in ["", "{}", "[]", r#"{"type":"read"}"#, r#"{"type":"read","up_to":"3"}"#, "\u{0}"] {
        let answer = client.say(nonsense).await;
        assert_eq!((&answer["type"], answer["detail"].is_string()), (&json!("error"), true), "{nonsense}");
    }
    client.stream.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(client.next().await["type"], "error");
    client.stream.send(Message::text(r#"{"type": "read", "up_to": 2}"#)).await.unwrap();
    assert_eq!(client.say(r#"{"type": "ping"}"#).await, json!({"type": "pong"}));
    let inbox = souk_store::events::inbox(&house.test.db, user).await.unwrap();
    assert_eq!(inbox.read_up_to, EventId(2));

    let mut watching = house.visit(user, admin, None, 60).await;
    assert_eq!(watching.say(r#"{"type": "read", "up_to": 3}"#).await["type"], "error");
    drop((client, watching));
    house.close().await;
}

#[tokio::test]
async fn whoever_answers_pings_stays_and_whoever_does_not_is_closed() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut answering = house.visit(user, user, None, 3600).await;
    pause();
    let started = Instant::now();
    let mut pings = 0;
    while pings < 10 {
        if let Some(Ok(Message::Ping(_))) = answering.stream.next().await {
            pings += 1;
        }
    }
    assert_eq!(started.elapsed().as_secs(), 300);
    // From now on it hears, and says nothing.
    let silent = answering;
    let (mut reader, started) = (silent.stream.into_inner(), Instant::now());
    let mut heard = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut heard).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 60, "the last ping was not answered, nor the one after it");
    assert!(heard.windows(2).any(|pair| pair == 1011_u16.to_be_bytes()));
    drop(reader);
    silent.serving.unwrap().await.unwrap();
    resume();
    house.close().await;
}

#[tokio::test]
async fn a_socket_ends_with_its_token_its_account_and_the_server() {
    let house = House::open().await;
    let (user, admin, other) = (house.test.user().await, house.admin().await, house.admin().await);
    let expiring = house.visit(user, user, None, 1).await;
    assert_eq!(expiring.closed_with().await, 4401);

    let (own, watching) =
        (house.visit(admin, admin, None, 60).await, house.visit(user, admin, None, 60).await);
    house.switch(admin, Some(false), None).await;
    assert_eq!((own.closed_with().await, watching.closed_with().await), (4401, 4401));

    let watching = house.visit(user, other, None, 3600).await;
    accounts::switch(&house.test.db, admin, Some(true), None, None).await.unwrap();
    house.switch(other, None, Some(false)).await;
    house.api.cache.user(&house.test.db, other).await.unwrap();
    pause();
    assert_eq!(watching.closed_with().await, 4403, "at the next ping");
    resume();

    let last = house.visit(user, user, None, 60).await;
    let (code, ()) = tokio::join!(last.closed_with(), house.close());
    assert_eq!(code, 1001);
}

#[tokio::test]
async fn a_message_that_is_too_long_or_broken_closes_the_socket() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut client = house.visit(user, user, None, 60).await;
    assert_eq!(client.say(&"x".repeat(4096)).await["type"], "error");
    assert_eq!(closed_over(client.stream, 300_000).await, 1009);
    client.serving.unwrap().await.unwrap();

    // A text frame, final and masked with zeros, of one byte that no UTF-8 has; and a frame of an unknown kind.
    for (frame, code) in [([0x81, 0x81, 0, 0, 0, 0, 0xff], 1007_u16), ([0x83, 0x81, 0, 0, 0, 0, 0], 1002)] {
        let client = house.visit(user, user, None, 60).await;
        let (mut raw, mut heard) = (client.stream.into_inner(), Vec::new());
        tokio::io::AsyncWriteExt::write_all(&mut raw, &frame).await.unwrap();
        timeout(Duration::from_secs(1), tokio::io::AsyncReadExt::read_to_end(&mut raw, &mut heard))
            .await
            .expect("it is closed at once")
            .unwrap();
        assert!(heard.windows(2).any(|pair| pair == code.to_be_bytes()), "{heard:?}");
        drop(raw);
        client.serving.unwrap().await.unwrap();
    }
    house.close().await;
}

#[tokio::test]
async fn whoever_never_reads_is_dropped_and_leaves_nothing_behind() {
    let house = House::open().await;
    let user = house.test.user().await;
    let client = house.visit(user, user, None, 3600).await;
    house.happen(user, 50).await;
    pause();
    let started = Instant::now();
    client.serving.unwrap().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(35), "{:?}", started.elapsed());
    resume();
    assert_eq!(house.api.handles.sessions.counts().sockets, 0);
    house.close().await;
}

/// The same shop behind a real listener.
struct Street {
    house: House,
    server: Server,
    address: String,
}

impl Street {
    async fn open(limits: SocketLimits) -> Self {
        let house = House::with(limits).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::start(listener, service(&house.api), None, ServerLimits { connections: 100 });
        Self { house, server, address }
    }

    fn knock(&self, path_and_query: &str, headers: &[(&'static str, &str)]) -> Knock {
        let mut knock = format!("ws://{}{path_and_query}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            knock.headers_mut().insert(*name, value.parse().unwrap());
        }
        knock
    }

    async fn enter(&self, knock: Knock) -> Result<Client<TcpStream>, (StatusCode, Value)> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        match client_async(knock, stream).await {
            Ok((stream, response)) => {
                let mut client = Client { stream, serving: None, headers: response.headers().clone() };
                assert_eq!(client.next().await["type"], "connection_ready");
                Ok(client)
            }
            Err(Error::Http(response)) => {
                let body = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
                Err((response.status(), body))
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn refused(&self, knock: Knock) -> (u16, Value) {
        let uri = knock.uri().clone();
        let Err((status, body)) = self.enter(knock).await else { panic!("{uri} lets in") };
        (status.as_u16(), body)
    }

    async fn close(self) {
        let (tree, server) = (self.house.tree, self.server);
        server.stop(Duration::from_secs(5)).await;
        tree.drain(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn four_ways_lead_in() {
    let street = Street::open(SocketLimits::default()).await;
    let user = street.house.test.user().await;
    let token = street.house.token(user);
    let door = format!("/ws/notifications/{user}/");
    let ticket = async || {
        let access = Access { user, expires_at: Timestamp::now().unix_seconds() + 60, generation: 0 };
        street.house.api.tickets.issue(access).await.unwrap()
    };
    let bearer = format!("Bearer {token}");
    street.enter(street.knock(&door, &[("authorization", &bearer)])).await.unwrap();
    let no_slash = door.trim_end_matches('/');
    street.enter(street.knock(no_slash, &[("authorization", &bearer)])).await.unwrap();
    let offered = format!("bearer, {token}");
    let client = street.enter(street.knock(&door, &[("sec-websocket-protocol", &offered)])).await.unwrap();
    assert_eq!(client.headers["sec-websocket-protocol"], "bearer");
    street.enter(street.knock(&format!("{door}?token={token}"), &[])).await.unwrap();
    let ticket = ticket().await;
    street.enter(street.knock(&format!("{door}?ticket={ticket}"), &[])).await.unwrap();
    assert_eq!(street.refused(street.knock(&format!("{door}?ticket={ticket}"), &[])).await.0, 401);
    drop(client);
    street.close().await;
}

#[tokio::test]
async fn everybody_else_is_refused_before_the_upgrade() {
    let street = Street::open(SocketLimits { total: 3, per_user: 2 }).await;
    let (user, other) = (street.house.test.user().await, street.house.test.user().await);
    let admin = street.house.admin().await;
    let bearer = |user| format!("Bearer {}", street.house.token(user));
    let (mine, admins) = (bearer(user), bearer(admin));
    let door = format!("/ws/notifications/{user}/");
    let not_provided = json!({"detail": "Authentication credentials were not provided."});
    assert_eq!(street.refused(street.knock(&door, &[])).await, (401, not_provided));
    let foreign = ("origin", "https://evil.example");
    for (path, headers, status) in [
        (door.clone(), vec![("authorization", "Bearer nonsense")], 401),
        (door.clone(), vec![("sec-websocket-protocol", "bearer, nonsense")], 401),
        (door.clone(), vec![("sec-websocket-protocol", "bearer")], 401),
        (format!("{door}?ticket=nonsense"), vec![foreign], 401),
        (format!("{door}?token=nonsense"), vec![foreign], 401),
        (door.clone(), vec![("authorization", &mine), foreign], 403),
        (door.clone(), vec![("authorization", &mine), ("origin", "null")], 403),
        (door.clone(), vec![("authorization", &mine), ("origin", "http://friend.example")], 403),
        (format!("/ws/notifications/{other}/"), vec![("authorization", &mine)], 403),
        ("/ws/notifications/999999/".to_owned(), vec![("authorization", &mine)], 403),
        ("/ws/notifications/999999/".to_owned(), vec![("authorization", &admins)], 404),
        ("/ws/notifications/x/".to_owned(), vec![("authorization", &mine)], 404),
        (format!("{door}?last_event_id=x"), vec![("authorization", &mine)], 400),
        (format!("{door}?last_event_id=-1"), vec![("authorization", &mine)], 400),
    ] {
        let (found, body) = street.refused(street.knock(&path, &headers)).await;
        assert_eq!(found, status, "{path} {headers:?}: {body}");
        assert_eq!(body["last_event_id"].is_array(), status == 400, "{body}");
    }
    let mut inside = Vec::new();
    let own = format!("http://{}", street.address);
    for origin in [own.as_str(), "https://friend.example"] {
        let knock = street.knock(&door, &[("authorization", &mine), ("origin", origin)]);
        inside.push(street.enter(knock).await.unwrap());
    }
    let knock = || street.knock(&door, &[("authorization", &mine)]);
    assert_eq!(street.refused(knock()).await.0, 503, "two of one user");
    inside.pop();
    let next = async {
        loop {
            if let Ok(client) = street.enter(knock()).await {
                break client;
            }
        }
    };
    inside.push(timeout(Duration::from_secs(10), next).await.expect("a place that is left is free"));
    drop(inside);
    street.close().await;
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let street = Street::open(SocketLimits::default()).await;
    let user = street.house.test.user().await;
    let token = street.house.token(user);
    let upgrade = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: AAAA\r\n";
    for (headers, status) in [
        (String::new(), "426"),
        (format!("{upgrade}Sec-WebSocket-Version: 8\r\n"), "426"),
        ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n".to_owned(), "400"),
        (format!("{upgrade}Sec-WebSocket-Version: 13\r\n"), "101"),
    ] {
        let mut stream = TcpStream::connect(&street.address).await.unwrap();
        let request = format!(
            "GET /ws/notifications/{user}/ HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n{headers}\r\n",
            street.address
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
        assert_eq!(head.contains("upgrade: websocket"), status != "400", "{head}");
    }
    street.close().await;
}

#[tokio::test]
async fn over_the_network_nothing_is_missed_and_the_end_is_heard() {
    let street = Street::open(SocketLimits::default()).await;
    let user = street.house.test.user().await;
    street.house.happen(user, 230).await;
    let door = format!("/ws/notifications/{user}/?token={}", street.house.token(user));
    let mut client = street.enter(street.knock(&format!("{door}&last_event_id=7"), &[])).await.unwrap();
    client.expect_events(8..=120).await;
    street.house.happen(user, 20).await;
    client.expect_events(121..=250).await;
    let mut ahead =
        street.enter(street.knock(&format!("{door}&last_event_id=99999999999999999999"), &[])).await.unwrap();
    street.house.happen(user, 1).await;
    client.expect_events([251]).await;
    ahead.expect_events([251]).await;
    // A message far too long: the reason arrives although most of it was never read as a message.
    assert_eq!(closed_over(ahead.stream, 3_000_000).await, 1009);
    let (code, ()) = tokio::join!(client.closed_with(), street.close());
    assert_eq!(code, 1001);
}
