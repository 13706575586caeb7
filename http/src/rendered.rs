//! Answers that are ready to send: what the catalogue shows, written as JSON once, and compressed once.
//!
//! An [`Answer`] is kept under everything that shaped it: the URL as the client wrote it and whether an admin asks. It
//! is sent again only while it is true: while the cache's generation of what it depends on is the one it was made
//! under, and no product that it shows has another stock level by now. The second is looked at only when some level
//! changed since, which the levels' epoch tells in one comparison. What is not true any more is rendered anew and takes
//! its place. Nothing here reads the database.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use salvo::Request;
use salvo::http::{HeaderValue, Method, StatusCode, header, parse_accept_encoding_with_quality};
use serde::Serialize;
use souk_actors::Levels;
use souk_store::cache::{Cache, Key};
use souk_store::model::ProductId;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::ApiError;
use crate::hoops::LEAST_COMPRESSED;
use crate::reply::Reply;

/// How much all kept answers may take, about.
const MOST_BYTES: u64 = 32 << 20;

/// Longer URLs are not worth their keep.
const LONGEST_KEY: usize = 512;

/// Larger bodies are left to the hoop, which compresses them more lightly.
const MOST_COMPRESSED: usize = 256 << 10;

/// What the books of an entry take besides its bytes.
const ENTRY_OVERHEAD: usize = 400;

/// The answers that are kept.
pub(crate) struct Answers {
    entries: moka::sync::Cache<String, Arc<Answer>>,
    hits: AtomicU64,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("entries", &self.entries.entry_count()).finish()
    }
}

impl Default for Answers {
    fn default() -> Self {
        let weight = |key: &String, answer: &Arc<Answer>| {
            // Its compressed forms, made later, are a third of it or so.
            let bytes = key.len() + answer.body.len() * 3 / 2 + answer.shown.len() * 16 + ENTRY_OVERHEAD;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let entries = moka::sync::Cache::builder()
            .max_capacity(MOST_BYTES)
            .weigher(weight)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { entries, hits: AtomicU64::new(0) }
    }
}

impl Answers {
    /// What this request is answered with is kept under this key.
    pub(crate) fn key(req: &Request, is_admin: bool) -> String {
        let uri = req.uri();
        let host = uri.authority().map_or("localhost", |authority| authority.as_str());
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let viewer = if is_admin { "admin" } else { "anyone" };
        let mut key = String::with_capacity(viewer.len() + host.len() + target.len() + 10);
        for part in [viewer, " ", req.scheme().as_str(), "://", host, target] {
            key.push_str(part);
        }
        key
    }

    /// The answer kept under `key`, if it is still true.
    pub(crate) fn get(&self, key: &str, cache: &Cache, levels: &Levels) -> Option<Arc<Answer>> {
        let answer = self.entries.get(key).filter(|answer| answer.is_true(cache, levels))?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(answer)
    }

    /// How often an answer was there, since the start.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.entries.entry_count()
    }

    /// Keeps the answer to a request, unless it has parameters other than these: whatever anybody makes up would be an
    /// entry.
    pub(crate) fn put(&self, req: &Request, key: String, answer: &Arc<Answer>, parameters: &[&str]) {
        let query = req.uri().query().unwrap_or_default();
        let mut names = query.split('&').filter_map(|part| part.split('=').next());
        if key.len() <= LONGEST_KEY && names.all(|name| name.is_empty() || parameters.contains(&name)) {
            self.entries.insert(key, Arc::clone(answer));
        }
    }
}

/// The state of the shop at the moment before an answer is made. Taken before anything is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    depends_on: Key,
    generation: u64,
    epoch: u64,
}

impl Moment {
    pub(crate) fn before(depends_on: Key, cache: &Cache, levels: &Levels) -> Self {
        Self { depends_on, generation: cache.generation(depends_on), epoch: levels.epoch() }
    }
}

/// How an answer's tag is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tag {
    /// From its bytes; weak.
    OfContent,
    /// From the product's version and its bytes; strong, and good for `If-Match`.
    OfVersion(i64),
}

/// A written answer.
#[derive(Debug)]
pub(crate) struct Answer {
    moment: Moment,
    /// The epoch of the levels up to which it is known to be true.
    true_until: AtomicU64,
    /// The products whose stock it shows, and the versions that the levels had.
    shown: Vec<(ProductId, i64)>,
    body: Bytes,
    etag: HeaderValue,
    weak_etag: HeaderValue,
    compressed: [OnceLock<Bytes>; 3],
}

