//! Somebody who talks to the shop, with an account or without. A shopper is cheap to clone, so that one can
//! do many things at once, and follows the shop when it comes back on another port.

use std::sync::{Arc, RwLock};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, redirect};
use serde_json::{Value, json};

use super::{Answer, DEADLINE, Knock, PASSWORD, Product, Socket};

/// Where the shop is at the moment.
pub(super) struct Site {
    client: Client,
    base: RwLock<String>,
}

impl Site {
    pub(super) fn nowhere() -> Self {
        // No decoding and no redirects: the tests see what is on the wire.
        let client = Client::builder()
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .redirect(redirect::Policy::none())
            .timeout(DEADLINE)
            .build()
            .expect("an HTTP client");
        Self { client, base: RwLock::new(String::new()) }
    }

    pub(super) fn moved_to(&self, base: &str) {
        base.clone_into(&mut self.base.write().expect("the shop's address"));
    }

    pub(super) fn base(&self) -> String {
        self.base.read().expect("the shop's address").clone()
    }
}

#[derive(Clone)]
pub(crate) struct Shopper {
    site: Arc<Site>,
    pub(crate) id: i64,
    pub(crate) email: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Shopper {
    pub(super) fn anyone(site: Arc<Site>) -> Self {
        Self { site, id: 0, email: String::new(), access: String::new(), refresh: String::new() }
    }

    /// Where the shop is at the moment.
    pub(super) fn base(&self) -> String {
        self.site.base()
    }

    /// The same person elsewhere.
    pub(super) fn at(&self, site: &Arc<Site>) -> Self {
        Self { site: Arc::clone(site), ..self.clone() }
    }

    /// What somebody of that name sends to register.
    pub(crate) fn papers(name: &str) -> Value {
        json!({
            "email": format!("{name}@example.com"),
            "username": name,
            "password": PASSWORD,
            "password_confirm": PASSWORD,
        })
    }

    pub(crate) async fn registered_as(&self, name: &str) -> Self {
        let answer = self.post("/auth/api/register/", Self::papers(name)).await.is(201);
        Self {
            site: Arc::clone(&self.site),
            id: answer.id(),
            email: format!("{name}@example.com"),
            access: answer.text("access").to_owned(),
            refresh: answer.text("refresh").to_owned(),
        }
    }

    pub(crate) async fn signed_in_as(&self, email: &str, password: &str) -> Self {
        let login = json!({ "email": email, "password": password });
        let tokens = self.post("/auth/api/token/", login).await.is(200);
        let mut shopper = self.bearing(tokens.text("access"));
        shopper.refresh = tokens.text("refresh").to_owned();
        shopper.id = shopper.get("/auth/api/profile/").await.is(200).id();
        email.clone_into(&mut shopper.email);
        shopper
    }

    /// The same person with another access token, or a forged one.
    pub(crate) fn bearing(&self, access: &str) -> Self {
        Self { access: access.to_owned(), ..self.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path).json(&body).send().await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path).json(&body).send().await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path).json(&body).send().await
    }

    /// A request with something particular about it. An absolute URL is taken as it is, as a page's `next`
    /// gives it.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        let url = if path.starts_with("http") { path.to_owned() } else { self.site.base() + path };
        let mut headers = HeaderMap::new();
        if !self.access.is_empty() {
            headers.insert("authorization", format!("Bearer {}", self.access).parse().expect("a token"));
        }
        Call { client: self.site.client.clone(), method, url, headers, body: None }
    }

    pub(crate) async fn put_in_cart(&self, product: &Product, quantity: i64) -> Answer {
        self.post("/api/cart/items/", json!({ "product_id": product.id, "quantity": quantity })).await
    }

    pub(crate) async fn fill_cart(&self, product: &Product, quantity: i64) {
        self.put_in_cart(product, quantity).await.is(201);
    }

    pub(crate) async fn cart(&self) -> Answer {
        self.get("/api/cart/").await.is(200)
    }

    pub(crate) async fn checkout(&self) -> Answer {
        self.post("/api/orders/", json!({})).await
    }

    pub(crate) fn checkout_with_key(&self, key: &str) -> Call {
        self.call(Method::POST, "/api/orders/").header("idempotency-key", key).json(&json!({}))
    }

    /// Buys, and expects to get it.
    pub(crate) async fn buy(&self, product: &Product, quantity: i64) -> Answer {
        self.fill_cart(product, quantity).await;
        self.checkout().await.is(201)
    }

    /// As an admin: moves an order on.
    pub(crate) async fn set_status(&self, order: i64, status: &str) -> Answer {
        self.patch(&format!("/api/orders/{order}/status/"), json!({ "status": status })).await
    }

    pub(crate) fn knock(&self) -> Knock {
        Knock::at(&self.site.base(), self.id)
    }

    /// The same over another address of the shop.
    pub(crate) fn knock_at(&self, base: &str) -> Knock {
        Knock::at(base, self.id)
    }

    /// A live socket, its `connection_ready` already read.
    pub(crate) async fn socket(&self) -> Socket {
        self.knock().bearer(&self.access).open().await
    }

    pub(crate) async fn socket_from(&self, last_event_id: i64) -> Socket {
        self.knock().bearer(&self.access).query("last_event_id", &last_event_id.to_string()).open().await
    }
}

/// One request on its way.
#[derive(Clone)]
pub(crate) struct Call {
    client: Client,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl Call {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header's name");
        // From bytes, since some tests send what is no good.
        self.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header's value"));
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        if kind.is_empty() { self } else { self.header("content-type", kind) }
    }

    pub(crate) async fn send(self) -> Answer {
        let asked = self.in_words();
        match self.try_send().await {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error:?}\nasked: {asked}"),
        }
    }

    /// For a server that may be killed meanwhile: an answer that did not come whole is an error.
    pub(crate) async fn try_send(self) -> reqwest::Result<Answer> {
        let asked = self.in_words();
        let mut request = self.client.request(self.method, self.url).headers(self.headers);
        if let Some(body) = self.body {
            request = request.body(body);
        }
        Answer::read(asked, request.send().await?).await
    }

    fn in_words(&self) -> String {
        let body = self.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let body: String = body.chars().take(600).collect();
        format!("{} {} {body}", self.method, self.url)
    }
}
