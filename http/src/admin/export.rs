//! CSV of products, orders and users, as the lists are filtered: read and written a few hundred rows at a time, so that no
//! more than these are in memory, however many there are.
//!
//! A filter that is no good filters nothing, so the list is shown instead, which says what is wrong with it. A cell that a
//! spreadsheet would take for a formula begins with an apostrophe. If the database fails on the way, the
//! connection is cut, so that half a file does not pass for a whole one.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::try_unfold;
use salvo::http::{HeaderValue, header};
use salvo::{Depot, Request, Response, Writer};
use souk_store::model::{Category, OrderId, ProductId, Timestamp, UserId};
use souk_store::search::staff as search;
use souk_store::{StoreError, accounts, chain, orders};

use super::list::link;
use super::page::Page;
use super::{orders as order_pages, products, users};
use crate::Api;
use crate::error::ApiError;
use crate::extract::api;

/// Rows that are read at once.
const PORTION: i64 = 500;

/// The columns of a file of products: those that can be imported, and as the last the product's number.
pub(super) const PRODUCTS: [&str; 9] =
    ["sku", "name", "description", "price", "stock", "category", "featured", "is_active", "id"];
const ORDERS: [&str; 10] = [
    "id",
    "created_at",
    "status",
    "customer",
    "user_id",
    "units",
    "total",
    "shipping_address",
    "phone",
    "notes",
];
const USERS: [&str; 11] = [
    "id",
    "email",
    "username",
    "first_name",
    "last_name",
    "phone",
    "address",
    "is_active",
    "is_admin",
    "date_joined",
    "last_login",
];

/// A cell that no spreadsheet takes for a formula. One that begins with an apostrophe before what would be one gets
/// another, so that [`unguarded`] gives it back.
fn harmless(text: &str) -> String {
    if is_formula(text.trim_start_matches('\'')) { format!("'{text}") } else { text.to_owned() }
}

/// A cell without the apostrophe that keeps spreadsheets from computing it.
pub(super) fn unguarded(cell: &str) -> String {
    let is_guarded = is_formula(cell.trim_start_matches('\''));
    cell.strip_prefix('\'').filter(|_| is_guarded).unwrap_or(cell).to_owned()
}

/// Whether a spreadsheet would take this for a formula.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Rows as bytes of a file.
fn written<const CELLS: usize>(rows: impl IntoIterator<Item = [String; CELLS]>) -> Result<Bytes, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row.iter().map(|cell| harmless(cell)))?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?.into())
}

/// Sends a file whose portions `next` gives, each with what the one after it begins behind; an empty one is the end.
fn send<K, F, W, const CELLS: usize>(
    res: &mut Response,
    name: &str,
    head: [&str; CELLS],
    first: K,
    next: F,
) -> Result<(), ApiError>
where
    K: Send + Sync + 'static,
    F: Fn(K) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Option<(Vec<[String; CELLS]>, K)>, StoreError>> + Send + 'static,
{
    let disposition = format!("attachment; filename=\"souk-{name}-{}.csv\"", Timestamp::now().day());
    let headers = res.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    let head = written([head.map(str::to_owned)]).map_err(|_| ApiError::internal())?;
    let next = Arc::new(next);
    // The head goes with the first portion.
    let portions = try_unfold((Some(first), Some(head)), move |(after, head)| {
        let next = Arc::clone(&next);
        async move {
            let Some(after) = after else { return Ok(None) };
            let failed = |error: &StoreError| {
                tracing::warn!(error = chain(error), "a file of the administration site was cut");
                std::io::Error::other("the database failed")
            };
            let found = next(after).await.map_err(|error| failed(&error))?;
            let (rows, after) = match found {
                Some((rows, after)) => (written(rows).map_err(std::io::Error::other)?, Some(after)),
                None => (Bytes::new(), None),
            };
            let bytes = head.map_or(rows.clone(), |head| [&head[..], &rows].concat().into());
            Ok::<_, std::io::Error>((!bytes.is_empty()).then_some((bytes, (after, None))))
        }
    });
    res.stream(portions);
    Ok(())
}

/// Leads to the list with these filters, which says what is wrong with them.
async fn show_list(
    list: &str,
    req: &mut Request,
    depot: &mut Depot,
    res: &mut Response,
) -> Result<(), ApiError> {
    Page::see(&format!("{list}{}", link(req, &[]))).write(req, depot, res).await;
    Ok(())
}

