//! Products: lists, one by one, their stock and its movements (contract: Catalogue). Categories are `categories`'.
//!
//! Reads are answered from bytes that are ready (`rendered`) while these are true, else from the cache with the live
//! stock laid over it. Every write is the stock ledger's, which makes the caches forget before it answers.

pub(crate) mod operations;

use std::str::FromStr;
use std::sync::Arc;

use salvo::http::{StatusCode, header};
use salvo::{Depot, Request, Router};
use serde::Serialize;
use souk_actors::Levels;
use souk_store::cache::Key;
use souk_store::catalogue;
use souk_store::ledger::{NewProduct, ProductChange, Seen, StockMove};
use souk_store::model::{
    Category, CategoryId, Level, MAX_STOCK, Money, Movement, Product, ProductId, Timestamp,
};
use souk_store::search::{Ordering, ProductFilter, ProductQuery, SearchWords, SortBy, SortTerm};

use crate::Api;
use crate::error::{ApiError, FieldErrors};
use crate::extract::{self, api, base_url, media_url, require_admin, viewer};
use crate::fields::{Fields, no_such_object};
use crate::page::PageQuery;
use crate::query::Query;
use crate::rendered::{self, Answer, Answers, Moment, Tag};
use crate::reply::Reply;
use crate::route::route;

const MAX_NAME: usize = 255;
const MAX_SKU: usize = 64;
pub(crate) const MAX_DESCRIPTION: usize = 10_000;

/// The parameters that lists of products know. What is asked with others is answered, but not kept.
const PARAMETERS: [&str; 9] =
    ["category", "price_min", "price_max", "in_stock", "featured", "search", "ordering", "page", "page_size"];

const ORDERINGS: [(&str, SortBy); 3] =
    [("price", SortBy::Price), ("created_at", SortBy::CreatedAt), ("name", SortBy::Name)];

/// The routes of this file, below `/api/`.
pub(crate) fn routes() -> Router {
    Router::with_path("products")
        .get(route!(list(req, depot)))
        .post(route!(create(req, depot)))
        .push(Router::with_path("featured").get(route!(featured(req, depot))))
        .push(
            Router::with_path("{product}")
                .get(route!(show(req, depot)))
                .put(route!(update(req, depot)))
                .patch(route!(update(req, depot)))
                .delete(route!(delete(req, depot)))
                .push(Router::with_path("stock").post(route!(move_stock(req, depot))))
                .push(Router::with_path("movements").get(route!(list_movements(req, depot)))),
        )
}

#[derive(Serialize)]
struct ProductView<'a> {
    id: ProductId,
    name: &'a str,
    description: &'a str,
    price: Money,
    stock: i64,
    in_stock: bool,
    category: CategoryId,
    category_name: &'a str,
    sku: &'a str,
    featured: bool,
    is_active: bool,
    image: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> ProductView<'a> {
    fn new(base: &str, product: &'a Product, level: Level) -> Self {
        Self {
            id: product.id,
            name: &product.name,
            description: &product.description,
            price: product.price,
            stock: level.stock,
            in_stock: level.stock > 0,
            category: product.category_id,
            category_name: &product.category_name,
            sku: &product.sku,
            featured: product.featured,
            is_active: product.is_active,
            image: media_url(base, product.image.as_deref()),
            created_at: product.created_at,
            updated_at: product.updated_at,
        }
    }
}

/// The answer that shows one product.
fn answer_with(
    base: &str,
    moment: Moment,
    levels: &Levels,
    product: &Product,
) -> Result<Arc<Answer>, ApiError> {
    let level = levels.over(product);
    let view = ProductView::new(base, product, level);
    Answer::new(moment, &view, vec![(product.id, level.version)], Tag::OfVersion(level.version))
}

/// Whether the caller, who need not be signed in, sees what is not active.
pub(crate) async fn sees_inactive(req: &Request, api: &Api) -> Result<bool, ApiError> {
    Ok(viewer(req, api).await?.is_some_and(|caller| caller.user.is_admin))
}

async fn list(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    list_within(req, api(depot), |_, _| Ok(())).await
}

async fn featured(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    list_within(req, api(depot), |filter, _| {
        filter.nothing |= filter.featured == Some(false);
        filter.featured = Some(true);
        Ok(())
    })
    .await
}

