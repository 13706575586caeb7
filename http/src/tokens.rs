//! The tokens that say who calls: short-lived access tokens, refresh tokens that rotate, and one-time tickets for
//! WebSockets.
//!
//! Access and refresh tokens are JWTs, HS256 and nothing else: the algorithm is pinned, whatever the header says beside
//! it is ignored. This file knows what a token says; whether a refresh token is still the current one of its family is a
//! row of the store. Times are judged without leeway.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use souk_store::model::{Timestamp, UserId};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;
use uuid::Uuid;

/// Longer texts are no tokens of ours and are not even looked at.
const MAX_LENGTH: usize = 2048;

/// Why a token is not accepted. Its text is what clients of simplejwt know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Not one of ours, or of the wrong kind.
    #[error("Token is invalid")]
    Invalid,
    /// One of ours whose time is over.
    #[error("Token is expired")]
    Expired,
}

/// What an access token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who calls.
    pub user: UserId,
    /// When it runs out, in seconds since 1970.
    pub expires_at: i64,
}

/// What a refresh token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Whose it is.
    pub user: UserId,
    /// The login that it descends from.
    pub family: Uuid,
    /// The token's own id: the family's current one, or used up.
    pub id: Uuid,
    /// When it runs out, in seconds since 1970.
    pub expires_at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Access,
    Refresh,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    token_type: Kind,
    user_id: i64,
    jti: Uuid,
    iat: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    family: Option<Uuid>,
}

/// Makes tokens and reads them.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    access_seconds: i64,
    refresh_seconds: i64,
}

impl fmt::Debug for Tokens {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("access_seconds", &self.access_seconds)
            .field("refresh_seconds", &self.refresh_seconds)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens signed with this secret, which live this long.
    #[must_use]
    pub fn new(secret: &[u8], access: Duration, refresh: Duration) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Expiry is judged in `read`, where the clock can be driven: the library calls a token good in its last second.
        validation.validate_exp = false;
        validation.leeway = 0;
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 4);
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            access_seconds: seconds(access),
            refresh_seconds: seconds(refresh),
        }
    }

    /// A new access token.
    #[must_use]
    pub fn access(&self, user: UserId, now: Timestamp) -> String {
        let iat = now.unix_seconds();
        self.sign(&Claims {
            token_type: Kind::Access,
            user_id: user.0,
            jti: Uuid::new_v4(),
            iat,
            exp: iat + self.access_seconds,
            family: None,
        })
    }

    /// The refresh token with this id, of this family.
    #[must_use]
    pub fn refresh(&self, user: UserId, family: Uuid, id: Uuid, now: Timestamp) -> String {
        let iat = now.unix_seconds();
        self.sign(&Claims {
            token_type: Kind::Refresh,
            user_id: user.0,
            jti: id,
            iat,
            exp: iat + self.refresh_seconds,
            family: Some(family),
        })
    }

    /// When a refresh token made at `now` runs out.
    #[must_use]
    pub fn refresh_expiry(&self, now: Timestamp) -> Timestamp {
        now.plus_seconds(self.refresh_seconds)
    }

    /// Reads an access token.
    ///
    /// # Errors
    /// [`BadToken`] if it is none, or no more.
    pub fn read_access(&self, token: &str, now: Timestamp) -> Result<Access, BadToken> {
        let claims = self.read(token, Kind::Access, now)?;
        Ok(Access { user: UserId(claims.user_id), expires_at: claims.exp })
    }

    /// Reads a refresh token.
    ///
    /// # Errors
    /// [`BadToken`] if it is none, or no more.
    pub fn read_refresh(&self, token: &str, now: Timestamp) -> Result<Refresh, BadToken> {
        let claims = self.read(token, Kind::Refresh, now)?;
        let family = claims.family.ok_or(BadToken::Invalid)?;
        Ok(Refresh { user: UserId(claims.user_id), family, id: claims.jti, expires_at: claims.exp })
    }

    fn read(&self, token: &str, kind: Kind, now: Timestamp) -> Result<Claims, BadToken> {
        if token.len() > MAX_LENGTH {
            return Err(BadToken::Invalid);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| BadToken::Invalid)?
            .claims;
        if claims.token_type != kind {
            return Err(BadToken::Invalid);
        }
        if claims.exp <= now.unix_seconds() {
            return Err(BadToken::Expired);
        }
        Ok(claims)
    }

    fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .expect("plain claims and a secret can always be signed")
    }
}

/// How long a ticket opens a socket.
pub const TICKET_LIFE: Duration = Duration::from_secs(60);

/// The most tickets that wait to be used; beyond it the oldest make room only by running out.
const MAX_TICKETS: usize = 100_000;

/// Tickets that open one WebSocket, once, for browsers, which cannot send a header with the upgrade.
///
/// They live in this node's memory: a ticket is redeemed where it was given out, within a minute.
#[derive(Debug, Default)]
pub struct Tickets {
    waiting: Mutex<HashMap<String, Ticket>>,
}

