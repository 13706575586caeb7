//! What proves who sits at the browser: the token in the session's cookie, and what is derived from it.
//!
//! The database knows only the token's digest. The CSRF token of forms is another digest of it, so nothing has to be
//! kept; in pages it stands masked anew each time, since pages are compressed, and compression lets what repeats be
//! guessed. Before a login there is a token of its own, in a cookie of its own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use salvo::http::{HeaderValue, header};
use salvo::{Request, Response};
use sha2::{Digest, Sha256};

use super::ROOT;

/// The cookie of somebody who is signed in.
pub(super) const SESSION: &str = "souk_admin";
/// The cookie of somebody at the login form.
pub(super) const BEFORE_LOGIN: &str = "souk_admin_login";
/// The cookie that carries a message to the next page.
pub(super) const FLASH: &str = "souk_admin_flash";

/// 256 random bits, as text.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    pub(super) fn new() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
    }

    /// The token in this cookie, if it has the form of one.
    pub(super) fn in_cookie(req: &Request, name: &str) -> Option<Self> {
        let text = cookie(req, name)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == 32).then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// By which the database knows it.
    pub(super) fn digest(&self) -> souk_store::staff::Digest {
        self.derive("session", b"")
    }

    /// The CSRF token of a form, masked.
    pub(super) fn csrf(&self) -> String {
        let mask: [u8; 32] = rand::random();
        let masked: Vec<u8> =
            self.derive("csrf", b"").iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        URL_SAFE_NO_PAD.encode([&mask[..], &masked].concat())
    }

    /// Whether this is the CSRF token of a form that was shown to whoever has this token.
    pub(super) fn made(&self, csrf: &str) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(csrf) else { return false };
        let Some((mask, masked)) = bytes.split_at_checked(32).filter(|(_, masked)| masked.len() == 32) else {
            return false;
        };
        let unmasked: Vec<u8> = masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        are_equal(&unmasked, &self.derive("csrf", b""))
    }

    /// A text that only the server can have put into a cookie of this session.
    pub(super) fn seal(&self, text: &str) -> String {
        let seal = self.derive("flash", text.as_bytes());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(seal))
    }

    /// The text of a seal that holds.
    pub(super) fn unseal(&self, sealed: &str) -> Option<String> {
        let (text, seal) = sealed.split_once('.')?;
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok()?;
        are_equal(&seal, &self.derive("flash", text.as_bytes())).then_some(text)
    }

    /// Digests of digests: their lengths are fixed, so nothing can be appended to what was digested.
    fn derive(&self, purpose: &str, content: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [purpose.as_bytes(), self.0.as_bytes(), content] {
            digest.update(Sha256::digest(part));
        }
        digest.finalize().into()
    }
}

/// Compares in a time that does not tell where the two differ.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// The value of a cookie.
pub(super) fn cookie<'r>(req: &'r Request, name: &str) -> Option<&'r str> {
    let headers = req.headers().get_all(header::COOKIE).iter();
    let pairs = headers.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// Gives the browser a cookie for this site, out of scripts' reach, until the browser ends.
pub(super) fn set_cookie(req: &Request, res: &mut Response, name: &str, value: &str) {
    let secure = if came_by_https(req) { "; Secure" } else { "" };
    add(res, &format!("{name}={value}; Path={ROOT}; HttpOnly; SameSite=Lax{secure}"));
}

/// Takes a cookie away from the browser.
pub(super) fn remove_cookie(res: &mut Response, name: &str) {
    add(res, &format!("{name}=; Path={ROOT}; HttpOnly; SameSite=Lax; Max-Age=0"));
}

fn add(res: &mut Response, cookie: &str) {
    match HeaderValue::from_str(cookie) {
        Ok(value) => drop(res.headers_mut().append(header::SET_COOKIE, value)),
        Err(_) => tracing::error!("a cookie of the administration site is no header"),
    }
}

/// Whether the browser speaks HTTPS: to this server, or to a proxy before it. Of that the server cannot know itself; but
/// with a form the browser says so in `Origin`, which no other page can put there.
fn came_by_https(req: &Request) -> bool {
    let origin = req.headers().get(header::ORIGIN).map_or(&b""[..], |origin| origin.as_bytes());
    *req.scheme() == salvo::http::uri::Scheme::HTTPS || origin.starts_with(b"https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csrf_token_is_its_own_sessions_and_looks_different_each_time() {
        let (mine, other) = (Token::new(), Token::new());
        let (one, two) = (mine.csrf(), mine.csrf());
        assert_ne!(one, two);
        assert!(mine.made(&one) && mine.made(&two) && !other.made(&one));
        for forged in ["", "x", &one[1..], mine.as_str()] {
            assert!(!mine.made(forged), "{forged}");
        }
    }

    #[test]
    fn a_message_is_believed_only_with_its_seal() {
        let (mine, other) = (Token::new(), Token::new());
        let sealed = mine.seal("Saved: <b>Élan</b>");
        assert_eq!(mine.unseal(&sealed).as_deref(), Some("Saved: <b>Élan</b>"));
        assert_eq!(other.unseal(&sealed), None);
        let changed =
            format!("{}{}", URL_SAFE_NO_PAD.encode("Deleted"), &sealed[sealed.find('.').unwrap()..]);
        assert_eq!(mine.unseal(&changed), None);
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut req = Request::default();
        req.headers_mut().append(header::COOKIE, HeaderValue::from_static("a=1; souk_admin_login=x"));
        req.headers_mut().append(header::COOKIE, HeaderValue::from_static("souk_admin=y=z"));
        assert_eq!(cookie(&req, SESSION), Some("y=z"));
        assert_eq!(cookie(&req, BEFORE_LOGIN), Some("x"));
        assert_eq!(cookie(&req, "b"), None);
    }
}
