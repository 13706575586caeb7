//! What handlers take from a request before anything else: the state, the caller, ids of the path, the body.
//!
//! The order in a handler is the order in which Django REST Framework would answer: who calls (401), may they (403), is
//! the thing there (404), is the body well-formed (413, 415, 400), are its fields good (400).

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use salvo::http::{ReqBody, header};
use salvo::{Depot, Request};
use souk_store::chain;
use souk_store::model::{NotAnId, Timestamp, User};

use crate::Api;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::form;
use crate::gate::Place;
use crate::tokens::{Access, BadToken};

/// The largest body of a request in JSON.
pub(crate) const MAX_JSON_BODY: usize = 1024 * 1024;

/// How long the whole body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(20);

/// The state that the service was made with.
pub(crate) fn api(depot: &Depot) -> &Arc<Api> {
    depot.get_typed::<Arc<Api>>().expect("the first hoop puts it there")
}

/// The id in this part of the path; 404 if it is none.
pub(crate) fn id<T: FromStr<Err = NotAnId>>(req: &Request, name: &str) -> Result<T, ApiError> {
    req.params().get(name).and_then(|text| text.parse().ok()).ok_or_else(ApiError::not_found)
}

/// A user who proved who they are.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    /// The account as it is now, not as it was when the token was made.
    pub(crate) user: Arc<User>,
    /// The token that proved it.
    pub(crate) access: Access,
}

/// The caller, if the request carries a token; 401 if that is bad, even where nobody has to be signed in.
pub(crate) async fn viewer(req: &Request, api: &Api) -> Result<Option<SignedIn>, ApiError> {
    let Some(value) = req.headers().get(header::AUTHORIZATION) else { return Ok(None) };
    let Some(token) = bearer_token(value.as_bytes())? else { return Ok(None) };
    authenticate(api, token).await.map(Some)
}

/// The caller; 401 if there is none.
pub(crate) async fn require_user(req: &Request, api: &Api) -> Result<SignedIn, ApiError> {
    viewer(req, api).await?.ok_or_else(ApiError::not_authenticated)
}

/// The caller, who must be an admin: 401, then 403.
pub(crate) async fn require_admin(req: &Request, api: &Api) -> Result<SignedIn, ApiError> {
    let caller = require_user(req, api).await?;
    if caller.user.is_admin { Ok(caller) } else { Err(ApiError::forbidden()) }
}

/// The owner of an access token, wherever the token came from.
pub(crate) async fn authenticate(api: &Api, token: &str) -> Result<SignedIn, ApiError> {
    let access = api
        .tokens
        .read_access(token, Timestamp::now())
        .map_err(|reason| ApiError::invalid_access_token(&reason.to_string()))?;
    active_user(api, access).await
}

/// The account of an access token that was read already; 401 if it is gone, has been deactivated or got another password
/// from an admin since.
pub(crate) async fn active_user(api: &Api, access: Access) -> Result<SignedIn, ApiError> {
    let Some(user) = api.cache.user(&api.db, access.user).await? else {
        return Err(ApiError::not_authenticated_because("User not found").with("code", "user_not_found"));
    };
    if !user.is_active {
        return Err(ApiError::not_authenticated_because("User is inactive").with("code", "user_inactive"));
    }
    // A newer one than the account's is that of an account which this node remembers from before.
    if access.generation < user.login_generation {
        return Err(ApiError::invalid_access_token(&BadToken::Invalid.to_string()));
    }
    Ok(SignedIn { user, access })
}

/// The token of `Bearer TOKEN`; None if the header is of another scheme.
fn bearer_token(value: &[u8]) -> Result<Option<&str>, ApiError> {
    let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    if !words.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer")) {
        return Ok(None);
    }
    match (words.next().map(std::str::from_utf8), words.next()) {
        (Some(Ok(token)), None) => Ok(Some(token)),
        _ => {
            let detail = "Authorization header must contain two space-delimited values";
            Err(ApiError::not_authenticated_because(detail).with("code", "bad_authorization_header"))
        }
    }
}