#[derive(Debug)]
struct Ticket {
    access: Access,
    until: Instant,
}

impl Tickets {
    /// A new ticket for the owner of this access token, or None if too many wait. A socket opened with it may live as
    /// long as the token.
    #[must_use]
    pub fn issue(&self, access: Access) -> Option<String> {
        let ticket = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_TICKETS {
            waiting.retain(|_, ticket| ticket.until > now);
            if waiting.len() >= MAX_TICKETS {
                return None;
            }
        }
        waiting.insert(ticket.clone(), Ticket { access, until: now + TICKET_LIFE });
        Some(ticket)
    }

    /// What the access token said that the ticket was bought with, if the ticket is good; it is not good a second time.
    #[must_use]
    pub fn redeem(&self, ticket: &str) -> Option<Access> {
        let ticket = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket)?;
        (ticket.until > Instant::now()).then_some(ticket.access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn tokens() -> Tokens {
        Tokens::new(b"a secret of thirty-two bytes or so", HOUR, 24 * HOUR)
    }

    fn signed(header: &str, claims: &str, secret: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_secret(secret);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    #[test]
    fn a_token_says_whose_it_is_until_its_last_second_is_over() {
        let (tokens, now) = (tokens(), Timestamp::now());
        let token = tokens.access(UserId(7), now);
        let access = tokens.read_access(&token, now.plus_seconds(3599)).unwrap();
        assert_eq!(access, Access { user: UserId(7), expires_at: now.unix_seconds() + 3600 });
        assert_eq!(tokens.read_access(&token, now.plus_seconds(3600)), Err(BadToken::Expired));
    }

    #[test]
    fn a_refresh_token_is_no_access_token_nor_the_reverse() {
        let (tokens, now) = (tokens(), Timestamp::now());
        let (family, id) = (Uuid::new_v4(), Uuid::new_v4());
        let refresh = tokens.refresh(UserId(7), family, id, now);
        let access = tokens.access(UserId(7), now);
        assert_eq!(tokens.read_access(&refresh, now), Err(BadToken::Invalid));
        assert_eq!(tokens.read_refresh(&access, now), Err(BadToken::Invalid));
        let read = tokens.read_refresh(&refresh, now).unwrap();
        assert_eq!((read.user, read.family, read.id), (UserId(7), family, id));
    }

    #[test]
    fn only_the_secret_and_the_pinned_algorithm_count() {
        let (tokens, now) = (tokens(), Timestamp::now());
        let secret = b"a secret of thirty-two bytes or so";
        let claims = format!(
            r#"{{"token_type":"access","user_id":7,"jti":"{}","iat":0,"exp":{}}}"#,
            Uuid::new_v4(),
            now.unix_seconds() + 60
        );
        let read = |token: &str| tokens.read_access(token, now);
        let plain = signed(r#"{"alg":"HS256","kid":"../../dev/null","jku":"http://evil"}"#, &claims, secret);
        assert!(read(&plain).is_ok());
        let other_secret = signed(r#"{"alg":"HS256"}"#, &claims, b"another secret of some length here");
        assert_eq!(read(&other_secret), Err(BadToken::Invalid));
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS384"}"#, r#"{"alg":"RS256"}"#, r#"{}"#] {
            assert_eq!(read(&signed(header, &claims, secret)), Err(BadToken::Invalid), "{header}");
        }
        let unsigned = plain.rsplit_once('.').unwrap().0.to_owned() + ".";
        let long = "x".repeat(10_000);
        for token in ["", ".", "..", "a.b.c", &unsigned, &long] {
            assert_eq!(read(token), Err(BadToken::Invalid), "{token}");
        }
        let no_expiry =
            format!(r#"{{"token_type":"access","user_id":7,"jti":"{}","iat":0}}"#, Uuid::new_v4());
        assert_eq!(read(&signed(r#"{"alg":"HS256"}"#, &no_expiry, secret)), Err(BadToken::Invalid));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_opens_one_socket_within_a_minute() {
        let tickets = Tickets::default();
        let access = Access { user: UserId(7), expires_at: 0 };
        let (used, late) = (tickets.issue(access).unwrap(), tickets.issue(access).unwrap());
        assert_eq!(tickets.redeem(&used), Some(access));
        assert_eq!(tickets.redeem(&used), None);
        assert_eq!(tickets.redeem("made up"), None);
        tokio::time::advance(TICKET_LIFE).await;
        assert_eq!(tickets.redeem(&late), None);
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_that_ran_out_make_room() {
        let tickets = Tickets::default();
        let access = Access { user: UserId(7), expires_at: 0 };
        for _ in 0..MAX_TICKETS {
            tickets.issue(access).unwrap();
        }
        assert_eq!(tickets.issue(access), None);
        tokio::time::advance(TICKET_LIFE).await;
        assert!(tickets.issue(access).is_some());
    }
}
