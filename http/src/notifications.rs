//! Notifications: the list of a user's events, its read mark, and the door to the WebSocket that tells of them as they
//! happen (contract: Cart and orders; WebSocket).
//!
//! Whoever is not let in is told so in HTTP, before the upgrade: 401, a foreign origin 403, somebody else's events 403,
//! nobody's 404, no WebSocket at all 426, a bad `last_event_id` 400, no room 503. What happens on an open socket is in
//! [`socket`]. Tokens and tickets in the query appear in no log: nothing here logs the query.

mod operations;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use salvo::http::{HeaderValue, Method, StatusCode, Version, header};
use salvo::hyper::upgrade::OnUpgrade;
use salvo::rt::tokio::TokioIo;
use salvo::{Depot, Request, Response, Router};
use serde::Serialize;
use souk_store::events;
use souk_store::model::{Event, EventId, EventKind, Money, OrderId, OrderStatus, Timestamp, UserId};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

pub(crate) use self::operations::{operations, schemas};
use self::socket::Visit;
use crate::Api;
use crate::error::ApiError;
use crate::extract::{self, SignedIn, active_user, api, authenticate, require_user, viewer};
use crate::page::PageQuery;
use crate::query::Query;
use crate::reply::Reply;
use crate::route::route;

/// The longest message that a client may send; beyond it the socket is closed.
const MAX_MESSAGE: usize = 4096;
/// How long a connection may take from the answer that agrees to the upgrade to being a WebSocket.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
/// The subprotocol by which browsers can send a token beside it.
const BEARER: &str = "bearer";

/// The routes of this file below `/api/`.
pub(crate) fn routes() -> Router {
    Router::with_path("notifications")
        .get(route!(list(req, depot)))
        .push(Router::with_path("read").post(route!(mark_read(req, depot))))
}

/// The route of this file at the root.
pub(crate) fn socket_route() -> Router {
    Router::with_path("ws/notifications/{user}").get(route!(connect(req, depot, res)))
}

/// An event as the contract shows it, the same in the list and on the socket but for `read`.
#[derive(Serialize)]
struct EventView {
    #[serde(rename = "type")]
    kind: EventKind,
    id: EventId,
    order_id: OrderId,
    status: OrderStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_status: Option<OrderStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_price: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    created_at: Timestamp,
    /// In the list alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<bool>,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        let is_update = event.kind == EventKind::OrderStatusUpdate;
        Self {
            kind: event.kind,
            id: event.id,
            order_id: event.order_id,
            status: event.status,
            previous_status: event.previous_status.filter(|_| is_update),
            total_price: (!is_update).then_some(event.total),
            message: is_update.then(|| format!("Order {} is now {}.", event.order_id, event.status)),
            created_at: event.created_at,
            read: None,
        }
    }
}

async fn list(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let mut query = Query::of(req);
    let unread = query.flag("unread");
    query.finish()?;
    let page = PageQuery::of(req)?;
    let found = events::list(&api.db, caller.user.id, unread, page.limit(), page.offset()).await?;
    let views = found
        .events
        .iter()
        .map(|event| EventView { read: Some(event.id <= found.read_up_to), ..EventView::from(event) })
        .collect();
    Reply::ok(&page.page(req, found.count, views)?)
}

async fn mark_read(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let mut fields = extract::fields(req).await?;
    let up_to = fields.integer("up_to").min(0).required();
    fields.finish()?;
    events::mark_read(&api.db, caller.user.id, EventId(up_to)).await?;
    Ok(Reply::no_content())
}

async fn connect(req: &mut Request, depot: &mut Depot, res: &mut Response) -> Result<(), ApiError> {
    let api = api(depot);
    let caller = caller(req, api).await?;
    if !is_welcome_origin(req, &api.settings.cors_allowed_origins) {
        return Err(ApiError::forbidden());
    }
    let user = watched_user(req, api, &caller).await?;
    let upgrade = Upgrade::wanted_by(req)?;
    let from = last_event_id(req)?;
    let attached = api.handles.sessions.attach(user, caller.user.id, from).await?;
    // Whoever was deactivated before the socket was attached is seen here, and whoever is so later is told there.
    let caller = active_user(api, caller.access).await?;
    let visit = Visit::new(Arc::clone(api), caller.access, user, attached);
    upgrade.agree(req, res, visit)
}

/// Who knocks, by whichever of the four ways; 401 if by none, or by a bad one.
async fn caller(req: &Request, api: &Api) -> Result<SignedIn, ApiError> {
    if let Some(caller) = viewer(req, api).await? {
        return Ok(caller);
    }
    if let Some(token) = subprotocols(req).skip_while(|protocol| *protocol != BEARER).nth(1) {
        return authenticate(api, token).await;
    }
    let parameter = |name| req.queries().get(name).map(String::as_str).filter(|value| !value.is_empty());
    if let Some(ticket) = parameter("ticket") {
        let access = api.tickets.redeem(ticket).await;
        return match access {
            // The ticket may outlive the token that bought it.
            Some(access) if access.expires_at <= Timestamp::now().unix_seconds() => {
                Err(ApiError::invalid_access_token("Token is expired"))
            }
            Some(access) => active_user(api, access).await,
            None => Err(ApiError::invalid_access_token("Token is invalid")),
        };
    }
    match parameter("token") {
        Some(token) => authenticate(api, token).await,
        None => Err(ApiError::not_authenticated()),
    }
}

