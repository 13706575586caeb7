//! Lists of products: what a visitor may filter, search and sort by, as SQL that stays quick at 100,000 products.
//!
//! A statement is put together from static pieces; every value is bound. How it is put together differs by engine
//! (`sqlite`, `postgres`), what it finds does not. The cache asks here, others ask the cache.
//!
//! The count comes first and is exact. Knowing it, nobody asks for a page that does not exist, and on SQLite, which
//! keeps no statistics of texts, it decides how the page is looked for.

mod postgres;
mod sqlite;
pub mod staff;
#[cfg(test)]
mod tests;

use crate::db::{Db, StoreError};
use crate::model::{Category, CategoryId, Money, Product, fold};
use crate::sql::{Sql, fetch};

/// Which products to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProductFilter {
    /// Those of this category.
    pub category: Option<CategoryId>,
    /// Those that cost at least this.
    pub price_min: Option<Money>,
    /// Those that cost at most this.
    pub price_max: Option<Money>,
    /// Those that can be bought now, or those that are sold out.
    pub in_stock: Option<bool>,
    /// Those that are featured, or the others.
    pub featured: Option<bool>,
    /// Those in whose name, description or category's name each of these occurs.
    pub words: SearchWords,
    /// Also those that only admins see.
    pub include_inactive: bool,
    /// None at all: some filters exclude each other.
    pub nothing: bool,
}

/// Which products to list, in what order, and which part of that list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProductQuery {
    /// Which products.
    pub filter: ProductFilter,
    /// The terms of the order, the first weighing most; ties by id in the direction of the last term. None: newest first.
    pub ordering: Ordering,
    /// How many at most.
    pub limit: i64,
    /// How many to pass over.
    pub offset: i64,
}

/// The words of a search: folded, each once, sorted, so that the same search is always the same value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SearchWords(Vec<String>);

impl SearchWords {
    /// The blank-separated words of what a visitor typed.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut words: Vec<_> = text
            .split_whitespace()
            .map(|word| drop_tag_characters(fold(word)))
            .filter(|word| !word.is_empty())
            .collect();
        words.sort_unstable();
        words.dedup();
        Self(words)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|word| word.len() + size_of::<String>()).sum()
    }
}

/// What a list can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SortBy {
    /// When it was created.
    CreatedAt,
    /// What it costs.
    Price,
    /// Its name, in any case.
    Name,
}

/// A term of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SortTerm {
    /// What to compare.
    pub by: SortBy,
    /// From the highest to the lowest.
    pub descending: bool,
}

/// The order of a list: at most one term for each [`SortBy`], and at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ordering(Vec<SortTerm>);

impl Ordering {
    /// The order with these terms. A later term about the same thing decides nothing and is dropped.
    #[must_use]
    pub fn new(terms: impl IntoIterator<Item = SortTerm>) -> Self {
        let mut distinct: Vec<SortTerm> = Vec::new();
        for term in terms {
            if distinct.iter().all(|known| known.by != term.by) {
                distinct.push(term);
            }
        }
        if distinct.is_empty() { Self::default() } else { Self(distinct) }
    }

    pub(crate) fn terms(&self) -> &[SortTerm] {
        &self.0
    }

    fn first(&self) -> SortBy {
        self.0[0].by
    }
}

impl Default for Ordering {
    /// Newest first.
    fn default() -> Self {
        Self(vec![SortTerm { by: SortBy::CreatedAt, descending: true }])
    }
}

/// How many products there are to a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, sqlx::FromRow)]
pub struct Count {
    /// Those that pass it.
    pub matching: i64,
    /// All of the shop.
    pub all: i64,
}

/// Characters that no text keeps: noncharacters, which Unicode sets aside for a program's own use. The tags in
/// `products.search_tags` are made of them.
fn is_tag_character(character: char) -> bool {
    ('\u{fdd0}'..='\u{fdef}').contains(&character)
}

/// The text without what only tags are made of.
pub(crate) fn drop_tag_characters(mut text: String) -> String {
    text.retain(|character| !is_tag_character(character));
    text
}

