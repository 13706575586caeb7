//! Passwords: which are good enough, and what they hash to.
//!
//! argon2id takes about 25 ms and 19 MiB a hash, so hashing has threads of its own (`workers`), each with one block of
//! memory that it uses again and gives back when nobody logs in for a while. When too many wait the caller gets `Busy` at
//! once. Whether an account exists makes no difference to the time: without a hash to compare with, one is computed all
//! the same.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::workers::{Busy, Size, Workers};

/// OWASP's parameters: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;

/// How many wait at most; at 25 ms each, the last of them about two seconds on one thread.
pub(crate) const QUEUE: usize = 64;

/// The shortest password.
pub const MIN_LENGTH: usize = 8;
/// The longest password.
pub const MAX_LENGTH: usize = 128;

/// Hashes and compares passwords on threads of its own.
#[derive(Debug)]
pub(crate) struct Passwords(Workers<Vec<Block>>);

impl Passwords {
    /// Starts the threads.
    pub(crate) fn start(size: Size) -> Self {
        Self(Workers::start("passwords", size))
    }

    /// What this password is stored as.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Busy> {
        self.0.give(move |memory| hash_in(&password, memory)).await?.ok_or(Busy)
    }

    /// Whether this is the password of `hash`. Without a hash it takes as long and the answer is no.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Busy> {
        // Nobody can have it, so that it is refused at once tells nothing of anybody.
        if password.chars().count() > MAX_LENGTH {
            return Ok(false);
        }
        self.0.give(move |memory| verify_in(&password, hash.as_deref(), memory)).await?.ok_or(Busy)
    }

    /// Takes nothing more, does what is queued, and ends the threads.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

/// What this password is stored as, computed here and now: for the command line.
#[must_use]
pub fn hash(password: &str) -> String {
    hash_in(password, &mut Vec::new())
}

fn hash_in(password: &str, memory: &mut Vec<Block>) -> String {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).expect("OWASP's parameters are valid");
    let salt = Salt::generate();
    let output = compute(password, &salt, &params, Params::DEFAULT_OUTPUT_LEN, memory)
        .expect("a salt and an output of the recommended lengths are valid");
    let stored = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).expect("three short numbers"),
        salt: Some(salt),
        hash: Some(output),
    };
    stored.to_string()
}

fn verify_in(password: &str, hash: Option<&str>, memory: &mut Vec<Block>) -> bool {
    let Some(hash) = hash else {
        hash_in(password, memory);
        return false;
    };
    let matches = || -> Option<bool> {
        let stored = PasswordHash::new(hash).ok()?;
        let (salt, expected) = (stored.salt?, stored.hash?);
        let is_ours = stored.algorithm == Algorithm::Argon2id.ident()
            && stored.version.is_none_or(|version| version == u32::from(Version::V0x13));
        let params = Params::try_from(&stored).ok().filter(|_| is_ours)?;
        let output = compute(password, &salt, &params, expected.len(), memory).ok()?;
        // Compared in constant time.
        Some(output == expected)
    }();
    matches.unwrap_or_else(|| {
        tracing::error!("a stored password hash cannot be read");
        false
    })
}

fn compute(
    password: &str,
    salt: &Salt,
    params: &Params,
    length: usize,
    memory: &mut Vec<Block>,
) -> Result<Output, argon2::Error> {
    if memory.len() < params.block_count() {
        memory.resize(params.block_count(), Block::new());
    }
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let mut output = vec![0; length];
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut output, &mut memory[..])?;
    Output::new(&output).map_err(|_| argon2::Error::OutputTooLong)
}

/// Passwords that are tried first by everybody who tries, in small letters; shorter ones are too short anyway.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// What a password must not be like.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The account's email.
    pub email: &'a str,
    /// The account's username.
    pub username: &'a str,
}

/// What is wrong with a password for this account, in Django's words; nothing, nothing.
#[must_use]
pub fn objections(password: &str, owner: Owner<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let lower = password.to_lowercase();
    for (what, value) in [("email address", owner.email), ("username", owner.username)] {
        if is_similar(&lower, &value.to_lowercase()) {
            found.push(format!("The password is too similar to the {what}."));
        }
    }
    let length = password.chars().count();
    if length < MIN_LENGTH {
        found.push(format!("This password is too short. It must contain at least {MIN_LENGTH} characters."));
    }
    if length > MAX_LENGTH {
        found.push(format!(
            "This password is too long. It must contain no more than {MAX_LENGTH} characters."
        ));
    }
    if COMMON.contains(lower.trim()) {
        found.push("This password is too common.".to_owned());
    }
    if !password.is_empty() && password.chars().all(char::is_numeric) {
        found.push("This password is entirely numeric.".to_owned());
    }
    found
}