/// The list of the products that pass the request's filters, as `narrow` changes them, which also sees the categories
/// that the caller may see. Its error comes before any about the filters.
pub(crate) async fn list_within(
    req: &Request,
    api: &Api,
    narrow: impl FnOnce(&mut ProductFilter, &[Category]) -> Result<(), ApiError>,
) -> Result<Reply, ApiError> {
    let is_admin = sees_inactive(req, api).await?;
    let levels = api.handles.ledger.levels();
    let key = Answers::key(req, is_admin);
    if let Some(answer) = api.answers.get(&key, &api.cache, levels) {
        return Ok(answer.reply(req));
    }
    let lists = Moment::before(Key::Catalogue, &api.cache, levels);
    let stock_lists = Moment::before(Key::Availability, &api.cache, levels);
    let categories = api.cache.categories(&api.db, is_admin).await?;
    let mut query = Query::of(req);
    let mut filter = filter(&mut query, &categories, is_admin);
    narrow(&mut filter, &categories)?;
    let ordering = query.ordering(&ORDERINGS).into_iter().map(|(by, descending)| SortTerm { by, descending });
    let ordering = Ordering::new(ordering);
    query.finish()?;
    let page = PageQuery::of(req)?;
    let moment = if filter.in_stock.is_some() { stock_lists } else { lists };
    let wanted = ProductQuery { filter, ordering, limit: page.limit(), offset: page.offset() };
    let found = api.cache.products(&api.db, &wanted).await?;

    let base = base_url(req);
    let mut views = Vec::with_capacity(found.products.len());
    let mut shown = Vec::with_capacity(found.products.len());
    for product in found.products.iter() {
        let level = levels.over(product);
        views.push(ProductView::new(&base, product, level));
        shown.push((product.id, level.version));
    }
    let answer = Answer::new(moment, &page.page(req, found.count, views)?, shown, Tag::OfContent)?;
    api.answers.put(req, key, &answer, &PARAMETERS);
    Ok(answer.reply(req))
}

fn filter(query: &mut Query<'_>, categories: &[Category], include_inactive: bool) -> ProductFilter {
    let category = query.id::<CategoryId>("category");
    if category.is_some_and(|id| categories.iter().all(|category| category.id != id)) {
        query.no_such_choice("category");
    }
    ProductFilter {
        category,
        price_min: query.at_least("price_min"),
        price_max: query.at_most("price_max"),
        in_stock: query.flag("in_stock"),
        featured: query.flag("featured"),
        words: query.text("search").map(SearchWords::new).unwrap_or_default(),
        include_inactive,
        nothing: false,
    }
}

async fn show(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let is_admin = sees_inactive(req, api).await?;
    let levels = api.handles.ledger.levels();
    let key = Answers::key(req, is_admin);
    if let Some(answer) = api.answers.get(&key, &api.cache, levels) {
        return Ok(answer.reply(req));
    }
    let id: ProductId = extract::id(req, "product")?;
    let moment = Moment::before(Key::Product(id), &api.cache, levels);
    let product = api.cache.product(&api.db, id).await?;
    let product = product.filter(|product| product.is_active || is_admin).ok_or_else(ApiError::not_found)?;
    let answer = answer_with(&base_url(req), moment, levels, &product)?;
    api.answers.put(req, key, &answer, &[]);
    Ok(answer.reply(req))
}

/// The answer to a write: the product as the ledger left it.
fn written(req: &Request, api: &Api, status: StatusCode, product: &Product) -> Result<Reply, ApiError> {
    let levels = api.handles.ledger.levels();
    let moment = Moment::before(Key::Product(product.id), &api.cache, levels);
    Ok(answer_with(&base_url(req), moment, levels, product)?.reply_to_write(status))
}

/// The product that the path names, as it is now; 404 if there is none.
async fn find(req: &Request, api: &Api) -> Result<Product, ApiError> {
    let found = api.cache.product(&api.db, extract::id(req, "product")?).await?;
    let mut product = Arc::unwrap_or_clone(found.ok_or_else(ApiError::not_found)?);
    api.handles.ledger.levels().lay_over(&mut product);
    Ok(product)
}

/// Reads the fields of a product but its image; those of a creation or a PUT must be complete.
pub(crate) async fn read_fields(
    fields: &mut Fields,
    api: &Api,
    complete: bool,
) -> Result<ProductChange, ApiError> {
    let change = ProductChange {
        name: fields.text("name").max(MAX_NAME).required_if(complete),
        description: fields.text("description").blank().max(MAX_DESCRIPTION).optional(),
        price: fields.money("price").required_if(complete),
        stock: fields.integer("stock").min(0).max(MAX_STOCK).optional(),
        category_id: fields.id::<CategoryId>("category").required_if(complete),
        sku: fields.text("sku").max(MAX_SKU).optional(),
        featured: fields.boolean("featured").optional(),
        is_active: fields.boolean("is_active").optional(),
        image: None,
    };
    if let Some(id) = change.category_id
        && api.cache.categories(&api.db, true).await?.iter().all(|category| category.id != id)
    {
        fields.error("category", no_such_object(id));
    }
    Ok(change)
}

