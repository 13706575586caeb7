//! Who asks, and under which name: the client behind proxies, and the host that it wants.
//!
//! The outermost hoop calls this before anything else. What a proxy says about its client is believed if the
//! operator trusts it (setting `TRUSTED_PROXIES`), and the request is then made what the client sent: its address, its
//! scheme, its host. So limits, links, cookies and logs need not know of proxies. From anybody else those headers are
//! ignored; `Forwarded` always is, since a proxy that writes the others passes it on as it came.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use salvo::Request;
use salvo::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use salvo::http::{HeaderName, HeaderValue, Version, header};

use crate::error::ApiError;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The longest name that a host may have.
const LONGEST_HOST: usize = 255;

/// An address or a network whose proxies are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text is no address and no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be addresses or networks such as 10.0.0.0/8, separated by commas")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let text = text.trim();
        let address = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        text.parse::<IpNet>().or_else(|_| address()).map(Self).map_err(|_| NotANetwork)
    }
}

/// Makes a request what its client sent. 400 if it names no host that could be one.
pub(crate) fn see_through(req: &mut Request, trusted: &[Network]) -> Result<(), ApiError> {
    let mut host = named_host(req)?;
    if let Some(peer) = req.remote_addr().ip().filter(|peer| is_trusted(*peer, trusted)) {
        if let Some(client) = client_behind(req, peer, trusted) {
            *req.remote_addr_mut() = SocketAddr::new(client, 0).into();
        }
        match last(req, &X_FORWARDED_PROTO).as_deref() {
            Some("https") => *req.scheme_mut() = Scheme::HTTPS,
            Some("http") => *req.scheme_mut() = Scheme::HTTP,
            _ => {}
        }
        if let Some(forwarded) = last(req, &X_FORWARDED_HOST) {
            host = Some(authority(&forwarded)?);
        }
    }
    match host {
        Some(host) => name(req, &host),
        None => Ok(()),
    }
}

/// The host that the request itself names; none is allowed before HTTP/1.1 alone.
fn named_host(req: &Request) -> Result<Option<Authority>, ApiError> {
    let mut hosts = req.headers().get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad_host());
    }
    // A target that names a host counts for more than the header.
    if let Some(host) = req.uri().authority() {
        return authority(host.as_str()).map(Some);
    }
    match host {
        Some(host) => authority(host.to_str().map_err(|_| bad_host())?).map(Some),
        None if req.version() < Version::HTTP_11 => Ok(None),
        None => Err(bad_host()),
    }
}

/// The client, by what trusted proxies say: from the right, the first address that is none of theirs.
fn client_behind(req: &Request, peer: IpAddr, trusted: &[Network]) -> Option<IpAddr> {
    let mut client = peer;
    for value in req.headers().get_all(&X_FORWARDED_FOR).iter().rev() {
        for hop in value.to_str().ok()?.rsplit(',') {
            // Behind what nobody understands nobody is believed.
            let Some(hop) = address(hop.trim()) else { return Some(client) };
            client = hop;
            if !is_trusted(hop, trusted) {
                return Some(client);
            }
        }
    }
    Some(client)
}

/// An address, with a port or without.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.0.contains(&address))
}

/// What the nearest proxy wrote: the last of several values.
fn last(req: &Request, name: &HeaderName) -> Option<String> {
    let value = req.headers().get_all(name).iter().next_back()?;
    let value = value.to_str().ok()?.rsplit(',').next()?.trim();
    (!value.is_empty()).then(|| value.to_ascii_lowercase())
}

/// `host` or `host:port`, where the host is a name of letters, digits and `-._`, or an address.
fn authority(text: &str) -> Result<Authority, ApiError> {
    let authority: Authority = text.parse().map_err(|_| bad_host())?;
    let host = authority.host();
    let is_address = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => is_address(address),
        None => {
            (1..=LONGEST_HOST).contains(&host.len())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    let rest = text.strip_prefix(host).unwrap_or("@");
    let is_port = rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if is_host && is_port { Ok(authority) } else { Err(bad_host()) }
}

/// Puts a host where handlers look for it.
fn name(req: &mut Request, host: &Authority) -> Result<(), ApiError> {
    if req.uri().authority() != Some(host) || req.uri().scheme().is_none() {
        let mut parts = std::mem::take(req.uri_mut()).into_parts();
        parts.scheme = Some(req.scheme().clone());
        parts.authority = Some(host.clone());
        parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        *req.uri_mut() = Uri::from_parts(parts).map_err(|_| bad_host())?;
    }
    if req.headers().get(header::HOST).is_some_and(|present| present.as_bytes() != host.as_str().as_bytes()) {
        let value = HeaderValue::from_str(host.as_str()).map_err(|_| bad_host())?;
        req.headers_mut().insert(header::HOST, value);
    }
    Ok(())
}

fn bad_host() -> ApiError {
    ApiError::bad_request("The request names no host, or none that could be one.")
}

#[cfg(test)]
mod tests;
