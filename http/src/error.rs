//! What a request gets when it does not get what it asked for: one type, one place that turns it into HTTP.
//!
//! Handlers return `Result<_, ApiError>` and build errors by the constructors here, which are named after their meaning
//! and carry the contract's wording. A [`StoreError`] becomes an answer by `?`: 503 if the same call may succeed
//! later, 500 otherwise; it is logged here, once, with its causes, and its text never reaches the client.

use std::fmt;

use salvo::http::{HeaderValue, StatusCode, header};
use salvo::{Depot, Request, Response, Writer, async_trait};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use souk_actors::Refused;
use souk_store::ledger::Refusal;
use souk_store::{StoreError, chain};

use crate::admin;
use crate::workers::Busy;

/// Seconds after which a client may try again when the service is over capacity or its database is away.
pub(crate) const RETRY_AFTER: u64 = 1;

/// An answer other than the one asked for.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Answer>);

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    body: Body,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Body {
    Detail(Map<String, Value>),
    Fields(FieldErrors),
}

impl ApiError {
    /// An answer with this status and `{"detail": …}`, for what no other constructor names.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let body = Map::from_iter([("detail".to_owned(), Value::String(detail.into()))]);
        Self(Box::new(Answer { status, body: Body::Detail(body), headers: Vec::new() }))
    }

    /// Adds a member beside `detail`.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        match &mut self.0.body {
            Body::Detail(body) => drop(body.insert(name.to_owned(), value)),
            Body::Fields(_) => debug_assert!(false, "field errors have no further members"),
        }
        self
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The connection is not used for another request.
    pub(crate) fn and_close(self) -> Self {
        self.header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// When to come again, if it says so.
    pub(crate) fn retry_after(&self) -> Option<&HeaderValue> {
        let mut headers = self.0.headers.iter();
        headers.find(|(name, _)| *name == header::RETRY_AFTER).map(|(_, value)| value)
    }

    fn come_again_in(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, seconds.into())
    }

    fn challenge(self) -> Self {
        self.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"api\""))
    }

    /// 400: the request makes no sense, for a reason that belongs to no field.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 400: the body is no JSON.
    pub(crate) fn not_json(reason: impl fmt::Display) -> Self {
        Self::bad_request(format!("JSON parse error - {reason}"))
    }

    /// 400: the body is no form as its media type says.
    pub(crate) fn not_a_form(reason: impl fmt::Display) -> Self {
        Self::bad_request(format!("Multipart form parse error - {reason}"))
    }

    /// 400: these fields (or query parameters) are wrong.
    pub(crate) fn fields(errors: FieldErrors) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self(Box::new(Answer { status, body: Body::Fields(errors), headers: Vec::new() }))
    }

    /// 400: this one field is wrong.
    pub(crate) fn field(name: &str, message: impl Into<String>) -> Self {
        Self::fields(FieldErrors::of(name, message))
    }

    /// 401: the call needs a signed-in user.
    pub(crate) fn not_authenticated() -> Self {
        Self::not_authenticated_because("Authentication credentials were not provided.")
    }

    /// 401 with another text.
    pub(crate) fn not_authenticated_because(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail).challenge()
    }

    /// 401: the bearer token of a request is bad or its time is over; `message` says which.
    pub(crate) fn invalid_access_token(message: &str) -> Self {
        let messages = json!([{"token_class": "AccessToken", "token_type": "access", "message": message}]);
        Self::not_authenticated_because("Given token not valid for any token type")
            .with("code", "token_not_valid")
            .with("messages", messages)
    }

    /// 401: a token given in a body is bad or its time is over; `message` says which.
    pub(crate) fn invalid_token(message: &str) -> Self {
        Self::not_authenticated_because(message).with("code", "token_not_valid")
    }

    /// 403: signed in, but not allowed.
    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "You do not have permission to perform this action.")
    }

    /// 404: not there, or not the caller's.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found.")
    }

    /// 404: no such page of a list.
    pub(crate) fn invalid_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Invalid page.")
    }

    /// 405; `allow` lists the methods that the path does serve.
    pub(crate) fn method_not_allowed(method: &str, allow: HeaderValue) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("Method \"{method}\" not allowed."))
            .header(header::ALLOW, allow)
    }

    /// 408: the body did not arrive in time.
    pub(crate) fn body_too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "The request body did not arrive in time.")
    }

    /// 409: the present state does not allow it. More members by [`ApiError::with`].
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 412: the resource changed since the `ETag` that the client names.
    pub(crate) fn precondition_failed() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "The resource has changed since it was read.")
    }

    /// 413: the body is larger than this path takes.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The request body is larger than {limit} bytes."))
    }

    /// 414.
    pub(crate) fn target_too_long(limit: usize) -> Self {
        Self::new(StatusCode::URI_TOO_LONG, format!("The URL is longer than {limit} bytes."))
    }

    /// 413: an uploaded file is larger than any may be.
    pub(crate) fn file_too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The uploaded file is larger than {limit} bytes."))
    }

    /// 415: not a media type that this path takes.
    pub(crate) fn unsupported_media_type(media_type: &str) -> Self {
        let detail = format!("Unsupported media type \"{media_type}\" in request.");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 422: well-formed, but at odds with an earlier request.
    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 429: too many tries; the next one is heard in `seconds`.
    pub(crate) fn throttled(seconds: u64) -> Self {
        let unit = if seconds == 1 { "second" } else { "seconds" };
        let detail = format!("Request was throttled. Expected available in {seconds} {unit}.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).come_again_in(seconds)
    }

    /// 500. The cause belongs into the log, not here.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error.")
    }

    /// 503: a queue is full or an actor is restarting; nothing was done.
    pub(crate) fn over_capacity() -> Self {
        Self::unavailable("The service is over capacity. Try again later.")
    }

    /// 503: the server is going down; nothing was done.
    pub(crate) fn shutting_down() -> Self {
        Self::unavailable("The service is shutting down.")
    }

    /// 503: the request's own deadline passed; what it asked for may still happen.
    pub(crate) fn deadline_passed() -> Self {
        Self::unavailable("The request took too long.")
    }

    /// 503 with another text.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).come_again_in(RETRY_AFTER)
    }

    /// The answer for a status that something other than a handler set, without a body.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::FORBIDDEN => Self::forbidden(),
            StatusCode::UNAUTHORIZED => Self::not_authenticated(),
            StatusCode::INTERNAL_SERVER_ERROR => Self::internal(),
            StatusCode::SERVICE_UNAVAILABLE => Self::over_capacity(),
            other => Self::new(other, format!("{}.", other.canonical_reason().unwrap_or("Request failed"))),
        }
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What it says; of bad fields, nothing.
    pub(crate) fn detail(&self) -> &str {
        match &self.0.body {
            Body::Detail(body) => body.get("detail").and_then(Value::as_str).unwrap_or_default(),
            Body::Fields(_) => "",
        }
    }

    /// The bad fields that it is about, for a form to show; any other error stays one.
    pub(crate) fn into_fields(self) -> Result<FieldErrors, Self> {
        match *self.0 {
            Answer { body: Body::Fields(errors), .. } => Ok(errors),
            answer => Err(Self(Box::new(answer))),
        }
    }

    /// Puts the answer in the place of whatever the response holds: JSON, or on the administration site a page.
    pub(crate) fn render(self, req: &Request, res: &mut Response) {
        if admin::serves(req) {
            admin::errors::render(self.0.status, self.detail(), res);
            for (name, value) in self.0.headers {
                res.headers_mut().insert(name, value);
            }
            return;
        }
        let body = serde_json::to_vec(&self.0.body).unwrap_or_default();
        for name in [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::ETAG] {
            res.headers_mut().remove(name);
        }
        res.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.0.headers {
            res.headers_mut().insert(name, value);
        }
        res.status_code(self.0.status);
        res.body(body);
    }
}