/// Whether a password is like a name or one of the words in it: Django's `UserAttributeSimilarityValidator`.
fn is_similar(password: &str, name: &str) -> bool {
    let words = name.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.chain([name]).any(|word| {
        let (password_length, length) = (password.chars().count(), word.chars().count());
        // A short word in a long password says nothing.
        let is_too_short_to_matter = password_length >= 10 * length && length * 20 < password_length * 7;
        !is_too_short_to_matter && shared_characters(password, word) * 20 >= (password_length + length) * 7
    })
}

/// How many characters two texts share, wherever they stand.
fn shared_characters(a: &str, b: &str) -> usize {
    let mut counts: HashMap<char, usize> = HashMap::new();
    for c in b.chars() {
        *counts.entry(c).or_default() += 1;
    }
    a.chars()
        .filter(|c| counts.get_mut(c).filter(|count| **count > 0).map(|count| *count -= 1).is_some())
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner<'_> = Owner { email: "anna.berg@example.com", username: "mountaineer" };

    #[test]
    fn a_hash_is_argon2id_with_owasps_parameters_and_matches_its_password_alone() {
        let stored = hash("correct horse");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_ne!(stored, hash("correct horse"));
        let memory = &mut Vec::new();
        assert!(verify_in("correct horse", Some(&stored), memory));
        assert!(!verify_in("correct horse ", Some(&stored), memory));
        assert!(!verify_in("correct horse", None, memory));
        assert!(!verify_in("correct horse", Some("no hash"), memory));
    }

    #[test]
    fn hashes_of_other_makers_are_read_with_their_own_parameters() {
        // From the tests of the reference implementation.
        let stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify_in("password", Some(stored), &mut Vec::new()));
        assert!(!verify_in("passwort", Some(stored), &mut Vec::new()));
    }

    #[tokio::test]
    async fn a_password_that_nobody_can_have_costs_no_hash() {
        let passwords = Passwords::start(Size::for_this_machine(1));
        passwords.close().await;
        assert_eq!(passwords.verify("p".repeat(1_000_000), None).await, Ok(false));
        assert_eq!(passwords.verify("p".repeat(MAX_LENGTH), None).await, Err(Busy));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_closing_does_what_was_queued() {
        let passwords = Passwords::start(Size::for_this_machine(QUEUE));
        let mut waiting = Vec::new();
        // Nothing here yields, so at most what the threads already took leaves the queue.
        let refused = loop {
            let mut verify = Box::pin(passwords.verify("x".to_owned(), None));
            match futures_util::poll!(verify.as_mut()) {
                std::task::Poll::Pending => waiting.push(verify),
                std::task::Poll::Ready(answer) => break answer,
            }
            assert!(waiting.len() < QUEUE + 100, "no bound");
        };
        assert_eq!(refused, Err(Busy));
        let last = waiting.pop().unwrap();
        // Their callers are gone: they are skipped.
        drop(waiting);
        assert_eq!(last.await, Ok(false));
        let late = passwords.hash("x".to_owned());
        let (hashed, ()) = tokio::join!(late, passwords.close());
        assert!(hashed.unwrap().starts_with("$argon2id$"));
        assert_eq!(passwords.hash("x".to_owned()).await, Err(Busy));
    }

    #[test]
    fn weak_passwords_are_told_why() {
        for (password, why) in [
            ("a9-x", "This password is too short. It must contain at least 8 characters."),
            ("Password123", "This password is too common."),
            ("8675309000", "This password is entirely numeric."),
            ("٣٤٥٦٧٨٩٠", "This password is entirely numeric."),
            ("Mountaineer1", "The password is too similar to the username."),
            ("anna@example", "The password is too similar to the email address."),
            ("example.com", "The password is too similar to the email address."),
        ] {
            assert_eq!(objections(password, OWNER), [why], "{password}");
        }
        let long = "correct-horse".repeat(10);
        assert_eq!(objections(&long, OWNER).len(), 1);
        assert_eq!(objections("", OWNER).len(), 1);
        for password in
            ["correct horse battery", "Str0ng-Pass!", "souk-demo-1", "ünïcödé-wörds", "testpass123"]
        {
            assert_eq!(objections(password, OWNER), Vec::<String>::new(), "{password}");
        }
    }

    #[test]
    fn similarity_is_judged_as_django_does() {
        // SequenceMatcher(a=password, b=part).quick_ratio() >= 0.7
        assert!(is_similar("testclient", "testclient"));
        assert!(is_similar("annaberg1", "annaberg"));
        assert!(!is_similar("annabergonatallmountain", "annaberg"));
        assert!(!is_similar("whatever-else", "a"));
        assert!(!is_similar("whatever-else", ""));
    }

    #[test]
    fn the_list_of_common_passwords_holds_what_can_be_reached() {
        assert!(COMMON.len() > 300);
        for password in COMMON.iter() {
            assert!(password.len() >= MIN_LENGTH, "{password} is refused for its length already");
            assert_eq!(*password, password.to_lowercase().trim());
        }
    }
}
