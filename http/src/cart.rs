//! The caller's cart: `/api/cart/` and its items (contract: Cart and orders).
//!
//! The cart's actor owns the lines; this file lays products over them, as they are now. A line whose product has just
//! been deleted is left out.

mod operations;

use std::sync::Arc;

use salvo::{Depot, Request, Router};
use serde::Serialize;
use souk_store::model::{CartId, CartItemId, CartLine, MAX_QUANTITY, Money, Product, ProductId, Timestamp};

pub(crate) use self::operations::{operations, schemas};
use crate::Api;
use crate::error::ApiError;
use crate::extract::{self, api, base_url, media_url, require_user};
use crate::fields::no_such_object;
use crate::reply::Reply;
use crate::route::route;

/// The routes of this file, below `/api/`.
pub(crate) fn routes() -> Router {
    Router::with_path("cart").get(route!(show(req, depot))).delete(route!(clear(req, depot))).push(
        Router::with_path("items").post(route!(add(req, depot))).push(
            Router::with_path("{item}")
                .put(route!(set_quantity(req, depot)))
                .patch(route!(set_quantity(req, depot)))
                .delete(route!(remove(req, depot))),
        ),
    )
}

#[derive(Serialize)]
struct CartView {
    id: CartId,
    items: Vec<ItemView>,
    total_items: i64,
    total_price: Money,
    updated_at: Timestamp,
}

#[derive(Serialize)]
struct ItemView {
    id: CartItemId,
    product: CartProductView,
    quantity: i64,
    subtotal: Money,
}

#[derive(Serialize)]
struct CartProductView {
    id: ProductId,
    name: String,
    price: Money,
    sku: String,
    image: Option<String>,
    stock: i64,
    in_stock: bool,
}

impl ItemView {
    fn new(base: &str, line: CartLine, product: &Product) -> Self {
        let stock = sellable(product);
        Self {
            id: line.id,
            product: CartProductView {
                id: product.id,
                name: product.name.clone(),
                price: product.price,
                sku: product.sku.clone(),
                image: media_url(base, product.image.as_deref()),
                stock,
                in_stock: stock > 0,
            },
            quantity: line.quantity,
            subtotal: product.price.times(line.quantity),
        }
    }
}

/// How many can be ordered: none of what is not active, which may still lie in a cart.
fn sellable(product: &Product) -> i64 {
    if product.is_active { product.stock } else { 0 }
}

/// The product as it is now, with its live stock.
async fn product(api: &Api, id: ProductId) -> Result<Option<Product>, ApiError> {
    let cached = api.cache.product(&api.db, id).await?;
    Ok(cached.map(|product| {
        let mut product = Arc::unwrap_or_clone(product);
        api.handles.ledger.levels().lay_over(&mut product);
        product
    }))
}

async fn show(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let cart = api.handles.carts.look(caller.user.id).await?;
    let base = base_url(req);
    let mut items = Vec::with_capacity(cart.lines.len());
    for line in cart.lines {
        if let Some(product) = product(api, line.product_id).await? {
            items.push(ItemView::new(&base, line, &product));
        }
    }
    Reply::ok(&CartView {
        id: cart.id,
        total_items: items.iter().map(|item| item.quantity).sum(),
        total_price: items.iter().map(|item| item.subtotal).sum(),
        updated_at: cart.updated_at,
        items,
    })
}

async fn clear(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    api.handles.carts.clear(caller.user.id).await?;
    Ok(Reply::no_content())
}

async fn add(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let mut fields = extract::fields(req).await?;
    let id = fields.id::<ProductId>("product_id").required_if(true);
    let quantity = fields.integer("quantity").min(1).max(MAX_QUANTITY).or(1);
    let product = match id {
        Some(id) => product(api, id).await?.filter(|product| product.is_active),
        None => None,
    };
    if let (Some(id), None) = (id, &product) {
        fields.error("product_id", no_such_object(id));
    }
    let product = fields.finish_with(product)?;
    let line = api.handles.carts.add(caller.user.id, product.id, quantity, sellable(&product)).await?;
    Reply::created(&ItemView::new(&base_url(req), line, &product))
}

async fn set_quantity(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let item: CartItemId = extract::id(req, "item")?;
    let cart = api.handles.carts.look(caller.user.id).await?;
    let line = cart.lines.iter().find(|line| line.id == item).ok_or_else(ApiError::not_found)?;
    let product = product(api, line.product_id).await?.ok_or_else(ApiError::not_found)?;
    let mut fields = extract::fields(req).await?;
    let quantity = fields.integer("quantity").min(1).max(MAX_QUANTITY).required();
    fields.finish()?;
    let line = api.handles.carts.set_quantity(caller.user.id, item, quantity, sellable(&product)).await?;
    Reply::ok(&ItemView::new(&base_url(req), line, &product))
}

async fn remove(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let item: CartItemId = extract::id(req, "item")?;
    api.handles.carts.remove(caller.user.id, item).await?;
    Ok(Reply::no_content())
}