#[async_trait]
impl Writer for ApiError {
    async fn write(self, req: &mut Request, _depot: &mut Depot, res: &mut Response) {
        self.render(req, res);
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(_) => {
                tracing::warn!(error = chain(&error), "the database is not available");
                Self::unavailable("The database is not available. Try again later.")
            }
            StoreError::Uncertain(_) => {
                tracing::warn!(error = chain(&error), "the outcome of a commit is unknown");
                Self::unavailable("It is not known whether the change was stored. Look before you try again.")
            }
            // Where two of a kind are expected to race, the store's function answers with a row count instead.
            StoreError::Duplicate(_) => {
                tracing::warn!(error = chain(&error), "a unique value was taken unexpectedly");
                Self::conflict("A unique value is taken already.")
            }
            StoreError::Fault(_)
            | StoreError::Migration(_)
            | StoreError::Url(_)
            | StoreError::Unusable(_) => {
                tracing::error!(error = chain(&error), "a request failed in the database");
                Self::internal()
            }
        }
    }
}

impl From<Busy> for ApiError {
    fn from(_: Busy) -> Self {
        Self::over_capacity()
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Busy => Self::over_capacity(),
            Refused::Unavailable => Self::unavailable("Not available at the moment. Try again later."),
            Refused::Uncertain => {
                Self::unavailable("It is not known whether this was done. Look before you try again.")
            }
            Refused::Fault => Self::internal(),
            Refused::Books(refusal) => refusal.into(),
            Refused::TooFew { available } => {
                Self::field("quantity", format!("Only {available} available in stock."))
            }
            Refused::TooMany => {
                let most = souk_store::model::MAX_QUANTITY;
                Self::field("quantity", format!("Ensure this value is less than or equal to {most}."))
            }
            Refused::CartFull => {
                let most = souk_store::model::MAX_CART_LINES;
                Self::field(
                    FieldErrors::NON_FIELD,
                    format!("A cart holds at most {most} different products."),
                )
            }
            Refused::NoSuchItem => Self::not_found(),
            Refused::ProductGone => Self::field("product_id", "This product is no longer there."),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::CartEmpty => Self::bad_request("Cart is empty."),
            Refusal::CartMoved => Self::unavailable("The cart is being changed elsewhere. Try again."),
            Refusal::OutOfStock(missing) => Self::conflict("Insufficient stock.").with("items", missing),
            Refusal::KeyReused => {
                Self::unprocessable("This Idempotency-Key was used before with another request body.")
            }
            Refusal::OrderNotFound | Refusal::ProductNotFound => Self::not_found(),
            Refusal::WrongStep(wrong) => Self::field("status", wrong.to_string()),
            Refusal::ProductChanged => Self::precondition_failed(),
            Refusal::SkuTaken => Self::field("sku", "product with this sku already exists."),
            Refusal::CategoryNotFound => Self::field("category", "This category is no longer there."),
            Refusal::StockIs(stock) => {
                Self::conflict("The stock level does not allow this.").with("stock", stock)
            }
        }
    }
}

