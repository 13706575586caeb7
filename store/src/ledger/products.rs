//! The statements by which admins' works find and write products, on rows that the batch has locked.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::bulk::{Bulk, BulkConnection, Column, Kind, bulk};
use crate::catalogue::{product_columns, search_text};
use crate::db::StoreError;
use crate::model::{CategoryId, Product, ProductId, Timestamp, fold};

use super::{NewProduct, ProductChange, Refusal};

pub(super) const FIND: Bulk = bulk(
    concat!(
        "select ",
        product_columns!(),
        " from {rows} join products p on p.id = v.column1 join categories c on c.id = p.category_id"
    ),
    &[Kind::Int],
);

/// It must not be deleted before the product that names it is stored.
pub(super) const HOLD_CATEGORIES: Bulk =
    bulk("select c.id, c.name from {rows} join categories c on c.id = v.column1", &[Kind::Int])
        .ending(" order by c.id for share of c");

/// A product without a SKU gets a passing one that nobody else can have, until its id is known.
pub(super) const INSERT: Bulk = bulk(
    "insert into products (name, name_folded, description, price, stock, category_id, sku, featured, is_active, \
     image, search_text, created_at, updated_at) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8 = 1, \
     v.column9 = 1, v.column10, v.column11, v.column12, v.column12 from {rows} where true \
     on conflict (sku) do nothing returning sku, id",
    &[
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Int,
        Kind::Int,
        Kind::Int,
        Kind::Text,
        Kind::Int,
        Kind::Int,
        Kind::Text,
        Kind::Text,
        Kind::Time,
    ],
);

pub(super) const SET_SKU: Bulk = bulk(
    "update products set sku = v.column2 from {rows} where products.id = v.column1 \
     and not exists (select 1 from products other where other.sku = v.column2) returning id",
    &[Kind::Int, Kind::Text],
);

pub(super) const UPDATE: Bulk = bulk(
    "update products set name = v.column2, name_folded = v.column3, description = v.column4, price = v.column5, \
     category_id = v.column6, sku = v.column7, featured = v.column8 = 1, is_active = v.column9 = 1, \
     image = v.column10, search_text = v.column11, \
     updated_at = v.column12 from {rows} where products.id = v.column1 and not exists \
     (select 1 from products other where other.sku = v.column7 and other.id <> v.column1)",
    &[
        Kind::Int,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Int,
        Kind::Int,
        Kind::Text,
        Kind::Int,
        Kind::Int,
        Kind::Text,
        Kind::Text,
        Kind::Time,
    ],
);

/// Those of these SKUs that a product has.
pub(super) const TAKEN_SKUS: Bulk =
    bulk("select p.sku from {rows} join products p on p.sku = v.column1", &[Kind::Text]);

/// The product leaves all carts with it.
pub(super) const DELETE: Bulk =
    bulk("delete from products where id in (select v.column1 from {rows})", &[Kind::Int]);

/// Every statement of this file, for the test that prepares them.
#[cfg(test)]
pub(super) const BULKS: &[&Bulk] =
    &[&FIND, &HOLD_CATEGORIES, &INSERT, &SET_SKU, &UPDATE, &TAKEN_SKUS, &DELETE];

/// These products, as the transaction sees them; those that there are.
pub(super) async fn find<C: BulkConnection>(
    tx: &mut C,
    ids: impl IntoIterator<Item = ProductId>,
) -> Result<HashMap<ProductId, Product>, StoreError> {
    let ids: BTreeSet<i64> = ids.into_iter().map(|id| id.0).collect();
    let found = tx.fetch_rows::<Product>(&FIND, &[Column::ints(ids)]).await?;
    Ok(found.into_iter().map(|product| (product.id, product)).collect())
}

/// The names of these categories; those that there are. They stay until the transaction has ended.
pub(super) async fn hold_categories<C: BulkConnection>(
    tx: &mut C,
    ids: BTreeSet<CategoryId>,
) -> Result<HashMap<CategoryId, String>, StoreError> {
    let ids = Column::ints(ids.into_iter().map(|id| id.0));
    Ok(tx.fetch_rows(&HOLD_CATEGORIES, &[ids]).await?.into_iter().collect())
}

