//! The cache in front of the database: users, products, categories and pages of products, in memory, for an hour.
//!
//! Readers ask here first; what is missing is looked for in Redis, if there is one, where other nodes put what they have
//! loaded (all but users; see `redis.rs`), and then loaded from the database, once however many ask at the same time.
//! Nothing is ever removed by name: every entry is stored under the *generation* of what it depends on, and [`Cache::forget`]
//! raises the generation, so that no reader looks for the old entry any more. A loader takes the generation before it
//! asks the database; if a write comes in between, what it loads is stored where nobody will look. The order of a write
//! is therefore: commit, forget, answer.
//!
//! What is not there is not remembered either, and a failed load fails for those who waited for it and nobody else.
//! Every miss of every kind passes `Section::get`.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::db::{Db, StoreError};
use crate::model::{Category, Product, ProductId, User, UserId};
use crate::redis::{News, Place, Redis};
use crate::search::{self, Count, ProductFilter, ProductQuery};
use crate::{accounts, catalogue};

/// How long an entry lives; a bound on what a lost invalidation could do.
pub(crate) const LIFE: Duration = Duration::from_hours(1);

/// Generations kept for single products and users. Ids that share one are forgotten together, which costs a reload.
const SLOTS: usize = 4096;

/// What the books of an entry (keys, links, counters) take besides the value.
const ENTRY_OVERHEAD: usize = 160;

/// What a write can make stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// Every list of products, and how many products a category has: a product was created, changed or deleted.
    Catalogue,
    /// Lists of what is in stock, or is not: some product's last unit was sold, or a first one came. How many there are
    /// otherwise is laid over what was cached, so that not every sale empties the cache.
    Availability,
    /// One product by its id.
    Product(ProductId),
    /// All categories, and everything that shows a category's name: lists and single products alike.
    Categories,
    /// One account.
    User(UserId),
    /// All accounts.
    Users,
}

/// How often the answer was there, since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// Reads answered from memory.
    pub hits: u64,
    /// Reads that memory could not answer.
    pub misses: u64,
    /// Loads that found in Redis what another node, or this one earlier, had loaded; the others went to the database.
    pub shared_hits: u64,
}

/// The cache. Cheap to clone; all clones share the same entries.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    redis: Option<Redis>,
    generations: Generations,
    users: Section<UserId, Arc<User>>,
    products: Section<ProductId, Arc<Product>>,
    /// With those that only admins see, or without.
    categories: Section<bool, Arc<Vec<Category>>>,
    counts: Section<ProductFilter, Count>,
    pages: Section<ProductQuery, Arc<Vec<Product>>>,
}

struct Generations {
    everything: AtomicU64,
    all_users: AtomicU64,
    catalogue: AtomicU64,
    availability: AtomicU64,
    categories: AtomicU64,
    products: Box<[AtomicU64]>,
    users: Box<[AtomicU64]>,
}

