//! A shop without a socket for tests of handlers: its own database, its own actors, and a client that calls the service.

use std::sync::Arc;
use std::time::Duration;

use salvo::Service;
use salvo::http::{Method, ResBody, Response, StatusCode};
use salvo::test::{RequestBuilder, ResponseExt};
use serde_json::Value;
use souk_actors::{SocketLimits, Tree};
use souk_store::accounts::{self, NewAccount};
use souk_store::cache::Cache;
use souk_store::model::{Timestamp, User};
use souk_store::testing::TestDb;

use crate::{Api, Settings, passwords, service};

/// The password of every account that [`TestShop::user`] makes.
pub(crate) const PASSWORD: &str = "Tangerine-Kite-42";

/// A running shop; [`TestShop::close`] fails if it does not end properly.
pub(crate) struct TestShop {
    pub(crate) api: Arc<Api>,
    pub(crate) service: Service,
    tree: Tree,
    _database: TestDb,
    _folder: tempfile::TempDir,
}

impl TestShop {
    pub(crate) async fn open() -> Self {
        Self::open_for(&[]).await
    }

    /// A shop whose scripts may come from these origins.
    pub(crate) async fn open_for(origins: &[&str]) -> Self {
        let database = TestDb::create().await;
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(1 << 20);
        let tree = Tree::start(&database.db, &cache, SocketLimits::default()).await.unwrap();
        let settings = Settings {
            secret_key: b"a secret of thirty-two bytes or so".to_vec(),
            access_token_life: Duration::from_hours(1),
            refresh_token_life: Duration::from_hours(24),
            cors_allowed_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            rate_limit: None,
            trusted_proxies: Vec::new(),
            max_requests: 100,
            media_root: folder.path().join("media"),
            slow_request: Duration::from_secs(1),
            exports_spans: false,
        };
        let api = Arc::new(Api::new(database.db.clone(), cache, tree.handles().clone(), settings));
        Self { service: service(&api), api, tree, _database: database, _folder: folder }
    }

    pub(crate) async fn close(self) {
        self.api.close().await;
        self.tree.drain(Duration::from_secs(5)).await;
        self.api.db.close().await;
    }

    /// An account, made without the service.
    pub(crate) async fn user(&self, name: &str, is_admin: bool) -> User {
        let new = NewAccount {
            email: format!("{name}@example.com"),
            username: name.to_owned(),
            password_hash: passwords::hash(PASSWORD),
            is_admin,
            ..NewAccount::default()
        };
        accounts::create(&self.api.db, &new).await.unwrap().unwrap()
    }

    /// An access token of an account.
    pub(crate) fn access(&self, user: &User) -> String {
        self.api.tokens.access(user.id, user.login_generation, Timestamp::now())
    }

    /// Calls the service: without a token if that is empty, without a body if that is null.
    pub(crate) async fn call(&self, method: Method, path: &str, token: &str, body: Value) -> Answer {
        let mut request = request(method, path);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        Answer::of(request.send(&self.service).await).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call(Method::POST, path, token, body).await
    }
}

pub(crate) fn request(method: Method, path: &str) -> RequestBuilder {
    RequestBuilder::new(format!("http://shop.example{path}"), method)
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Null if it is no JSON.
    pub(crate) json: Value,
    pub(crate) response: Response,
}

impl Answer {
    pub(crate) async fn of(mut response: Response) -> Self {
        let status = response.status_code.unwrap_or(StatusCode::OK).as_u16();
        let has_text = matches!(response.body, ResBody::Once(_) | ResBody::Chunks(_) | ResBody::Stream(_));
        let text = if has_text { response.take_string().await.unwrap_or_default() } else { String::new() };
        Self { status, json: serde_json::from_str(&text).unwrap_or_default(), response }
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Insists on a status.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.json);
        self
    }
}