/// A new product of fields that were read complete, without an image; none if one that is required is missing.
pub(crate) fn as_new(read: ProductChange) -> Option<NewProduct> {
    Some(NewProduct {
        name: read.name?,
        description: read.description.unwrap_or_default(),
        price: read.price?,
        stock: read.stock.unwrap_or_default(),
        category_id: read.category_id?,
        sku: read.sku,
        featured: read.featured.unwrap_or(false),
        is_active: read.is_active.unwrap_or(true),
        image: None,
    })
}

async fn create(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_admin(req, api).await?;
    let mut fields = extract::form(req, api, &caller).await?;
    let read = read_fields(&mut fields, api, true).await?;
    let image = api.media.read(&mut fields, "image").await?;
    let new = fields.finish_with(as_new(read))?;
    let ledger = &api.handles.ledger;
    let named = |image: Option<_>| ledger.create_product(NewProduct { image: image.flatten(), ..new });
    let product = api.media.keep(image, named).await?;
    written(req, api, StatusCode::CREATED, &product)
}

async fn update(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_admin(req, api).await?;
    let present = find(req, api).await?;
    let mut fields = extract::form(req, api, &caller).await?;
    let complete = req.method() == salvo::http::Method::PUT;
    let change = read_fields(&mut fields, api, complete).await?;
    let image = api.media.read(&mut fields, "image").await?;
    fields.finish()?;
    let seen = Seen::version(if_match(req, &present)?);
    let ledger = &api.handles.ledger;
    let product = api
        .media
        .keep(image, |image| ledger.change_product(present.id, ProductChange { image, ..change }, seen))
        .await?;
    written(req, api, StatusCode::OK, &product)
}

async fn delete(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    require_admin(req, api).await?;
    let present = find(req, api).await?;
    let if_version = if_match(req, &present)?;
    api.handles.ledger.delete_product(present.id, if_version).await?;
    if present.image.is_some() {
        api.media.sweep_soon();
    }
    Ok(Reply::no_content())
}

/// The version that the product must have for the request to be done, if it names one; 412 if it names none that the
/// product ever had. Whether it is the present one is the ledger's to judge, in the transaction that writes.
fn if_match(req: &Request, present: &Product) -> Result<Option<i64>, ApiError> {
    if !req.headers().contains_key(header::IF_MATCH) || rendered::is_any(req, &header::IF_MATCH) {
        return Ok(None);
    }
    // Of the tag only the version counts: the rest of it tells apart what differs by host or category name.
    let versions: Vec<_> = rendered::tags(req, &header::IF_MATCH)
        .filter_map(|tag| i64::from_str(tag.split_once('-')?.0).ok())
        .collect();
    let version = versions.iter().find(|version| **version == present.version).or(versions.first());
    version.copied().map(Some).ok_or_else(ApiError::precondition_failed)
}

async fn move_stock(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    require_admin(req, api).await?;
    let present = find(req, api).await?;
    let mut fields = extract::fields(req).await?;
    let stock_move = read_move(&mut fields);
    let stock_move = fields.finish_with(stock_move)?;
    let product = api.handles.ledger.move_stock(present.id, stock_move).await?;
    written(req, api, StatusCode::OK, &product)
}

fn read_move(fields: &mut Fields) -> Option<StockMove> {
    let change = fields.integer("change").min(-MAX_STOCK).max(MAX_STOCK).optional();
    let stock = fields.integer("stock").min(0).max(MAX_STOCK).optional();
    let was = fields.integer("was").min(0).max(MAX_STOCK).optional();
    if ["change", "stock", "was"].iter().any(|name| fields.refused(name)) {
        return None;
    }
    const REQUIRED: &str = "This field is required.";
    match (change, stock, was) {
        (Some(change), None, None) => return Some(StockMove::Change(change)),
        (None, Some(stock), Some(was)) => return Some(StockMove::Set { stock, was }),
        (None, None, None) => fields.error("change", REQUIRED),
        (None, Some(_), None) => fields.error("was", REQUIRED),
        (None, None, Some(_)) => fields.error("stock", REQUIRED),
        (Some(_), ..) => {
            fields.error(FieldErrors::NON_FIELD, "Give either change, or stock and was, but not both.");
        }
    }
    None
}

async fn list_movements(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    require_admin(req, api).await?;
    let product = find(req, api).await?;
    let page = PageQuery::of(req)?;
    let (movements, count): (Vec<Movement>, i64) =
        catalogue::movements(&api.db, product.id, page.limit(), page.offset()).await?;
    Reply::ok(&page.page(req, count, movements)?)
}

#[cfg(test)]
mod tests;