/// How many products pass the filter. `categories` are all there are, for words that occur in their names.
///
/// # Errors
/// [`StoreError::Unavailable`] if the database does not answer.
pub(crate) async fn count(
    db: &Db,
    filter: &ProductFilter,
    categories: &[Category],
) -> Result<Count, StoreError> {
    if filter.nothing {
        return Ok(Count::default());
    }
    let words = words(db, filter, categories).await?;
    let sql = match db {
        Db::Sqlite(_) => sqlite::count(filter, &words),
        Db::Postgres(_) => postgres::count(filter, &words),
    };
    Ok(fetch::<Count>(db, sql).await?.pop().unwrap_or_default())
}

/// The products of that part of the list, given how many pass its filter.
///
/// # Errors
/// As [`count`].
pub(crate) async fn page(
    db: &Db,
    query: &ProductQuery,
    categories: &[Category],
    count: Count,
) -> Result<Vec<Product>, StoreError> {
    if query.filter.nothing || query.offset >= count.matching {
        return Ok(Vec::new());
    }
    let words = words(db, &query.filter, categories).await?;
    match db {
        Db::Sqlite(_) => {
            let wanted = usize::try_from(query.limit.min(count.matching - query.offset)).unwrap_or(0);
            let mut products = Vec::new();
            for plan in sqlite::plans(query, &words, count) {
                products = fetch(db, sqlite::page(query, &words, plan)).await?;
                if products.len() >= wanted {
                    break;
                }
            }
            Ok(products)
        }
        Db::Postgres(_) => fetch(db, postgres::page(query, &words)).await,
    }
}

/// A word with the categories in whose names it occurs: their products match it whatever their own text.
#[derive(Debug)]
struct Word<'a> {
    text: &'a str,
    categories: Vec<CategoryId>,
    /// On SQLite: the trigrams that begin with it, if it is shorter than these and they are few.
    trigrams: Option<Vec<String>>,
}

impl Word<'_> {
    /// `,3,17,`: so that an id can be looked for without parsing; None if there are no categories.
    fn category_list(&self) -> Option<String> {
        let ids: Vec<_> = self.categories.iter().map(ToString::to_string).collect();
        (!ids.is_empty()).then(|| format!(",{},", ids.join(",")))
    }
}

/// The words of a search, without what only SQLite's index needs.
fn words_of<'a>(words: &'a SearchWords, categories: &[Category]) -> Vec<Word<'a>> {
    let names: Vec<_> = categories.iter().map(|category| (category.id, fold(&category.name))).collect();
    let within =
        |text: &str| names.iter().filter(|(_, name)| name.contains(text)).map(|(id, _)| *id).collect();
    words.0.iter().map(|text| Word { text, categories: within(text), trigrams: None }).collect()
}

async fn words<'a>(
    db: &Db,
    filter: &'a ProductFilter,
    categories: &[Category],
) -> Result<Vec<Word<'a>>, StoreError> {
    let mut words = words_of(&filter.words, categories);
    if let Db::Sqlite(_) = db {
        let mut room = sqlite::MOST_TRIGRAMS;
        for word in &mut words {
            word.trigrams = sqlite::trigrams(db, word.text, room).await?;
            room -= word.trigrams.as_ref().map_or(0, Vec::len);
        }
    }
    Ok(words)
}

impl Sql {
    /// The conditions about the columns of `products p` that say the same on both engines.
    fn plain_filters(&mut self, filter: &ProductFilter) -> &mut Self {
        if !filter.include_inactive {
            self.condition("p.is_active");
        }
        if let Some(featured) = filter.featured {
            self.condition(if featured { "p.featured" } else { "not p.featured" });
        }
        if let Some(category) = filter.category {
            self.condition("p.category_id = ").bind(category.0);
        }
        self.prices(filter)
    }

    fn prices(&mut self, filter: &ProductFilter) -> &mut Self {
        if let Some(price) = filter.price_min {
            self.condition("p.price >= ").bind(price.0);
        }
        if let Some(price) = filter.price_max {
            self.condition("p.price <= ").bind(price.0);
        }
        self
    }

    fn order_by(&mut self, ordering: &Ordering) -> &mut Self {
        for (place, term) in ordering.0.iter().enumerate() {
            self.add(if place == 0 { " order by " } else { ", " });
            self.add(match term.by {
                SortBy::CreatedAt => "p.created_at",
                SortBy::Price => "p.price",
                SortBy::Name => "p.name_folded",
            });
            self.add(if term.descending { " desc" } else { "" });
        }
        let descending = ordering.0.last().is_some_and(|term| term.descending);
        self.add(if descending { ", p.id desc" } else { ", p.id" })
    }
}