/// The messages about each bad field, in the order in which they were found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldErrors(Vec<(String, FieldError)>);

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum FieldError {
    Messages(Vec<String>),
    Nested(FieldErrors),
}

impl FieldErrors {
    /// The name under which messages stand that belong to no single field.
    pub(crate) const NON_FIELD: &'static str = "non_field_errors";

    /// Adds a message about a field.
    pub(crate) fn add(&mut self, name: &str, message: impl Into<String>) {
        let known = self.0.iter_mut().find_map(|(known, error)| match error {
            FieldError::Messages(messages) if known == name => Some(messages),
            _ => None,
        });
        match known {
            Some(messages) => messages.push(message.into()),
            None => self.0.push((name.to_owned(), FieldError::Messages(vec![message.into()]))),
        }
    }

    /// Adds the messages about the fields of an object within; none, nothing.
    pub(crate) fn add_nested(&mut self, name: &str, errors: Self) {
        if errors.is_empty() {
            return;
        }
        let known = self.0.iter_mut().find_map(|(known, error)| match error {
            FieldError::Nested(nested) if known == name => Some(nested),
            _ => None,
        });
        match known {
            Some(nested) => nested.0.extend(errors.0),
            None => self.0.push((name.to_owned(), FieldError::Nested(errors))),
        }
    }

    /// One message about a field.
    pub(crate) fn of(name: &str, message: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.add(name, message);
        errors
    }

    /// One message that belongs to no single field.
    pub(crate) fn of_all(message: &str) -> Self {
        Self::of(Self::NON_FIELD, message)
    }

    /// The messages about this field.
    pub(crate) fn messages(&self, name: &str) -> &[String] {
        self.0
            .iter()
            .find_map(|(known, error)| match error {
                FieldError::Messages(messages) if known == name => Some(messages.as_slice()),
                _ => None,
            })
            .unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a message about this field.
    pub(crate) fn concern(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// The error to answer with, if there is any message.
    pub(crate) fn into_result(self) -> Result<(), ApiError> {
        if self.is_empty() { Ok(()) } else { Err(ApiError::fields(self)) }
    }
}

impl Serialize for FieldErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, error)| (name, error)))
    }
}
