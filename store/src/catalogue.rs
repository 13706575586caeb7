//! The catalogue: categories, single products and the movements of their stock. Lists of products are `search`'s.
//!
//! Categories are written here, by whoever handles an admin's request, who then makes the caches forget
//! [`Key::Categories`](crate::cache::Key). Products are read here and written by the ledger alone. What an admin can get
//! wrong (a name that is taken, a category that is not empty) is a [`CategoryRefusal`], decided by row counts.

use crate::bulk::{Bulk, BulkConnection, Column, Kind, bulk};
use crate::changes::{self, Action, Author, Draft};
use crate::db::{Db, StoreError, read, read_together, statements, transaction};
use crate::model::{Category, CategoryId, Movement, Product, ProductId, Timestamp, fold};
use crate::search::drop_tag_characters;

/// The columns of a [`Product`], of `products p` with its `categories c`.
macro_rules! product_columns {
    () => {
        "p.id, p.name, p.description, p.price, p.stock, p.version, p.category_id, c.name as category_name, p.sku, \
         p.featured, p.is_active, p.image, p.created_at, p.updated_at"
    };
}
pub(crate) use product_columns;

/// The columns of a [`Category`] without the count of its products.
macro_rules! category_columns {
    () => {
        "c.id, c.name, c.description, c.image, c.is_active, c.created_at, c.updated_at"
    };
}

statements! {
    FIND_PRODUCT: concat!(
        "select ", product_columns!(),
        " from products p join categories c on c.id = p.category_id where p.id = $1"
    );
    ALL_CATEGORIES: concat!(
        "select ", category_columns!(),
        ", (select count(*) from products p where p.category_id = c.id) as product_count \
         from categories c order by c.name_folded"
    );
    ACTIVE_CATEGORIES: concat!(
        "select ", category_columns!(),
        ", (select count(*) from products p where p.category_id = c.id and p.is_active) as product_count \
         from categories c where c.is_active order by c.name_folded"
    );
    INSERT_CATEGORY: "insert into categories (name, name_folded, description, is_active, image, created_at, updated_at) \
                      values ($1, $2, $3, $4, $5, $6, $6) on conflict (name_folded) do nothing returning id";
    UPDATE_CATEGORY: "update categories set name = coalesce($2, name), name_folded = coalesce($3, name_folded), \
                      description = coalesce($4, description), is_active = coalesce($5, is_active), \
                      image = case when $6 then $7 else image end, updated_at = $8 \
                      where id = $1 and not exists \
                      (select 1 from categories other where other.name_folded = $3 and other.id <> $1)";
    DELETE_CATEGORY: "delete from categories where id = $1 \
                      and not exists (select 1 from products where category_id = $1)";
    FIND_CATEGORY: concat!(
        "select ", category_columns!(),
        ", (select count(*) from products p where p.category_id = c.id) as product_count \
         from categories c where c.id = $1"
    );
    /// The same row, for who will write it.
    LOCK_CATEGORY: concat!(
        "select ", category_columns!(), ", cast(0 as bigint) as product_count from categories c where c.id = $1"
    ), locking " for no key update";
    TAKEN_ALONG: "select (select count(*) from cart_items where product_id = $1) as cart_lines, \
                  (select count(*) from stock_movements where product_id = $1) as movements";
    COUNT_MOVEMENTS: "select count(*) from stock_movements where product_id = $1";
    MOVEMENTS: "select id, kind, change, level, order_id, created_at from stock_movements \
                where product_id = $1 order by id desc limit $2 offset $3";
}

const BY_SKU: Bulk = bulk(
    concat!(
        "select ",
        product_columns!(),
        " from {rows} join products p on p.sku = v.column1 join categories c on c.id = p.category_id"
    ),
    &[Kind::Text],
);

/// Every statement over many rows of this file, for the test that prepares them.
#[cfg(test)]
pub(crate) const BULKS: &[&Bulk] = &[&BY_SKU];

