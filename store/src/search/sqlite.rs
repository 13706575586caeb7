//! Lists of products on SQLite: which index to walk is said here, since its planner cannot know how often words occur.
//!
//! Words of three characters or more are looked up in the trigram table `product_search`, shorter ones by the trigrams
//! that begin with them; where these are too many, a single common letter, the text of each candidate is read. The table
//! also holds each product's tags, so that the filters by category, featured and active are part of the same full-text
//! query, and a count needs no other table. The figures below are from 100,000 products on one core.

use super::{Count, Ordering, ProductFilter, ProductQuery, SortBy, Word, is_tag_character};
use crate::catalogue::product_columns;
use crate::db::{Db, StoreError};
use crate::model::CategoryId;
use crate::sql::{Sql, fetch};

/// The characters of a trigram.
const TRIGRAM: usize = 3;

/// The most trigrams that the short words of a search may begin; for those that begin more, texts are read.
pub(super) const MOST_TRIGRAMS: usize = 64;

/// How a page is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Read the texts of the first products in the list's order, this many, and keep those that match. Exact if it finds
    /// enough; the quickest for words that occur often, but those that match may all be at the other end.
    Glance(i64),
    /// Walk the index of the order past what does not match: for many matches, or deep pages of them.
    Walk,
    /// Fetch all that match and sort them: for few.
    Gather,
}

/// A glance at more products would cost more than it saves.
const MOST_GLANCED: i64 = 2_000;

// What it costs to pass one product, in nanoseconds.
/// In the full-text index.
const MATCH: i64 = 300;
/// From there into the set that a walk asks.
const MEMBER: i64 = 150;
/// In an index that holds all that is asked.
const WALK: i64 = 45;
/// By fetching its row and comparing its text, or sorting it.
const FETCH: i64 = 1_000;
/// The same, row after row as they lie in the file.
const SCAN: i64 = 600;