pub(super) async fn of_products(
    req: &mut Request,
    depot: &mut Depot,
    res: &mut Response,
) -> Result<(), ApiError> {
    let api = Arc::clone(api(depot));
    let categories: Arc<Vec<Category>> = api.cache.categories(&api.db, true).await?;
    let (filter, sheet) = products::read_filter(req, &categories);
    if sheet.has_errors() {
        return show_list(products::LIST, req, depot, res).await;
    }
    send(res, "products", PRODUCTS, ProductId(0), move |after| {
        let (api, categories, filter) = (Arc::clone(&api), Arc::clone(&categories), filter.clone());
        async move {
            let found = search::after(&api.db, &filter, after, PORTION, &categories).await?;
            let last = found.last().map(|product| product.id);
            let rows = found.into_iter().map(|product| {
                [
                    product.sku,
                    product.name,
                    product.description,
                    product.price.to_string(),
                    product.stock.to_string(),
                    product.category_name,
                    product.featured.to_string(),
                    product.is_active.to_string(),
                    product.id.to_string(),
                ]
            });
            Ok(last.map(|last| (rows.collect(), last)))
        }
    })
}

pub(super) async fn of_orders(
    req: &mut Request,
    depot: &mut Depot,
    res: &mut Response,
) -> Result<(), ApiError> {
    let api = Arc::clone(api(depot));
    let order_pages::Filter { query, sheet } = order_pages::read_filter(req, &api).await?;
    if sheet.has_errors() {
        return show_list(order_pages::LIST, req, depot, res).await;
    }
    send(res, "orders", ORDERS, OrderId(0), move |after| {
        let (api, query) = (Arc::clone(&api), query.clone());
        async move {
            let found = orders::after(&api.db, &query, after, PORTION).await?;
            let last = found.last().map(|order| order.id);
            let mut rows = Vec::with_capacity(found.len());
            for order in found {
                let customer = customer(&api, order.user_id).await?;
                rows.push([
                    order.id.to_string(),
                    order.created_at.to_string(),
                    order.status.to_string(),
                    customer,
                    order.user_id.to_string(),
                    order.items.iter().map(|item| item.quantity).sum::<i64>().to_string(),
                    order.total.to_string(),
                    order.shipping_address,
                    order.phone,
                    order.notes,
                ]);
            }
            Ok(last.map(|last| (rows, last)))
        }
    })
}

async fn customer(api: &Api, id: UserId) -> Result<String, StoreError> {
    Ok(api.cache.user(&api.db, id).await?.map(|user| user.email.clone()).unwrap_or_default())
}

pub(super) async fn of_users(
    req: &mut Request,
    depot: &mut Depot,
    res: &mut Response,
) -> Result<(), ApiError> {
    let api = Arc::clone(api(depot));
    let (filter, sheet) = users::read_filter(req);
    if sheet.has_errors() {
        return show_list(users::LIST, req, depot, res).await;
    }
    send(res, "users", USERS, UserId(0), move |after| {
        let (api, filter) = (Arc::clone(&api), filter.clone());
        async move {
            let found = accounts::after(&api.db, &filter, after, PORTION).await?;
            let last = found.last().map(|user| user.id);
            let rows = found.into_iter().map(|user| {
                [
                    user.id.to_string(),
                    user.email,
                    user.username,
                    user.first_name,
                    user.last_name,
                    user.phone,
                    user.address,
                    user.is_active.to_string(),
                    user.is_admin.to_string(),
                    user.date_joined.to_string(),
                    user.last_login.map(|time| time.to_string()).unwrap_or_default(),
                ]
            });
            Ok(last.map(|last| (rows.collect(), last)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guarded_comes_back_as_it_was() {
        for text in ["=1", "'=1", "''-1", "'tis", "'", "''", "x", "", "-", "'\t"] {
            assert!(!is_formula(&harmless(text)), "{text}");
            assert_eq!(unguarded(&harmless(text)), text);
        }
    }

    #[test]
    fn what_a_spreadsheet_would_compute_is_text_and_what_has_quotes_stays_whole() {
        let rows = [["=1+1", "-3", "@x", "\ty"], ["a \"b\"", "c,d", "e\nf", "1"]];
        let bytes = written(rows.map(|row| row.map(str::to_owned))).unwrap();
        assert_eq!(&bytes[..], b"'=1+1,'-3,'@x,'\ty\n\"a \"\"b\"\"\",\"c,d\",\"e\nf\",1\n");
    }
}