/// Stores new products of categories that are held, and gives them in their order.
pub(super) async fn create<C: BulkConnection>(
    tx: &mut C,
    now: Timestamp,
    new: &[&NewProduct],
) -> Result<Result<Vec<Product>, Refusal>, StoreError> {
    let passing_sku = || format!("new-{}", uuid::Uuid::new_v4());
    let skus: Vec<String> = new.iter().map(|new| new.sku.clone().unwrap_or_else(passing_sku)).collect();
    let columns = [
        Column::texts(new.iter().map(|new| new.name.as_str())),
        Column::texts(new.iter().map(|new| fold(&new.name))),
        Column::texts(new.iter().map(|new| new.description.as_str())),
        Column::ints(new.iter().map(|new| new.price.0)),
        Column::ints(new.iter().map(|new| new.stock)),
        Column::ints(new.iter().map(|new| new.category_id.0)),
        Column::texts(skus.iter().map(String::as_str)),
        Column::ints(new.iter().map(|new| i64::from(new.featured))),
        Column::ints(new.iter().map(|new| i64::from(new.is_active))),
        Column::Text(new.iter().map(|new| new.image.as_deref().map(Into::into)).collect()),
        Column::texts(new.iter().map(|new| search_text(&new.name, &new.description))),
        Column::SameTime(now, new.len()),
    ];
    let stored: HashMap<String, ProductId> = tx.fetch_rows(&INSERT, &columns).await?.into_iter().collect();
    let ids: Option<Vec<ProductId>> = skus.iter().map(|sku| stored.get(sku).copied()).collect();
    let Some(ids) = ids.filter(|ids| stored.len() == ids.len()) else {
        return Ok(Err(Refusal::SkuTaken));
    };
    let nameless = ids.iter().zip(new).filter(|(_, new)| new.sku.is_none()).map(|(id, _)| *id);
    give_skus(tx, nameless.collect()).await?;
    let mut found = find(tx, ids.iter().copied()).await?;
    let created: Option<Vec<Product>> = ids.iter().map(|id| found.remove(id)).collect();
    Ok(created.ok_or(Refusal::ProductNotFound))
}

/// Makes SKUs of their ids. An admin may have given some other product the very SKU that an id makes; then the next form
/// is tried.
async fn give_skus<C: BulkConnection>(tx: &mut C, mut ids: Vec<ProductId>) -> Result<(), StoreError> {
    for attempt in 0.. {
        if ids.is_empty() {
            break;
        }
        let sku = |id: &ProductId| match attempt {
            0 => format!("SKU-{id:06}"),
            _ => format!("SKU-{id:06}-{attempt}"),
        };
        let columns = [Column::ints(ids.iter().map(|id| id.0)), Column::texts(ids.iter().map(sku))];
        let named: HashSet<(ProductId,)> = tx.fetch_rows(&SET_SKU, &columns).await?.into_iter().collect();
        ids.retain(|id| !named.contains(&(*id,)));
    }
    Ok(())
}

/// A product as it is after a change; its category's name, stock and version are the caller's to set.
pub(super) fn changed(before: &Product, change: &ProductChange, now: Timestamp) -> Product {
    let mut product = before.clone();
    macro_rules! take {
        ($($field:ident)*) => {$(
            if let Some(value) = change.$field.clone() {
                product.$field = value;
            }
        )*};
    }
    take!(name description price category_id sku featured is_active image);
    product.updated_at = now;
    product
}

/// Stores what products are, each once; their stock and version are the batch's to write. Gives whether all of them
/// could be: their SKUs are nobody else's.
pub(super) async fn update<C: BulkConnection>(tx: &mut C, products: &[Product]) -> Result<bool, StoreError> {
    let columns = [
        Column::ints(products.iter().map(|product| product.id.0)),
        Column::texts(products.iter().map(|product| product.name.as_str())),
        Column::texts(products.iter().map(|product| fold(&product.name))),
        Column::texts(products.iter().map(|product| product.description.as_str())),
        Column::ints(products.iter().map(|product| product.price.0)),
        Column::ints(products.iter().map(|product| product.category_id.0)),
        Column::texts(products.iter().map(|product| product.sku.as_str())),
        Column::ints(products.iter().map(|product| i64::from(product.featured))),
        Column::ints(products.iter().map(|product| i64::from(product.is_active))),
        Column::Text(products.iter().map(|product| product.image.as_deref().map(Into::into)).collect()),
        Column::texts(products.iter().map(|product| search_text(&product.name, &product.description))),
        Column::Time(products.iter().map(|product| product.updated_at).collect()),
    ];
    Ok(tx.run_rows(&UPDATE, &columns).await? == products.len() as u64)
}

/// Deletes a product with its movements and its lines in carts.
pub(super) async fn delete<C: BulkConnection>(tx: &mut C, id: ProductId) -> Result<(), StoreError> {
    tx.run_rows(&DELETE, &[Column::ints([id.0])]).await?;
    Ok(())
}