impl Cache {
    /// An empty cache that will hold about `bytes` at most.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self::over(bytes, None)
    }

    /// The same with Redis behind it, if there is one.
    #[must_use]
    pub fn over(bytes: u64, redis: Option<Redis>) -> Self {
        Self(Arc::new(Inner {
            redis,
            generations: Generations::new(),
            users: Section::new(bytes / 8, |_, user| weight_of_user(user)),
            products: Section::new(bytes / 4, |_, product| weight_of_product(product)),
            categories: Section::new(bytes / 8, |_, categories| weight_of_categories(categories)),
            counts: Section::new(bytes / 16, |filter, _| filter.words.bytes()),
            pages: Section::new(bytes / 16 * 7, |query, products| {
                query.filter.words.bytes() + products.iter().map(weight_of_product).sum::<usize>()
            }),
        }))
    }

    /// Redis, if there is one.
    #[must_use]
    pub fn redis(&self) -> Option<&Redis> {
        self.0.redis.as_ref()
    }

    /// Makes every later read go to the database for what `keys` name. Call it after the commit and before the answer.
    pub fn forget(&self, keys: &[Key]) {
        self.tell(&News::forget(keys));
    }

    /// The same for what the news says must be forgotten, and tells all of it to the other nodes.
    pub fn tell(&self, news: &News) {
        if let Some(redis) = &self.0.redis
            && !news.is_empty()
        {
            // First, so that whoever takes the new generation knows that Redis may still hold what was before.
            redis.tell(news);
        }
        self.forget_here(&news.forget);
    }

    /// Forgets what another node has told, which needs not be told any further.
    pub fn forget_here(&self, keys: &[Key]) {
        for key in keys {
            self.0.generations.of(*key).fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Forgets all there is, here alone: nobody knows what was changed.
    pub fn forget_everything_here(&self) {
        self.0.generations.everything.fetch_add(1, Ordering::AcqRel);
    }

    /// The generation of all that an answer made from `key` depends on, for those who keep such answers themselves: take
    /// it before reading, and use the answer only while it is the same.
    ///
    /// It is the sum of counters that only rise, so it changes when one of them does. For lists of what is in stock,
    /// or is not, the key is [`Key::Availability`].
    #[must_use]
    pub fn generation(&self, key: Key) -> u64 {
        let of = |key| self.0.generations.of(key).load(Ordering::Acquire);
        let everything = self.0.generations.everything.load(Ordering::Acquire);
        everything
            + match key {
                Key::Catalogue | Key::Categories => of(Key::Catalogue) + of(Key::Categories),
                Key::Availability => of(Key::Availability) + of(Key::Catalogue) + of(Key::Categories),
                Key::Product(_) => of(key) + of(Key::Categories),
                Key::User(_) => of(key) + of(Key::Users),
                Key::Users => of(key),
            }
    }

    /// How often it helped.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let Inner { redis, generations: _, users, products, categories, counts, pages } = &*self.0;
        let sections =
            [&users.counters, &products.counters, &categories.counters, &counts.counters, &pages.counters];
        let sum = |count: fn(&Counters) -> &AtomicU64| {
            sections.iter().map(|counters| count(counters).load(Ordering::Relaxed)).sum()
        };
        let misses = sum(|counters| &counters.misses);
        let shared_hits = redis.as_ref().map_or(0, |redis| redis.counts().hits);
        CacheStats { hits: u64::saturating_sub(sum(|counters| &counters.reads), misses), misses, shared_hits }
    }

    /// What Redis has at this place, or else what `load` gives.
    async fn through<T: Serialize + DeserializeOwned>(
        &self,
        place: impl FnOnce() -> Option<Place>,
        load: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<Option<T>, StoreError> {
        match &self.0.redis {
            Some(redis) => match place() {
                Some(place) => redis.through(place, load).await,
                None => load.await,
            },
            None => load.await,
        }
    }

    /// The account with this id.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn user(&self, db: &Db, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let generation = self.generation(Key::User(id));
        self.0.users.get(id, generation, async { Ok(accounts::find(db, id).await?.map(Arc::new)) }).await
    }

    /// The product with this id, active or not. Its stock may be old: lay the ledger's level over it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn product(&self, db: &Db, id: ProductId) -> Result<Option<Arc<Product>>, StoreError> {
        let generation = self.generation(Key::Product(id));
        let load = async {
            let load = catalogue::product(db, id);
            Ok(Box::pin(self.through(|| Some(Place::product(id)), load)).await?.map(Arc::new))
        };
        self.0.products.get(id, generation, load).await
    }

    /// All categories by name; without `include_inactive` only what everybody may see, in their product counts too.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn categories(
        &self,
        db: &Db,
        include_inactive: bool,
    ) -> Result<Arc<Vec<Category>>, StoreError> {
        let generation = self.generation(Key::Categories);
        let load = async {
            let load = async { Ok(Some(catalogue::categories(db, include_inactive).await?)) };
            let place = || Some(Place::categories(include_inactive));
            Ok(Box::pin(self.through(place, load)).await?.map(Arc::new))
        };
        Ok(self.0.categories.get(include_inactive, generation, load).await?.unwrap_or_default())
    }

    /// How many products pass the query's filter, and those of the part of the list that it asks for. Their stock may
    /// be old: lay the ledger's levels over them.
    ///
    /// The count is kept apart, since all pages in all orders share it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn products(&self, db: &Db, query: &ProductQuery) -> Result<ProductPage, StoreError> {
        let filter = &query.filter;
        let key = if filter.in_stock.is_some() { Key::Availability } else { Key::Catalogue };
        let generation = self.generation(key);
        let load = async {
            let load = async {
                let categories = self.categories(db, true).await?;
                Ok(Some(search::count(db, filter, &categories).await?))
            };
            Box::pin(self.through(|| Place::count(filter), load)).await
        };
        let count = self.0.counts.get(filter.clone(), generation, load).await?.unwrap_or_default();
        if query.offset >= count.matching {
            return Ok(ProductPage { count: count.matching, products: Arc::default() });
        }
        let load = async {
            let load = async {
                let categories = self.categories(db, true).await?;
                Ok(Some(search::page(db, query, &categories, count).await?))
            };
            Ok(Box::pin(self.through(|| Place::page(query), load)).await?.map(Arc::new))
        };
        let products = self.0.pages.get(query.clone(), generation, load).await?.unwrap_or_default();
        Ok(ProductPage { count: count.matching, products })
    }
}

/// Part of a list of products.
#[derive(Clone, Debug)]
pub struct ProductPage {
    /// How many products the whole list has.
    pub count: i64,
    /// Those asked for.
    pub products: Arc<Vec<Product>>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cache").field(&self.stats()).finish()
    }
}

