//! Lists of products for the shop's staff: by activity and by how many are left as well, and found by SKU.
//!
//! They are asked for by a few people, so a look at every product is fine: some tens of milliseconds at 100,000.

use std::fmt;
use std::str::FromStr;

use super::{SearchWords, Word, words_of};
use crate::catalogue::product_columns;
use crate::db::{Db, StoreError};
use crate::model::{Category, CategoryId, Product, ProductId};
use crate::reports::LOW_STOCK;
use crate::sql::{Sql, fetch, fetch_count};

/// How many are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Some.
    Any,
    /// Some, but not more than [`LOW_STOCK`].
    Few,
    /// None.
    None,
}

impl FromStr for Left {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "in" => Ok(Self::Any),
            "low" => Ok(Self::Few),
            "out" => Ok(Self::None),
            _ => Err(()),
        }
    }
}

/// Which products to list.
#[derive(Clone, Debug, Default)]
pub struct StaffFilter {
    /// Those of this category.
    pub category: Option<CategoryId>,
    /// Those that customers see, or the others.
    pub is_active: Option<bool>,
    /// Those that are featured, or the others.
    pub featured: Option<bool>,
    /// Those of which so many are left.
    pub left: Option<Left>,
    /// Those in whose name, description, SKU or category's name each of these occurs.
    pub words: SearchWords,
}

/// What a list can be ordered by; ties by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaffSort {
    /// When it was created.
    #[default]
    Created,
    /// Its name.
    Name,
    /// What it costs.
    Price,
    /// How many are left.
    Stock,
}

impl StaffSort {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Created, Self::Name, Self::Price, Self::Stock];

    /// As in a query.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Name => "name",
            Self::Price => "price",
            Self::Stock => "stock",
        }
    }
}

impl fmt::Display for StaffSort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StaffSort {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|sort| sort.as_str() == text).ok_or(())
    }
}

/// One page of the products that pass the filter, and how many do. `categories` are all there are.
///
/// # Errors
/// [`StoreError::Unavailable`] if the database does not answer.
pub async fn list(
    db: &Db,
    filter: &StaffFilter,
    (sort, descending): (StaffSort, bool),
    (limit, offset): (i64, i64),
    categories: &[Category],
) -> Result<(Vec<Product>, i64), StoreError> {
    let words = words_of(&filter.words, categories);
    let mut sql = Sql::default();
    sql.select("select count(*) from products p");
    conditions(&mut sql, db, filter, &words);
    let count = fetch_count(db, sql).await?;
    if offset >= count {
        return Ok((Vec::new(), count));
    }
    // Ids first: rows are long, and would be sorted as a whole.
    let mut sql = Sql::default();
    sql.add(concat!("select ", product_columns!(), " from ("));
    sql.select("select p.id from products p");
    conditions(&mut sql, db, filter, &words);
    order_by(&mut sql, sort, descending).part(limit, offset);
    sql.add(") page join products p on p.id = page.id join categories c on c.id = p.category_id");
    order_by(&mut sql, sort, descending);
    Ok((fetch(db, sql).await?, count))
}

/// The next products by id that pass the filter, for those who go through them all.
///
/// # Errors
/// As [`list`].
pub async fn after(
    db: &Db,
    filter: &StaffFilter,
    last: ProductId,
    limit: i64,
    categories: &[Category],
) -> Result<Vec<Product>, StoreError> {
    let mut sql = Sql::default();
    sql.select(concat!(
        "select ",
        product_columns!(),
        " from products p join categories c on c.id = p.category_id"
    ));
    conditions(&mut sql, db, filter, &words_of(&filter.words, categories));
    sql.condition("p.id > ").bind(last.0).add(" order by p.id limit ").bind(limit);
    fetch(db, sql).await
}

fn order_by(sql: &mut Sql, sort: StaffSort, descending: bool) -> &mut Sql {
    sql.add(match sort {
        StaffSort::Created => " order by p.created_at",
        StaffSort::Name => " order by p.name_folded",
        StaffSort::Price => " order by p.price",
        StaffSort::Stock => " order by p.stock",
    });
    sql.add(if descending { " desc, p.id desc" } else { ", p.id" })
}

fn conditions(sql: &mut Sql, db: &Db, filter: &StaffFilter, words: &[Word<'_>]) {
    if let Some(category) = filter.category {
        sql.condition("p.category_id = ").bind(category.0);
    }
    if let Some(is_active) = filter.is_active {
        sql.condition(if is_active { "p.is_active" } else { "not p.is_active" });
    }
    if let Some(featured) = filter.featured {
        sql.condition(if featured { "p.featured" } else { "not p.featured" });
    }
    match filter.left {
        Some(Left::Any) => drop(sql.condition("p.stock > 0")),
        Some(Left::Few) => drop(sql.condition("p.stock between 1 and ").bind(LOW_STOCK)),
        Some(Left::None) => drop(sql.condition("p.stock = 0")),
        None => {}
    }
    let position = match db {
        Db::Sqlite(_) => "instr",
        Db::Postgres(_) => "strpos",
    };
    for word in words {
        sql.condition("(").add(position).add("(p.search_text, ").bind(word.text).add(") > 0");
        sql.add(" or ").add(position).add("(lower(p.sku), ").bind(word.text).add(") > 0");
        if let Some(list) = word.category_list() {
            sql.add(" or ").add(position).add("(").bind(list).add(", ',' || p.category_id || ',') > 0");
        }
        sql.add(")");
    }
}
