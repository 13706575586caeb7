//! The tokens that say who calls: short-lived access tokens, refresh tokens that rotate, and one-time tickets for
//! WebSockets.
//!
//! Access and refresh tokens are JWTs, HS256 and nothing else: the algorithm is pinned, whatever the header says beside
//! it is ignored. This file knows what a token says; whether a refresh token is still the current one of its family is a
//! row of the store. Times are judged without leeway.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use souk_store::Redis;
use souk_store::model::{Timestamp, UserId};
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
    /// Which generation of the user's logins it belongs to.
    pub generation: i64,
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
    /// Only in access tokens that are not of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
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

    /// A new access token, of the generation of the user's logins.
    #[must_use]
    pub fn access(&self, user: UserId, generation: i64, now: Timestamp) -> String {
        let iat = now.unix_seconds();
        self.sign(&Claims {
            token_type: Kind::Access,
            user_id: user.0,
            jti: Uuid::new_v4(),
            iat,
            exp: iat + self.access_seconds,
            family: None,
            generation: Some(generation).filter(|generation| *generation > 0),
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
            generation: None,
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
        let generation = claims.generation.unwrap_or_default();
        Ok(Access { user: UserId(claims.user_id), expires_at: claims.exp, generation })
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

/// The most tickets that wait in a node's memory; beyond it the oldest make room only by running out.
const MAX_TICKETS: usize = 100_000;

/// The most tickets of one user that wait to be used; of more the oldest goes.
const MAX_TICKETS_OF_USER: usize = 10;

/// Tickets that open one WebSocket, once, for browsers, which cannot send a header with the upgrade.
///
/// They are kept in Redis, so that any node takes what any node gave out. Without one, or while it does not answer, they
/// are kept in this node's memory, and only this node takes them; what lay in Redis is no good until it answers again.
/// Whoever is turned away gets another ticket.
#[derive(Debug, Default)]
pub struct Tickets {
    redis: Option<Redis>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    tickets: HashMap<String, Ticket>,
    /// The oldest first.
    of_users: HashMap<UserId, VecDeque<String>>,
}

#[derive(Debug)]
struct Ticket {
    access: Access,
    until: Instant,
}

impl Tickets {
    /// Tickets for all who share this Redis, or for this node.
    #[must_use]
    pub fn new(redis: Option<Redis>) -> Self {
        Self { redis, waiting: Mutex::default() }
    }

    /// A new ticket for the owner of this access token, or None if too many wait. A socket opened with it may live as
    /// long as the token.
    pub async fn issue(&self, access: Access) -> Option<String> {
        let new = || URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let mut ticket = new();
        if let Some(redis) = &self.redis {
            let (digest, most) = (digest(&ticket), i64::try_from(MAX_TICKETS_OF_USER).unwrap_or(i64::MAX));
            let says = (access.user, access.expires_at, access.generation);
            if redis.keep_ticket(&digest, says, TICKET_LIFE, most).await.is_some() {
                return Some(ticket);
            }
            // Redis may keep the first one yet, when it comes to it.
            ticket = new();
        }
        self.waiting().keep(&ticket, access).then_some(ticket)
    }

    /// What the access token said that the ticket was bought with, if the ticket is good; it is not good a second time.
    pub async fn redeem(&self, ticket: &str) -> Option<Access> {
        let kept_here = self.waiting().take(ticket);
        if let Some(ticket) = kept_here {
            return (ticket.until > Instant::now()).then_some(ticket.access);
        }
        let (user, expires_at, generation) = self.redis.as_ref()?.take_ticket(&digest(ticket)).await??;
        Some(Access { user, expires_at, generation })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn keep(&mut self, ticket: &str, access: Access) -> bool {
        let now = Instant::now();
        if self.tickets.len() >= MAX_TICKETS {
            self.tickets.retain(|_, ticket| ticket.until > now);
            let tickets = &self.tickets;
            self.of_users.retain(|_, own| {
                own.retain(|ticket| tickets.contains_key(ticket));
                !own.is_empty()
            });
            if self.tickets.len() >= MAX_TICKETS {
                return false;
            }
        }
        let own = self.of_users.entry(access.user).or_default();
        own.push_back(ticket.to_owned());
        if own.len() > MAX_TICKETS_OF_USER
            && let Some(oldest) = own.pop_front()
        {
            self.tickets.remove(&oldest);
        }
        self.tickets.insert(ticket.to_owned(), Ticket { access, until: now + TICKET_LIFE });
        true
    }

    fn take(&mut self, ticket: &str) -> Option<Ticket> {
        let taken = self.tickets.remove(ticket)?;
        if let Some(own) = self.of_users.get_mut(&taken.access.user) {
            own.retain(|other| other != ticket);
            if own.is_empty() {
                self.of_users.remove(&taken.access.user);
            }
        }
        Some(taken)
    }
}

/// What stands for a ticket in Redis: whoever reads there can open nothing with it.
fn digest(ticket: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(ticket))
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
        let token = tokens.access(UserId(7), 0, now);
        let access = tokens.read_access(&token, now.plus_seconds(3599)).unwrap();
        assert_eq!(access, Access { user: UserId(7), expires_at: now.unix_seconds() + 3600, generation: 0 });
        assert_eq!(tokens.read_access(&token, now.plus_seconds(3600)), Err(BadToken::Expired));
    }

    #[test]
    fn a_refresh_token_is_no_access_token_nor_the_reverse() {
        let (tokens, now) = (tokens(), Timestamp::now());
        let (family, id) = (Uuid::new_v4(), Uuid::new_v4());
        let refresh = tokens.refresh(UserId(7), family, id, now);
        let access = tokens.access(UserId(7), 0, now);
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
        let access = Access { user: UserId(7), expires_at: 0, generation: 0 };
        let (used, late) = (tickets.issue(access).await.unwrap(), tickets.issue(access).await.unwrap());
        assert_eq!(tickets.redeem(&used).await, Some(access));
        assert_eq!(tickets.redeem(&used).await, None);
        assert_eq!(tickets.redeem("made up").await, None);
        tokio::time::advance(TICKET_LIFE).await;
        assert_eq!(tickets.redeem(&late).await, None);
        assert!(tickets.waiting().tickets.is_empty() && tickets.waiting().of_users.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_that_ran_out_make_room() {
        let tickets = Tickets::default();
        let access =
            |user: usize| Access { user: UserId(i64::try_from(user).unwrap()), expires_at: 0, generation: 0 };
        for user in 0..MAX_TICKETS {
            tickets.issue(access(user)).await.unwrap();
        }
        assert_eq!(tickets.issue(access(0)).await, None);
        tokio::time::advance(TICKET_LIFE).await;
        assert!(tickets.issue(access(0)).await.is_some());
        assert_eq!(tickets.waiting().of_users.len(), 1);
    }

    #[tokio::test]
    async fn of_more_tickets_than_a_user_may_have_the_oldest_goes() {
        let tickets = Tickets::default();
        let access = Access { user: UserId(7), expires_at: 0, generation: 0 };
        let oldest = tickets.issue(access).await.unwrap();
        let second = tickets.issue(access).await.unwrap();
        for _ in 2..=MAX_TICKETS_OF_USER {
            tickets.issue(access).await.unwrap();
        }
        assert_eq!(tickets.redeem(&oldest).await, None);
        assert_eq!(tickets.redeem(&second).await, Some(access));
    }
}