impl Generations {
    fn new() -> Self {
        let slots = || (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self {
            everything: AtomicU64::new(0),
            all_users: AtomicU64::new(0),
            catalogue: AtomicU64::new(0),
            availability: AtomicU64::new(0),
            categories: AtomicU64::new(0),
            products: slots(),
            users: slots(),
        }
    }

    fn of(&self, key: Key) -> &AtomicU64 {
        match key {
            Key::Catalogue => &self.catalogue,
            Key::Availability => &self.availability,
            Key::Categories => &self.categories,
            Key::Product(id) => &self.products[slot(id.0)],
            Key::User(id) => &self.users[slot(id.0)],
            Key::Users => &self.all_users,
        }
    }
}

/// Ids are dealt out one after the other, so their remainder spreads them as well as any hash.
fn slot(id: i64) -> usize {
    usize::try_from(id.unsigned_abs() % SLOTS as u64).expect("a remainder below SLOTS")
}

/// Entries of one kind.
struct Section<K, V> {
    entries: moka::future::Cache<(K, u64), V>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    misses: AtomicU64,
}

/// Why a load gave nothing to keep.
#[derive(Debug, thiserror::Error)]
enum Nothing {
    #[error("not there")]
    NotThere,
    #[error(transparent)]
    Failed(StoreError),
}

impl<K, V> Section<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new(bytes: u64, weight: fn(&K, &V) -> usize) -> Self {
        let entries = moka::future::Cache::builder()
            .max_capacity(bytes)
            .weigher(move |(key, _), value| {
                u32::try_from(weight(key, value) + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
            })
            .time_to_live(LIFE)
            // Not the default, which favours what was asked for often: entries of a past generation were, and are dead.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { entries, counters: Counters::default() }
    }

    /// The entry, or what `load` gives, which others who ask for the same meanwhile wait for and share.
    ///
    /// `generation` must have been read before `load` asks the database, which it does not do before it is polled.
    async fn get(
        &self,
        key: K,
        generation: u64,
        load: impl Future<Output = Result<Option<V>, StoreError>>,
    ) -> Result<Option<V>, StoreError> {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        let key = (key, generation);
        if let Some(value) = self.entries.get(&key).await {
            return Ok(Some(value));
        }
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        let load = async {
            match load.await {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err(Nothing::NotThere),
                Err(error) => Err(Nothing::Failed(error)),
            }
        };
        // Boxed, since the machinery of a shared load would otherwise make every caller's future large.
        match Box::pin(self.entries.try_get_with(key, load)).await {
            Ok(value) => Ok(Some(value)),
            Err(nothing) => match Arc::try_unwrap(nothing) {
                Ok(Nothing::NotThere) => Ok(None),
                Ok(Nothing::Failed(error)) => Err(error),
                Err(shared) => match &*shared {
                    Nothing::NotThere => Ok(None),
                    Nothing::Failed(StoreError::Unavailable(_)) => Err(StoreError::Unavailable(wrap(shared))),
                    Nothing::Failed(_) => Err(StoreError::Fault(wrap(shared))),
                },
            },
        }
    }
}

/// The error of a load that several waited for, for each of them.
fn wrap(shared: Arc<Nothing>) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(shared))
}

fn weight_of_user(user: &User) -> usize {
    let texts = [
        &user.email,
        &user.username,
        &user.first_name,
        &user.last_name,
        &user.phone,
        &user.address,
        &user.bio,
        &user.preferences,
    ];
    size_of::<User>()
        + texts.iter().map(|text| text.len()).sum::<usize>()
        + user.avatar.as_ref().map_or(0, String::len)
}

fn weight_of_product(product: &Product) -> usize {
    let texts = [&product.name, &product.description, &product.category_name, &product.sku];
    size_of::<Product>()
        + texts.iter().map(|text| text.len()).sum::<usize>()
        + product.image.as_ref().map_or(0, String::len)
}