/// The fields of a JSON body; no body, no fields.
pub(crate) async fn fields(req: &mut Request) -> Result<Fields, ApiError> {
    let body = json_body(req).await?;
    if body.is_empty() { Ok(Fields::default()) } else { Fields::from_json(&body) }
}

/// The fields of a body where an image may be among them: a form with files, or JSON.
pub(crate) async fn form(req: &mut Request, api: &Api, caller: &SignedIn) -> Result<Fields, ApiError> {
    if form::is_form(media_type(req)) {
        form::read(req, &api.media, caller.user.id).await
    } else {
        fields(req).await
    }
}

/// The bytes of a body that must be JSON if there is any; at most 1 MiB.
pub(crate) async fn json_body(req: &mut Request) -> Result<Bytes, ApiError> {
    use salvo::http::Body as _;
    if req.body().is_end_stream() {
        return Ok(Bytes::new());
    }
    let media_type = media_type(req);
    if !is_type(media_type, "application/json") {
        return Err(ApiError::unsupported_media_type(&String::from_utf8_lossy(media_type)));
    }
    body(req, MAX_JSON_BODY).await
}

/// What a body says that it is; empty if it does not.
pub(crate) fn media_type(req: &Request) -> &[u8] {
    req.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes())
}

/// Whether a media type is this one, whatever its parameters.
pub(crate) fn is_type(media_type: &[u8], essence: &str) -> bool {
    let own = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    own.trim_ascii().eq_ignore_ascii_case(essence.as_bytes())
}

/// The bytes of a body of at most `limit`; 413 for more, without reading them if they are announced.
pub(crate) async fn body(req: &mut Request, limit: usize) -> Result<Bytes, ApiError> {
    use salvo::http::Body as _;
    if req.body().size_hint().lower() > limit as u64 {
        return Err(ApiError::body_too_large(limit));
    }
    let place = place_of(req);
    let mut body = req.take_body();
    let arrived = arrival(&place, collect(&mut body, limit, &place)).await;
    // What is left of it will not be read, so the connection cannot serve another request.
    arrived.map_err(|error| if body.is_end_stream() { error } else { error.and_close() })
}

/// The request's place among those that are worked on.
pub(crate) fn place_of(req: &Request) -> Place {
    req.extensions().get::<Place>().cloned().expect("who was let in has a place")
}

/// Waits for a body to arrive, outside and until its deadline.
pub(crate) async fn arrival<T>(
    place: &Place,
    arriving: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let in_time = async {
        tokio::time::timeout(BODY_DEADLINE, arriving).await.unwrap_or_else(|_| Err(ApiError::body_too_slow()))
    };
    place.wait_outside(in_time).await
}

async fn collect(body: &mut ReqBody, limit: usize, place: &Place) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.next().await {
        let piece = match frame.map(|frame| frame.into_data()) {
            Ok(Ok(piece)) => piece,
            Ok(Err(_trailers)) => continue,
            Err(error) => {
                tracing::debug!(error = chain(&error), "a request body could not be read");
                return Err(ApiError::bad_request("The request body could not be read."));
            }
        };
        if bytes.len() + piece.len() > limit {
            return Err(ApiError::body_too_large(limit));
        }
        place.room_for(bytes.len() + piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// Scheme and host as the client named them, for absolute URLs: `http://shop.example:8000`.
///
/// Behind a proxy that the operator trusts, it is what that proxy says ([`proxies`](crate::proxies)).
pub(crate) fn base_url(req: &Request) -> String {
    let host = req.uri().authority().map_or("localhost", |authority| authority.as_str());
    format!("{}://{host}", req.scheme())
}

/// The absolute URL of an uploaded image, which is known by its path under the media root.
pub(crate) fn media_url(base: &str, path: Option<&str>) -> Option<String> {
    path.map(|path| format!("{base}/media/{path}"))
}

/// The client's address; behind proxies that the operator trusts, what those say.
pub(crate) fn client_address(req: &Request) -> Option<IpAddr> {
    req.remote_addr().ip()
}

/// What limits count as one client: the address, or its /64 network, since whoever has one IPv6 address has all of it.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((address.to_bits() >> 64 << 64).to_be_bytes()),
        v4 => v4,
    }
}