/// The plans to try, in this order, until one finds all that the page must hold. The last always does.
pub(super) fn plans(query: &ProductQuery, words: &[Word<'_>], count: Count) -> Vec<Plan> {
    let wanted = query.offset.saturating_add(query.limit).min(count.matching);
    // If the matches lie evenly in the order, this many products are passed before the page is full.
    let passed = wanted.saturating_mul(count.all) / count.matching.max(1);
    let indexed = words.iter().any(is_indexed);
    let (gather, walk) = if indexed {
        (count.matching * (MATCH + FETCH), count.matching * (MATCH + MEMBER) + passed * WALK)
    } else if words.is_empty() {
        (count.matching * FETCH, passed * WALK)
    } else {
        (count.all * SCAN, passed * FETCH)
    };
    let last = if gather < walk { Plan::Gather } else { Plan::Walk };
    let glance = passed.saturating_mul(2) + 20;
    if indexed && glance <= MOST_GLANCED && glance * FETCH < gather.min(walk) {
        vec![Plan::Glance(glance), last]
    } else {
        vec![last]
    }
}

pub(super) fn count(filter: &ProductFilter, words: &[Word<'_>]) -> Sql {
    let mut sql = Sql::default();
    if let Some(text) = match_text(filter, words) {
        let in_short_words = words.iter().any(|word| !is_indexed(word));
        let in_prices = filter.price_min.is_some() || filter.price_max.is_some();
        sql.select(
            "select count(*) as matching, (select count(*) from products) as \"all\" from product_search s",
        );
        if in_short_words {
            sql.add(" cross join products p on p.id = s.rowid");
        } else if in_prices {
            sql.add(" cross join products p indexed by products_prices on p.id = s.rowid");
        }
        sql.condition("s.product_search match ").bind(text);
        sql.prices(filter);
        in_stock_by_match(&mut sql, filter);
        short_words(&mut sql, words);
        return sql;
    }
    // What is in stock is what there is without what is sold out: of that there is an index.
    sql.add("select ");
    if filter.in_stock != Some(false) {
        sql.select("(select count(*) from products p").plain_filters(filter);
        every_word(&mut sql, words);
        sql.add(")");
    }
    if filter.in_stock == Some(true) {
        sql.add(" - ");
    }
    if filter.in_stock.is_some() {
        sql.select("(select count(*) from products p").plain_filters(filter).condition("p.stock = 0");
        every_word(&mut sql, words);
        sql.add(")");
    }
    sql.add(" as matching, (select count(*) from products) as \"all\"");
    sql
}

pub(super) fn page(query: &ProductQuery, words: &[Word<'_>], plan: Plan) -> Sql {
    let mut sql = Sql::default();
    sql.add(concat!("select ", product_columns!(), " from ("));
    match plan {
        Plan::Glance(most) => glance(&mut sql, query, words, most),
        Plan::Walk => walk(&mut sql, query, words),
        Plan::Gather => gather(&mut sql, query, words),
    }
    sql.order_by(&query.ordering).part(query.limit, query.offset);
    sql.add(") page join products p on p.id = page.id join categories c on c.id = p.category_id");
    sql.order_by(&query.ordering);
    sql
}

fn glance(sql: &mut Sql, query: &ProductQuery, words: &[Word<'_>], most: i64) {
    sql.add("select p.id from (");
    sql.select("select p.id, p.created_at, p.price, p.name_folded, p.category_id, p.search_text");
    sql.add(in_order(&query.ordering)).plain_filters(&query.filter);
    in_stock_by_index(sql, &query.filter);
    sql.order_by(&query.ordering).add(" limit ").bind(most);
    sql.select(") p");
    every_word(sql, words);
}

fn walk(sql: &mut Sql, query: &ProductQuery, words: &[Word<'_>]) {
    sql.select("select p.id").add(in_order(&query.ordering));
    if let Some(text) = match_text(&query.filter, words) {
        sql.condition("p.id in (select rowid from product_search where product_search match ");
        sql.bind(text).add(")").prices(&query.filter);
        in_stock_by_index(sql, &query.filter);
        short_words(sql, words);
    } else {
        sql.plain_filters(&query.filter);
        in_stock_by_index(sql, &query.filter);
        every_word(sql, words);
    }
}

fn gather(sql: &mut Sql, query: &ProductQuery, words: &[Word<'_>]) {
    let text = match_text(&query.filter, words);
    sql.select("select p.id from ");
    if let Some(text) = text {
        // The row itself comes last: it is long, and the indexes know already whether it passes.
        sql.add("product_search s");
        if query.filter.price_min.is_some() || query.filter.price_max.is_some() {
            sql.add(" cross join products f indexed by products_prices on f.id = s.rowid");
        }
        sql.add(" cross join products p on p.id = s.rowid");
        sql.condition("s.product_search match ").bind(text);
        if let Some(price) = query.filter.price_min {
            sql.condition("f.price >= ").bind(price.0);
        }
        if let Some(price) = query.filter.price_max {
            sql.condition("f.price <= ").bind(price.0);
        }
        in_stock_by_match(sql, &query.filter);
        short_words(sql, words);
    } else {
        sql.add("products p").plain_filters(&query.filter);
        in_stock_by_row(sql, &query.filter);
        every_word(sql, words);
    }
}

fn in_order(ordering: &Ordering) -> &'static str {
    match ordering.first() {
        SortBy::CreatedAt => " from products p indexed by products_newest",
        SortBy::Price => " from products p indexed by products_by_price",
        SortBy::Name => " from products p indexed by products_by_name",
    }
}

/// For rows of the full-text index. A scalar, since an `exists` would be joined behind the rows that it shall spare.
fn in_stock_by_match(sql: &mut Sql, filter: &ProductFilter) {
    if let Some(in_stock) = filter.in_stock {
        sql.condition(
            "(select 1 from products o indexed by products_sold_out where o.id = s.rowid and o.stock = 0)",
        );
        sql.add(if in_stock { " is null" } else { " is not null" });
    }
}

/// For walks along an index, which does not hold the stock: the row is not fetched for it.
fn in_stock_by_index(sql: &mut Sql, filter: &ProductFilter) {
    if let Some(in_stock) = filter.in_stock {
        sql.condition(
            "(select 1 from products o indexed by products_sold_out where o.id = p.id and o.stock = 0)",
        );
        sql.add(if in_stock { " is null" } else { " is not null" });
    }
}

fn in_stock_by_row(sql: &mut Sql, filter: &ProductFilter) {
    match filter.in_stock {
        Some(true) => drop(sql.condition("p.stock > 0")),
        Some(false) => drop(sql.condition("p.stock = 0")),
        None => {}
    }
}

fn is_indexed(word: &Word<'_>) -> bool {
    word.trigrams.is_some() || !is_short(word.text)
}

fn is_short(text: &str) -> bool {
    text.chars().count() < TRIGRAM
}

/// The trigrams that begin with a word shorter than they are; None if it is not, or if they are more than `most`.
///
/// Every place where such a word occurs is the beginning of one of them, since texts end with line feeds.
pub(super) async fn trigrams(db: &Db, text: &str, most: usize) -> Result<Option<Vec<String>>, StoreError> {
    if !is_short(text) {
        return Ok(None);
    }
    let mut sql = Sql::default();
    sql.add("select term from product_trigrams where term >= ").bind(text.to_owned());
    sql.add(" and term < ").bind(format!("{text}\u{10ffff}\u{10ffff}\u{10ffff}"));
    sql.add(" limit ").bind(i64::try_from(most + 1).unwrap_or(i64::MAX));
    let found = fetch::<(String,)>(db, sql).await?;
    if found.len() > most {
        return Ok(None);
    }
    // Tags have trigrams too, and some of these begin with a digit.
    let trigrams = found.into_iter().map(|(trigram,)| trigram);
    Ok(Some(trigrams.filter(|trigram| !trigram.contains(is_tag_character)).collect()))
}

/// The words that the index does not find.
fn short_words(sql: &mut Sql, words: &[Word<'_>]) {
    words.iter().filter(|word| !is_indexed(word)).for_each(|word| one_word(sql, word));
}

fn every_word(sql: &mut Sql, words: &[Word<'_>]) {
    words.iter().for_each(|word| one_word(sql, word));
}

fn one_word(sql: &mut Sql, word: &Word<'_>) {
    sql.condition("(instr(p.search_text, ").bind(word.text.to_owned()).add(") > 0");
    if let Some(list) = word.category_list() {
        sql.add(" or instr(").bind(list).add(", ',' || p.category_id || ',') > 0");
    }
    sql.add(")");
}

/// The full-text query for the words that the index finds, with the filters that are tags; None if there is no such word.
fn match_text(filter: &ProductFilter, words: &[Word<'_>]) -> Option<String> {
    let mut text = String::new();
    for word in words.iter().filter(|word| is_indexed(word)) {
        text.push_str(if text.is_empty() { "(" } else { " AND " });
        let parts = match &word.trigrams {
            Some(trigrams) => trigrams.iter().map(|trigram| quoted(trigram)).collect(),
            None => vec![quoted(word.text)],
        };
        let tags = word.categories.iter().map(|category| category_tag(*category));
        let parts: Vec<_> = parts.into_iter().chain(tags).collect();
        let parts = if parts.is_empty() { NO_TAG.to_owned() } else { parts.join(" OR ") };
        text.push_str(&format!("({parts})"));
    }
    if text.is_empty() {
        return None;
    }
    if let Some(category) = filter.category {
        text.push_str(&format!(" AND {}", category_tag(category)));
    }
    if filter.featured == Some(true) {
        text.push_str(&format!(" AND {FEATURED_TAG}"));
    }
    text.push(')');
    if filter.featured == Some(false) {
        text = format!("({text} NOT {FEATURED_TAG})");
    }
    if !filter.include_inactive {
        text.push_str(&format!(" NOT {INACTIVE_TAG}"));
    }
    Some(text)
}

/// A phrase: whatever the text holds, no operator is seen in it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// What no product has.
const NO_TAG: &str = "\"\u{fdd0}\u{fdd0}\u{fdd0}\"";

// As the schema makes them in `products.search_tags`.
const INACTIVE_TAG: &str = "\"\u{fdd0}\u{fdd1}\u{fdd2}\"";
const FEATURED_TAG: &str = "\"\u{fdd0}\u{fdd1}\u{fdd3}\"";

fn category_tag(category: CategoryId) -> String {
    format!("\"\u{fdd0}{category}\u{fdd1}\"")
}