fn weight_of_categories(categories: &[Category]) -> usize {
    let weight = |category: &Category| {
        size_of::<Category>()
            + category.name.len()
            + category.description.len()
            + category.image.as_ref().map_or(0, String::len)
    };
    categories.iter().map(weight).sum()
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn section() -> Section<i64, String> {
        Section::new(1 << 20, |_, text| text.len())
    }

    #[expect(clippy::unused_async, reason = "a load is a future")]
    async fn loaded(value: &str) -> Result<Option<String>, StoreError> {
        Ok(Some(value.to_owned()))
    }

    #[expect(clippy::unused_async, reason = "a load is a future")]
    async fn must_not_load() -> Result<Option<String>, StoreError> {
        panic!("the entry was not there")
    }

    #[tokio::test]
    async fn what_a_slow_reader_loaded_before_a_write_is_never_seen_after_it() {
        let (cache, section, key) = (Cache::new(1 << 20), section(), Key::Product(ProductId(7)));
        let (tell_read, has_read) = oneshot::channel();
        let (release, released) = oneshot::channel::<()>();

        let slow = section.get(7, cache.generation(key), async {
            tell_read.send(()).unwrap();
            released.await.unwrap();
            loaded("before").await
        });
        let writer = async {
            has_read.await.unwrap();
            cache.forget(&[key]);
            // Neither waits for the slow reader nor gets what it will bring.
            let after = section.get(7, cache.generation(key), loaded("after")).await.unwrap();
            assert_eq!(after.as_deref(), Some("after"));
            release.send(()).unwrap();
        };
        let (slow, ()) = tokio::join!(slow, writer);
        assert_eq!(slow.unwrap().as_deref(), Some("before"), "it began before the write");

        let later = section.get(7, cache.generation(key), must_not_load()).await.unwrap();
        assert_eq!(later.as_deref(), Some("after"));
    }

    #[tokio::test]
    async fn readers_of_the_same_share_one_load_and_one_failure() {
        let section = section();
        let loads = AtomicU64::new(0);
        let load = async || {
            loads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            loaded("x").await
        };
        let (a, b, c) =
            tokio::join!(section.get(1, 0, load()), section.get(1, 0, load()), section.get(1, 0, load()));
        assert!([a, b, c].iter().all(|value| value.as_ref().unwrap().as_deref() == Some("x")));
        assert_eq!(loads.load(Ordering::Relaxed), 1);

        let fail = async || {
            tokio::task::yield_now().await;
            Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut))
        };
        let (a, b) = tokio::join!(section.get(2, 0, fail()), section.get(2, 0, fail()));
        assert!([a, b].iter().all(|value| matches!(value, Err(StoreError::Unavailable(_)))));
        // The next one tries again.
        assert_eq!(section.get(2, 0, loaded("back")).await.unwrap().as_deref(), Some("back"));
    }

    #[tokio::test]
    async fn what_is_not_there_is_asked_for_again() {
        let section = section();
        assert_eq!(section.get(1, 0, async { Ok(None) }).await.unwrap(), None);
        assert_eq!(section.get(1, 0, loaded("made since")).await.unwrap().as_deref(), Some("made since"));
    }

    #[tokio::test]
    async fn a_reader_who_leaves_does_not_take_the_others_with_it() {
        let section = section();
        let mut leaves = Box::pin(section.get(1, 0, std::future::pending()));
        let mut stays = Box::pin(section.get(1, 0, loaded("x")));
        tokio::select! {
            biased;
            _ = &mut leaves => unreachable!(),
            _ = &mut stays => unreachable!("it waits for the first"),
            () = tokio::task::yield_now() => {}
        }
        drop(leaves);
        assert_eq!(stays.await.unwrap().as_deref(), Some("x"));
    }

    #[test]
    fn a_write_forgets_what_depends_on_it_and_nothing_else() {
        let cache = Cache::new(1 << 20);
        let keys = [
            Key::Catalogue,
            Key::Availability,
            Key::Categories,
            Key::Product(ProductId(1)),
            Key::User(UserId(1)),
            Key::Users,
        ];
        let changed_by = |key: Key| {
            let before = keys.map(|key| cache.generation(key));
            cache.forget(&[key]);
            let after = keys.map(|key| cache.generation(key));
            [0, 1, 2, 3, 4, 5].map(|i| before[i] != after[i])
        };
        assert_eq!(changed_by(Key::Catalogue), [true, true, true, false, false, false]);
        assert_eq!(changed_by(Key::Availability), [false, true, false, false, false, false]);
        assert_eq!(changed_by(Key::Categories), [true, true, true, true, false, false]);
        assert_eq!(changed_by(Key::Product(ProductId(1))), [false, false, false, true, false, false]);
        assert_eq!(changed_by(Key::Product(ProductId(2))), [false; 6]);
        assert_eq!(changed_by(Key::User(UserId(1))), [false, false, false, false, true, false]);
        assert_eq!(changed_by(Key::User(UserId(i64::MAX))), [false; 6]);
        assert_eq!(changed_by(Key::Users), [false, false, false, false, true, true]);
    }

    #[tokio::test]
    async fn it_stays_within_its_bytes() {
        let section: Section<i64, String> = Section::new(64 << 10, |_, text| text.len());
        for id in 0..1000 {
            section.get(id, 0, loaded(&"x".repeat(1000))).await.unwrap();
        }
        section.entries.run_pending_tasks().await;
        assert!(section.entries.weighted_size() <= 64 << 10);
        // The newest are there, so the room is not held by what came first.
        assert!(section.get(999, 0, must_not_load()).await.unwrap().is_some());
    }
}