impl Answer {
    /// Writes `value`, which shows these products with these versions.
    pub(crate) fn new(
        moment: Moment,
        value: &impl Serialize,
        shown: Vec<(ProductId, i64)>,
        tag: Tag,
    ) -> Result<Arc<Self>, ApiError> {
        let body: Bytes = serde_json::to_vec(value)
            .map_err(|error| {
                tracing::error!(error = error.to_string(), "an answer could not be written as json");
                ApiError::internal()
            })?
            .into();
        let mut text = String::from("W/\"");
        if let Tag::OfVersion(version) = tag {
            let _ = write!(text, "{version}-");
        }
        let _ = write!(text, "{:032x}\"", xxh3_128(&body));
        let header = |text: &str| HeaderValue::from_str(text).expect("digits and quotes");
        let weak_etag = header(&text);
        let etag = match tag {
            Tag::OfContent => weak_etag.clone(),
            Tag::OfVersion(_) => header(&text[2..]),
        };
        Ok(Arc::new(Self {
            moment,
            true_until: AtomicU64::new(moment.epoch),
            shown,
            body,
            etag,
            weak_etag,
            compressed: Default::default(),
        }))
    }

    fn is_true(&self, cache: &Cache, levels: &Levels) -> bool {
        if cache.generation(self.moment.depends_on) != self.moment.generation {
            return false;
        }
        let epoch = levels.epoch();
        if self.true_until.load(Ordering::Acquire) == epoch {
            return true;
        }
        let changed =
            |(id, version): &(ProductId, i64)| levels.get(*id).is_some_and(|level| level.version > *version);
        if self.shown.iter().any(changed) {
            return false;
        }
        self.true_until.store(epoch, Ordering::Release);
        true
    }

    /// The reply to a read: 304 if the client has it already, compressed if it wishes.
    pub(crate) fn reply(&self, req: &Request) -> Reply {
        if is_known(req, &self.etag) {
            return with_cache_headers(Reply::not_modified(), &self.etag);
        }
        match self.encoding_for(req) {
            None => with_cache_headers(Reply::bytes(StatusCode::OK, self.body.clone()), &self.etag),
            Some(encoding) => {
                let body = self.compressed[encoding as usize].get_or_init(|| encoding.compress(&self.body));
                // Other bytes than the plain ones, so not the same strong tag.
                with_cache_headers(Reply::bytes(StatusCode::OK, body.clone()), &self.weak_etag)
                    .header(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()))
            }
        }
    }

    /// The reply to a write that had this outcome.
    pub(crate) fn reply_to_write(&self, status: StatusCode) -> Reply {
        Reply::bytes(status, self.body.clone()).header(header::ETAG, self.etag.clone())
    }

    fn encoding_for(&self, req: &Request) -> Option<Encoding> {
        if !(LEAST_COMPRESSED..=MOST_COMPRESSED).contains(&self.body.len()) || req.method() == Method::HEAD {
            return None;
        }
        let accepted = req.headers().get(header::ACCEPT_ENCODING)?.to_str().ok()?;
        let accepted = parse_accept_encoding_with_quality(accepted);
        let best = accepted
            .iter()
            .filter(|(_, quality)| *quality > 0)
            .filter_map(|(name, quality)| Some((Encoding::named(name)?, *quality)))
            // Of equals the one that comes out smallest.
            .max_by_key(|(encoding, quality)| (*quality, std::cmp::Reverse(*encoding)));
        best.map(|(encoding, _)| encoding)
    }
}

fn with_cache_headers(reply: Reply, etag: &HeaderValue) -> Reply {
    // To be kept, but asked for again each time: prices and stock change at any moment.
    reply
        .header(header::ETAG, etag.clone())
        .header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))
        .header(header::VARY, HeaderValue::from_static("accept-encoding, authorization"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Encoding {
    Brotli,
    Zstd,
    Gzip,
}

impl Encoding {
    fn named(name: &str) -> Option<Self> {
        [Self::Brotli, Self::Zstd, Self::Gzip].into_iter().find(|encoding| encoding.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Harder than what is compressed for one request alone, and still well below a millisecond.
    fn compress(self, body: &[u8]) -> Bytes {
        const INFALLIBLE: &str = "writing to memory does not fail";
        match self {
            Self::Brotli => {
                let mut out = Vec::new();
                let parameters = brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
                brotli::BrotliCompress(&mut &body[..], &mut out, &parameters).expect(INFALLIBLE);
                out.into()
            }
            Self::Zstd => zstd::bulk::compress(body, 3).expect(INFALLIBLE).into(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(body).expect(INFALLIBLE);
                encoder.finish().expect(INFALLIBLE).into()
            }
        }
    }
}

/// The entity tags in a header, without quotes and without `W/`: they are compared weakly, since proxies that
/// compress weaken them. `*` is none of them.
pub(crate) fn tags<'r>(req: &'r Request, name: &header::HeaderName) -> impl Iterator<Item = &'r str> {
    let values = req.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(opaque)
}

/// Whether a header is `*`: anything that is there.
pub(crate) fn is_any(req: &Request, name: &header::HeaderName) -> bool {
    req.headers().get(name).is_some_and(|value| value.as_bytes().trim_ascii() == b"*")
}

fn opaque(tag: &str) -> Option<&str> {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')
}

/// Whether the client says that it has what this tag stands for.
pub(crate) fn is_known(req: &Request, etag: &HeaderValue) -> bool {
    if !req.headers().contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    let own = etag.to_str().ok().and_then(opaque);
    is_any(req, &header::IF_NONE_MATCH) || tags(req, &header::IF_NONE_MATCH).any(|tag| Some(tag) == own)
}
