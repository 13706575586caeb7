//! Tokens that the server did not make. A forgery starts from the claims of a genuine one, so that only what
//! the test is about is wrong with it.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Value, json};

use super::SECRET_KEY;

/// Reads a token's claims, and asserts on the way that it is HS256 under the shop's key.
#[track_caller]
pub(crate) fn claims_of(token: &str) -> Value {
    let key = DecodingKey::from_secret(SECRET_KEY.as_bytes());
    decode::<Value>(token, &key, &Validation::new(Algorithm::HS256))
        .expect("an HS256 token under SECRET_KEY")
        .claims
}

pub(crate) struct Forgery {
    header: Header,
    claims: Value,
    secret: String,
}

impl Forgery {
    pub(crate) fn of(token: &str) -> Self {
        Self {
            header: Header::new(Algorithm::HS256),
            claims: claims_of(token),
            secret: SECRET_KEY.to_owned(),
        }
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().expect("claims").remove(name);
        self
    }

    /// Lets the token run out this many seconds from now, or ago.
    pub(crate) fn expires_in(self, seconds: i64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_secs();
        let expiry = i64::try_from(now).expect("a clock of this era") + seconds;
        self.claim("exp", json!(expiry))
    }

    pub(crate) fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.header.alg = algorithm;
        self
    }

    pub(crate) fn key_id(mut self, key_id: &str) -> Self {
        self.header.kid = Some(key_id.to_owned());
        self.header.jku = Some("http://127.0.0.1:1/keys.json".to_owned());
        self
    }

    pub(crate) fn signed_with(mut self, secret: &str) -> Self {
        self.secret = secret.to_owned();
        self
    }

    pub(crate) fn token(self) -> String {
        encode(&self.header, &self.claims, &EncodingKey::from_secret(self.secret.as_bytes()))
            .expect("a token")
    }

    /// The classic: an unsigned token that says so itself.
    pub(crate) fn unsigned(self) -> String {
        let signed = self.token();
        let claims = signed.split('.').nth(1).expect("a token of three parts");
        // base64url of {"alg":"none","typ":"JWT"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
    }
}