/// What a product is found by, besides its category's name: its folded name and description, each with a line feed,
/// and one more, so that on SQLite a trigram begins at every character.
///
/// The category's name is not part of it, so that renaming a category touches one row and not all its products'.
#[must_use]
pub fn search_text(name: &str, description: &str) -> String {
    drop_tag_characters(format!("{}\n{}\n\n", fold(name), fold(description)))
}

/// The product with this id, active or not.
///
/// # Errors
/// [`StoreError::Unavailable`] if the database does not answer.
pub async fn product(db: &Db, id: ProductId) -> Result<Option<Product>, StoreError> {
    Ok(read!(db, pool => sqlx::query_as(FIND_PRODUCT.on(db)).bind(id).fetch_optional(pool).await)?)
}

/// All categories by name; without `include_inactive` only what everybody may see, in their product counts too.
///
/// # Errors
/// As [`product`].
pub async fn categories(db: &Db, include_inactive: bool) -> Result<Vec<Category>, StoreError> {
    let statement = if include_inactive { &ALL_CATEGORIES } else { &ACTIVE_CATEGORIES };
    Ok(read!(db, pool => sqlx::query_as(statement.on(db)).fetch_all(pool).await)?)
}

/// A category to be created.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of the contract's category")]
pub struct NewCategory {
    pub name: String,
    pub description: String,
    pub is_active: bool,
    /// A file that waits to be used (`media`).
    pub image: Option<String>,
}

/// What to change of a category; what is none stays.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the contract's category")]
pub struct CategoryChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub is_active: Option<bool>,
    /// `Some(None)` clears it.
    pub image: Option<Option<String>>,
}

/// Why nothing was done to a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CategoryRefusal {
    /// There is none with this id.
    NotFound,
    /// Another one has that name, in whatever case.
    NameTaken,
    /// It has products.
    NotEmpty,
    /// Somebody changed it since the caller read it.
    Changed,
}

/// Stores a new category. With an admin, who is noted in the history.
///
/// # Errors
/// `NameTaken` inside `Ok`; any [`StoreError`].
pub async fn create_category(
    db: &Db,
    new: &NewCategory,
    by: Option<&Author>,
) -> Result<Result<Category, CategoryRefusal>, StoreError> {
    let name_folded = fold(&new.name);
    let now = Timestamp::now();
    transaction!(db, tx => {
        let id: Option<(CategoryId,)> = sqlx::query_as(INSERT_CATEGORY.on(db))
            .bind(&new.name)
            .bind(&name_folded)
            .bind(&new.description)
            .bind(new.is_active)
            .bind(&new.image)
            .bind(now)
            .fetch_optional(&mut *tx)
            .await?;
        let Some((id,)) = id else { return Ok(Err(CategoryRefusal::NameTaken)) };
        let category: Category = sqlx::query_as(FIND_CATEGORY.on(db)).bind(id).fetch_one(&mut *tx).await?;
        let fields = changes::Fields::default()
            .is("name", &category.name)
            .is("description", &category.description)
            .is("is_active", &category.is_active);
        changes::note(tx, by, now, noted(&category, Action::Created, fields)).await?;
        Ok(Ok(category))
    })
}

/// A change of a category, for the history.
fn noted(category: &Category, action: Action, fields: changes::Fields) -> Draft {
    let label = category.name.clone();
    Draft { kind: changes::Kind::Category, object_id: category.id.0, label, action, fields }
}