fn subprotocols(req: &Request) -> impl Iterator<Item = &str> {
    let values = req.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty())
}

/// Whether a page of this origin may open sockets: one of this server, or one that the operator named. What is no
/// browser sends no origin.
fn is_welcome_origin(req: &Request, allowed: &[String]) -> bool {
    let origin = req.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let is_named =
        |origin: &str| allowed.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin));
    is_of_this_host(req) || origin.is_some_and(is_named)
}

/// Whether a request comes from a page of this server, or from what is no browser.
pub(crate) fn is_of_this_host(req: &Request) -> bool {
    let Some(origin) = req.headers().get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = req.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| req.uri().authority().map(|authority| authority.as_str()));
    // The scheme does not count: behind a proxy that speaks TLS the server does not know its own.
    let own = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
    own.is_some_and(|own| host.is_some_and(|host| own.eq_ignore_ascii_case(host)))
}

/// Whose events the caller wants: their own, or an admin anybody's.
async fn watched_user(req: &Request, api: &Api, caller: &SignedIn) -> Result<UserId, ApiError> {
    let user = extract::id(req, "user")?;
    if user == caller.user.id {
        return Ok(user);
    }
    if !caller.user.is_admin {
        return Err(ApiError::forbidden());
    }
    match api.cache.user(&api.db, user).await? {
        Some(_) => Ok(user),
        None => Err(ApiError::not_found()),
    }
}

/// After which event the socket begins. Any number beyond the newest will do.
fn last_event_id(req: &Request) -> Result<Option<EventId>, ApiError> {
    const NAME: &str = "last_event_id";
    let values = req.queries().get_vec(NAME);
    let Some(text) = values.and_then(|values| values.last()).map(|text| text.trim()) else {
        return Ok(None);
    };
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if text.is_empty() {
        Ok(None)
    } else if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Err(ApiError::field(NAME, "A valid integer is required."))
    } else if negative && digits.bytes().any(|digit| digit != b'0') {
        Err(ApiError::field(NAME, "Ensure this value is greater than or equal to 0."))
    } else {
        Ok(Some(EventId(digits.parse().unwrap_or(i64::MAX))))
    }
}

/// The wish of a request to become a WebSocket (RFC 6455, section 4.2).
///
/// Not left to salvo's: it shows no more of the connection than the messages, and to end one well after a message that
/// is too long, what still comes has to be read.
struct Upgrade {
    accept_key: String,
}

impl Upgrade {
    fn wanted_by(req: &Request) -> Result<Self, ApiError> {
        let names = |name: header::HeaderName, wanted: &str| {
            let values = req.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
        };
        let is_wanted = req.method() == Method::GET
            && names(header::CONNECTION, "upgrade")
            && names(header::UPGRADE, "websocket")
            && req.extensions().get::<OnUpgrade>().is_some();
        let is_spoken = req
            .headers()
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_some_and(|version| version.as_bytes().trim_ascii() == b"13");
        if !is_wanted || !is_spoken {
            let error =
                ApiError::new(StatusCode::UPGRADE_REQUIRED, "This path speaks WebSocket, version 13.")
                    .header(header::UPGRADE, HeaderValue::from_static("websocket"))
                    .header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return Err(match req.version() {
                Version::HTTP_11 => error.header(header::CONNECTION, HeaderValue::from_static("upgrade")),
                _ => error,
            });
        }
        let key = req.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().trim_ascii());
        match key {
            Some(key) if !key.is_empty() => Ok(Self { accept_key: derive_accept_key(key) }),
            _ => Err(ApiError::bad_request("Sec-WebSocket-Key is missing.")),
        }
    }

    /// Answers 101 and leaves the connection to `visit`.
    fn agree(self, req: &mut Request, res: &mut Response, mut visit: Visit) -> Result<(), ApiError> {
        let accept_key = HeaderValue::from_str(&self.accept_key).map_err(|_| ApiError::internal())?;
        let upgrading = req.extensions_mut().remove::<OnUpgrade>().ok_or_else(ApiError::internal)?;
        if let Some(connection) = req.extensions().get::<salvo::ConnCtrl>() {
            // From here on silence is nothing to worry about, and a client that does not read is the socket's affair.
            connection.relax_timeouts();
        }
        res.status_code(StatusCode::SWITCHING_PROTOCOLS);
        let headers = res.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
        if subprotocols(req).any(|protocol| protocol == BEARER) {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
        }
        let user = visit.user();
        let serving = async move {
            match tokio::time::timeout(UPGRADE_DEADLINE, upgrading).await {
                Ok(Ok(connection)) => {
                    let connection = TokioIo::new(connection);
                    let mut stream =
                        WebSocketStream::from_raw_socket(connection, Role::Server, Some(config())).await;
                    visit.serve(&mut stream).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!(user.id = %user, %error, "a client left before its socket was open")
                }
                Err(_) => tracing::debug!(user.id = %user, "a socket was not open in time"),
            }
        };
        // Outside of the request's span, which would be kept for as long as the socket, and end with it.
        #[expect(clippy::disallowed_methods, reason = "the sessions' drain waits for what the visit holds")]
        tokio::spawn(serving);
        Ok(())
    }
}

/// Small buffers: a socket is idle most of its life, and there may be thousands. Clients have little to say; for a longer
/// message the buffer grows.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(256)
        .write_buffer_size(0)
        .max_write_buffer_size(64 * 1024)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}
