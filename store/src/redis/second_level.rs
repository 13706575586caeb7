//! The second level of the cache: what one node loaded, for the others.
//!
//! `Cache` alone asks here, when its memory has not what a reader wants. The protocol is in the head of `redis.rs`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fred::prelude::{Expiration, HashesInterface, KeysInterface, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Connection, EPOCH, Redis, new_stamp};
use crate::cache::{Key, LIFE};
use crate::db::StoreError;
use crate::model::ProductId;
use crate::search::{ProductFilter, ProductQuery, SortBy};

/// Longer values are cheaper to load than to carry.
const LONGEST_VALUE: usize = 256 << 10;

/// Stamps kept for single products. Ids that share one are forgotten together, which costs a reload.
const SLOTS: u64 = 4096;

/// Where a value is kept, and what it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    name: String,
    depends: &'static [Key],
    product: Option<ProductId>,
}

impl Place {
    pub(crate) fn product(id: ProductId) -> Self {
        Self { name: format!("product:{id}"), depends: &[Key::Categories], product: Some(id) }
    }

    pub(crate) fn categories(include_inactive: bool) -> Self {
        Self {
            name: format!("categories:{}", if include_inactive { "all" } else { "active" }),
            depends: &[Key::Catalogue, Key::Categories],
            product: None,
        }
    }

    /// None for what visitors type: its variety has no end, and it may be anything.
    pub(crate) fn count(filter: &ProductFilter) -> Option<Self> {
        Some(Self { name: format!("count:{}", described(filter)?), depends: of_lists(filter), product: None })
    }

    /// None as for [`Place::count`].
    pub(crate) fn page(query: &ProductQuery) -> Option<Self> {
        let mut name = format!("page:{}", described(&query.filter)?);
        for term in query.ordering.terms() {
            let by = match term.by {
                SortBy::CreatedAt => "created_at",
                SortBy::Price => "price",
                SortBy::Name => "name",
            };
            name += if term.descending { ",-" } else { "," };
            name += by;
        }
        // Writing into a text cannot fail.
        let _written = write!(name, ":{}+{}", query.offset, query.limit);
        Some(Self { name, depends: of_lists(&query.filter), product: None })
    }

    fn fields(&self) -> Vec<String> {
        let product = self.product.map(Key::Product);
        let fields = self.depends.iter().copied().chain(product).filter_map(field);
        std::iter::once(EPOCH.to_owned()).chain(fields).collect()
    }
}

fn of_lists(filter: &ProductFilter) -> &'static [Key] {
    match filter.in_stock {
        Some(_) => &[Key::Availability, Key::Catalogue, Key::Categories],
        None => &[Key::Catalogue, Key::Categories],
    }
}

fn described(filter: &ProductFilter) -> Option<String> {
    let ProductFilter {
        category,
        price_min,
        price_max,
        in_stock,
        featured,
        words,
        include_inactive,
        nothing,
    } = filter;
    if !words.is_empty() || price_min.is_some() || price_max.is_some() || *nothing {
        return None;
    }
    let flag = |flag: Option<bool>| flag.map_or("any", |flag| if flag { "yes" } else { "no" });
    let category = category.map_or_else(|| "any".to_owned(), |category| category.to_string());
    let seen = if *include_inactive { "all" } else { "active" };
    Some(format!("{seen}:category={category}:in_stock={}:featured={}", flag(*in_stock), flag(*featured)))
}

/// The field of the stamps that a write of this renews; none if nothing in Redis depends on it.
pub(super) fn field(key: Key) -> Option<String> {
    match key {
        Key::Catalogue => Some("catalogue".to_owned()),
        Key::Availability => Some("availability".to_owned()),
        Key::Categories => Some("categories".to_owned()),
        Key::Product(id) => Some(format!("product:{}", id.0.unsigned_abs() % SLOTS)),
        Key::User(_) | Key::Users => None,
    }
}

/// What a look into Redis brought.
enum Look<T> {
    There(T),
    /// Not there; what is loaded now may be stored under these stamps.
    Missing(Arc<Connection>, String),
    /// Redis is not asked, or does not answer.
    Nothing,
}

impl Redis {
    /// The value at this place if it is there and true, or else what `load` gives, for the next one.
    pub(crate) async fn through<T: Serialize + DeserializeOwned>(
        &self,
        place: Place,
        load: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<Option<T>, StoreError> {
        let (connection, stamps) = match Box::pin(self.look(&place)).await {
            Look::There(value) => {
                self.0.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(Some(value));
            }
            Look::Missing(connection, stamps) => (connection, stamps),
            Look::Nothing => return load.await,
        };
        let value = load.await?;
        if let Some(value) = &value {
            Box::pin(self.store(&connection, &place, stamps, value)).await;
        }
        Ok(value)
    }

    async fn look<T: DeserializeOwned>(&self, place: &Place) -> Look<T> {
        // The generation under which the caller will keep what it finds was taken before this.
        if !self.0.told_all.load(Ordering::SeqCst) {
            return Look::Nothing;
        }
        let Some(connection) = self.usable_by(|connection| &connection.readers) else { return Look::Nothing };
        let pipeline = connection.commands.pipeline();
        let question = async {
            let () = pipeline.hmget(self.stamps(), place.fields()).await?;
            let () = pipeline.get(self.key(&place.name)).await?;
            let mut answers = pipeline.all::<Vec<Value>>().await?;
            let value = answers.pop().unwrap_or(Value::Null).convert::<Option<String>>()?;
            let stamps = answers.pop().unwrap_or(Value::Null).convert::<Vec<Option<String>>>()?;
            Ok((stamps, value))
        };
        let Some((stamps, value)) = connection.readers.ask(question).await else { return Look::Nothing };
        if stamps.first().is_none_or(Option::is_none) {
            self.begin_first_epoch(&connection).await;
            return Look::Nothing;
        }
        // A stamp that was never set is as good as any: when it is set, it is another one.
        let stamps: Vec<_> = stamps.into_iter().map(Option::unwrap_or_default).collect();
        let stamps = stamps.join(" ");
        let found = value.and_then(|value| {
            let (under, value) = value.split_once('\n')?;
            // What cannot be read was written by another version of Souk.
            (under == stamps).then(|| serde_json::from_str(value).ok()).flatten()
        });
        found.map_or(Look::Missing(Arc::clone(&connection), stamps), Look::There)
    }

    async fn store<T: Serialize>(&self, connection: &Connection, place: &Place, stamps: String, value: &T) {
        let mut text = stamps;
        text.push('\n');
        text += &serde_json::to_string(value).expect("plain data is always JSON");
        if text.len() > LONGEST_VALUE || connection.readers.is_lost() {
            return;
        }
        let life = Expiration::EX(i64::try_from(LIFE.as_secs()).unwrap_or(i64::MAX));
        let storing =
            connection.commands.set::<(), _, _>(self.key(&place.name), text, Some(life), None, false);
        let _stored = connection.readers.ask(storing).await;
    }

    /// Redis was emptied: of all who notice, the first begins an epoch.
    async fn begin_first_epoch(&self, connection: &Connection) {
        let pipeline = connection.commands.pipeline();
        let work = async {
            let () = pipeline.hsetnx(self.stamps(), EPOCH, new_stamp()).await?;
            let () = pipeline.expire(self.stamps(), super::EPOCH_LIFE, None).await?;
            pipeline.all::<()>().await
        };
        let _begun = connection.readers.ask(work).await;
    }
}