/// Changes a category and gives it as it is now; with `if_updated_at` only if it was last changed then. With an admin,
/// who is noted in the history.
///
/// # Errors
/// `NotFound`, `Changed` or `NameTaken` inside `Ok`; any [`StoreError`].
pub async fn change_category(
    db: &Db,
    id: CategoryId,
    change: &CategoryChange,
    if_updated_at: Option<Timestamp>,
    by: Option<&Author>,
) -> Result<Result<Category, CategoryRefusal>, StoreError> {
    let name_folded = change.name.as_deref().map(fold);
    let now = Timestamp::now();
    let outcome = transaction!(db, tx => {
        let before: Option<Category> =
            sqlx::query_as(LOCK_CATEGORY.on(db)).bind(id).fetch_optional(&mut *tx).await?;
        let Some(before) = before else { return Ok(Err(CategoryRefusal::NotFound)) };
        if if_updated_at.is_some_and(|time| time != before.updated_at) {
            return Ok(Err(CategoryRefusal::Changed));
        }
        let changed = sqlx::query(UPDATE_CATEGORY.on(db))
            .bind(id)
            .bind(&change.name)
            .bind(&name_folded)
            .bind(&change.description)
            .bind(change.is_active)
            .bind(change.image.is_some())
            .bind(change.image.as_ref().and_then(Option::as_deref))
            .bind(now)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if changed == 0 {
            return Ok(Err(CategoryRefusal::NameTaken));
        }
        let after: Category = sqlx::query_as(FIND_CATEGORY.on(db)).bind(id).fetch_one(&mut *tx).await?;
        let fields = changes::Fields::of_categories(&before, &after);
        changes::note(tx, by, now, noted(&after, Action::Changed, fields)).await?;
        Ok(Ok(after))
    });
    match outcome {
        // On Postgres another transaction may take the name between the look and the update.
        Err(StoreError::Duplicate(_)) => Ok(Err(CategoryRefusal::NameTaken)),
        outcome => outcome,
    }
}

/// Deletes a category that has no products. With an admin, who is noted in the history.
///
/// # Errors
/// `NotFound` or `NotEmpty` inside `Ok`; any [`StoreError`].
pub async fn delete_category(
    db: &Db,
    id: CategoryId,
    by: Option<&Author>,
) -> Result<Result<(), CategoryRefusal>, StoreError> {
    transaction!(db, tx => {
        let found: Option<Category> =
            sqlx::query_as(LOCK_CATEGORY.on(db)).bind(id).fetch_optional(&mut *tx).await?;
        let Some(category) = found else { return Ok(Err(CategoryRefusal::NotFound)) };
        let deleted = sqlx::query(DELETE_CATEGORY.on(db)).bind(id).execute(&mut *tx).await?.rows_affected();
        if deleted == 0 {
            return Ok(Err(CategoryRefusal::NotEmpty));
        }
        let draft = noted(&category, Action::Deleted, changes::Fields::default());
        changes::note(tx, by, Timestamp::now(), draft).await?;
        Ok(Ok(()))
    })
}

/// The products that have one of these SKUs.
///
/// # Errors
/// As [`product`].
pub async fn by_skus(db: &Db, skus: &[String]) -> Result<Vec<Product>, StoreError> {
    let columns = [Column::texts(skus.iter().map(String::as_str))];
    Ok(read_together!(db, connection => { connection.fetch_rows::<Product>(&BY_SKU, &columns).await })?)
}

/// What a product takes with it when it is deleted. Orders keep their own copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TakenAlong {
    /// Lines of carts.
    pub cart_lines: i64,
    /// Movements of its stock.
    pub movements: i64,
}

/// Counts what would go with a product.
///
/// # Errors
/// As [`product`].
pub async fn taken_along(db: &Db, product: ProductId) -> Result<TakenAlong, StoreError> {
    Ok(read!(db, pool => sqlx::query_as(TAKEN_ALONG.on(db)).bind(product).fetch_one(pool).await)?)
}

/// Some of a product's movements, newest first, and how many there are in all.
///
/// # Errors
/// As [`product`].
pub async fn movements(
    db: &Db,
    product: ProductId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Movement>, i64), StoreError> {
    let (count,): (i64,) =
        read!(db, pool => sqlx::query_as(COUNT_MOVEMENTS.on(db)).bind(product).fetch_one(pool).await)?;
    if offset >= count {
        return Ok((Vec::new(), count));
    }
    let movements = read!(db, pool => {
        sqlx::query_as(MOVEMENTS.on(db)).bind(product).bind(limit).bind(offset).fetch_all(pool).await
    })?;
    Ok((movements, count))
}

#[cfg(test)]
mod tests;
