//! What admins do to products, on rows that the batch has locked. These are rare, so a statement each is fine.

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
pub(super) const CATEGORY_NAME: Bulk =
    bulk("select c.name from {rows} join categories c on c.id = v.column1", &[Kind::Int])
        .ending(" for share of c");

/// A product without a SKU gets a passing one that nobody else can have, until its id is known.
pub(super) const INSERT: Bulk = bulk(
    "insert into products (name, name_folded, description, price, stock, category_id, sku, featured, is_active, \
     image, search_text, created_at, updated_at) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8 = 1, \
     v.column9 = 1, v.column10, v.column11, v.column12, v.column12 from {rows} where true \
     on conflict (sku) do nothing returning id",
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
     and not exists (select 1 from products other where other.sku = v.column2)",
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
pub(super) const BULKS: &[&Bulk] = &[&FIND, &CATEGORY_NAME, &INSERT, &SET_SKU, &UPDATE, &TAKEN_SKUS, &DELETE];

/// The product as the transaction sees it.
pub(super) async fn find<C: BulkConnection>(
    tx: &mut C,
    id: ProductId,
) -> Result<Option<Product>, StoreError> {
    Ok(tx.fetch_rows::<Product>(&FIND, &[Column::ints([id.0])]).await?.pop())
}

pub(super) async fn category_name<C: BulkConnection>(
    tx: &mut C,
    id: CategoryId,
) -> Result<Option<String>, StoreError> {
    Ok(tx.fetch_rows::<(String,)>(&CATEGORY_NAME, &[Column::ints([id.0])]).await?.pop().map(|row| row.0))
}

/// Stores a new product and gives its id.
pub(super) async fn create<C: BulkConnection>(
    tx: &mut C,
    now: Timestamp,
    new: &NewProduct,
) -> Result<Result<ProductId, Refusal>, StoreError> {
    if category_name(tx, new.category_id).await?.is_none() {
        return Ok(Err(Refusal::CategoryNotFound));
    }
    let passing_sku = || format!("new-{}", uuid::Uuid::new_v4());
    let columns = [
        Column::texts([new.name.as_str()]),
        Column::texts([fold(&new.name)]),
        Column::texts([new.description.as_str()]),
        Column::ints([new.price.0]),
        Column::ints([new.stock]),
        Column::ints([new.category_id.0]),
        Column::texts([new.sku.clone().unwrap_or_else(passing_sku)]),
        Column::ints([i64::from(new.featured)]),
        Column::ints([i64::from(new.is_active)]),
        Column::Text(vec![new.image.as_deref().map(Into::into)]),
        Column::texts([search_text(&new.name, &new.description)]),
        Column::Time(vec![now]),
    ];
    let Some((id,)) = tx.fetch_rows::<(ProductId,)>(&INSERT, &columns).await?.pop() else {
        return Ok(Err(Refusal::SkuTaken));
    };
    if new.sku.is_none() {
        // An admin may have given some other product the very SKU that this id makes; then the next form is tried.
        for attempt in 0.. {
            let sku = if attempt == 0 { format!("SKU-{id:06}") } else { format!("SKU-{id:06}-{attempt}") };
            if tx.run_rows(&SET_SKU, &[Column::ints([id.0]), Column::texts([sku])]).await? > 0 {
                break;
            }
        }
    }
    Ok(Ok(id))
}

/// Changes what a product is, and gives it as it was and as it is; its stock and version are the batch's to write.
pub(super) async fn change<C: BulkConnection>(
    tx: &mut C,
    now: Timestamp,
    id: ProductId,
    change: &ProductChange,
) -> Result<Result<(Product, Product), Refusal>, StoreError> {
    let Some(before) = find(tx, id).await? else {
        return Ok(Err(Refusal::ProductNotFound));
    };
    let mut product = before.clone();
    macro_rules! take {
        ($($field:ident)*) => {$(
            if let Some(value) = change.$field.clone() {
                product.$field = value;
            }
        )*};
    }
    take!(name description price category_id sku featured is_active image);
    let Some(category) = category_name(tx, product.category_id).await? else {
        return Ok(Err(Refusal::CategoryNotFound));
    };
    product.category_name = category;
    product.updated_at = now;
    let columns = [
        Column::ints([id.0]),
        Column::texts([product.name.as_str()]),
        Column::texts([fold(&product.name)]),
        Column::texts([product.description.as_str()]),
        Column::ints([product.price.0]),
        Column::ints([product.category_id.0]),
        Column::texts([product.sku.as_str()]),
        Column::ints([i64::from(product.featured)]),
        Column::ints([i64::from(product.is_active)]),
        Column::Text(vec![product.image.as_deref().map(Into::into)]),
        Column::texts([search_text(&product.name, &product.description)]),
        Column::Time(vec![now]),
    ];
    Ok(if tx.run_rows(&UPDATE, &columns).await? > 0 { Ok((before, product)) } else { Err(Refusal::SkuTaken) })
}

/// Deletes a product with its movements and its lines in carts.
pub(super) async fn delete<C: BulkConnection>(tx: &mut C, id: ProductId) -> Result<(), StoreError> {
    tx.run_rows(&DELETE, &[Column::ints([id.0])]).await?;
    Ok(())
}
