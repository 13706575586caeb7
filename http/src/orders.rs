//! Orders: placing, reading and moving them on (contract: Cart and orders).
//!
//! An order is placed by the caller's cart and the stock ledger; a 201 means that it is on disk. With an
//! `Idempotency-Key` the first answer to it is given again for 24 hours, whatever it was: the order as it was placed, or
//! why there was none.

mod operations;

use salvo::http::{HeaderName, HeaderValue, StatusCode};
use salvo::{Depot, Request, Router};
use serde::Serialize;
use sha2::{Digest, Sha256};
use souk_actors::Checkout;
use souk_store::ledger::{self, Done, FirstAnswer, IdempotencyKey, Refusal};
use souk_store::model::{
    Money, Order, OrderId, OrderItem, OrderItemId, OrderStatus, ProductId, StatusChange, Timestamp, UserId,
};
use souk_store::orders::{self, OrderBy, OrderQuery, Ordering};

pub(crate) use self::operations::{operations, schemas};
use crate::Api;
use crate::error::ApiError;
use crate::extract::{self, SignedIn, api, require_admin, require_user};
use crate::page::PageQuery;
use crate::query::Query;
use crate::reply::Reply;
use crate::route::route;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The most characters of an address and of notes.
const MAX_TEXT: usize = 2_000;
/// The most characters of a phone number.
const MAX_PHONE: usize = 32;

/// The routes of this file, below `/api/`.
pub(crate) fn routes() -> Router {
    Router::with_path("orders").get(route!(list(req, depot))).post(route!(place(req, depot))).push(
        Router::with_path("{order}")
            .get(route!(show(req, depot)))
            .push(Router::with_path("status").patch(route!(set_status(req, depot))))
            .push(Router::with_path("cancel").post(route!(cancel(req, depot)))),
    )
}

/// The route of this file below `/auth/api/`.
pub(crate) fn own_routes() -> Router {
    Router::with_path("orders").get(route!(list_own(req, depot)))
}

#[derive(Serialize)]
struct OrderView {
    id: OrderId,
    user: UserId,
    status: OrderStatus,
    items: Vec<ItemView>,
    total_items: i64,
    total_price: Money,
    shipping_address: String,
    phone: String,
    notes: String,
    status_history: Vec<StatusChange>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize)]
struct ItemView {
    id: OrderItemId,
    product: Option<ProductId>,
    product_name: String,
    sku: String,
    price: Money,
    quantity: i64,
    subtotal: Money,
}

impl From<OrderItem> for ItemView {
    fn from(item: OrderItem) -> Self {
        Self {
            id: item.id,
            product: item.product_id,
            subtotal: item.price.times(item.quantity),
            product_name: item.product_name,
            sku: item.sku,
            price: item.price,
            quantity: item.quantity,
        }
    }
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        Self {
            id: order.id,
            user: order.user_id,
            status: order.status,
            total_items: order.items.iter().map(|item| item.quantity).sum(),
            items: order.items.into_iter().map(ItemView::from).collect(),
            total_price: order.total,
            shipping_address: order.shipping_address,
            phone: order.phone,
            notes: order.notes,
            status_history: order.history,
            created_at: order.created_at,
            updated_at: order.updated_at,
        }
    }
}

async fn place(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let mut fields = extract::fields(req).await?;
    let shipping_address = fields.text("shipping_address").blank().max(MAX_TEXT).or(String::new());
    let phone = fields.text("phone").blank().max(MAX_PHONE).or(String::new());
    let notes = fields.text("notes").blank().max(MAX_TEXT).or(String::new());
    fields.finish()?;
    let key = idempotency_key(req, [&shipping_address, &phone, &notes])?;
    if let Some(key) = &key
        && let Some(answer) = ledger::first_answer(&api.db, caller.user.id, key).await?
    {
        return match answer {
            Ok(answer) => replay(api, answer).await,
            Err(refusal) => Err(refusal.into()),
        };
    }
    let checkout = Checkout { shipping_address, phone, notes, key };
    match api.handles.carts.check_out(caller.user.id, checkout).await? {
        Done::Placed(order) => Reply::created(&OrderView::from(*order)),
        Done::Replayed(answer) => replay(api, answer).await,
        done => {
            tracing::error!(done.kind = done.kind(), "a checkout was answered with something else");
            Err(ApiError::internal())
        }
    }
}

/// The key of the request, with a digest of what its body says.
fn idempotency_key(req: &Request, body: [&str; 3]) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut values = req.headers().get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if req.headers().contains_key(IDEMPOTENCY_KEY) {
            Err(ApiError::bad_request("Only one Idempotency-Key is allowed."))
        } else {
            Ok(None)
        };
    };
    let bytes = value.as_bytes();
    if !(1..=255).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(ApiError::bad_request("Idempotency-Key must be 1 to 255 visible ASCII characters."));
    }
    let mut digest = Sha256::new();
    for text in body {
        digest.update(text.len().to_le_bytes());
        digest.update(text);
    }
    let key = String::from_utf8_lossy(bytes).into_owned();
    Ok(Some(IdempotencyKey { key, fingerprint: digest.finalize().into() }))
}

/// The first answer again, marked as such.
async fn replay(api: &Api, answer: FirstAnswer) -> Result<Reply, ApiError> {
    let replayed = HeaderValue::from_static("true");
    match answer {
        FirstAnswer::Order(id) => {
            let order = orders::find_as_placed(&api.db, id).await?.ok_or_else(ApiError::internal)?;
            Ok(Reply::created(&OrderView::from(order))?.header(IDEMPOTENT_REPLAYED, replayed))
        }
        FirstAnswer::CartEmpty => {
            Err(ApiError::from(Refusal::CartEmpty).header(IDEMPOTENT_REPLAYED, replayed))
        }
        FirstAnswer::OutOfStock(missing) => {
            Err(ApiError::from(Refusal::OutOfStock(missing)).header(IDEMPOTENT_REPLAYED, replayed))
        }
    }
}

async fn list(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let mut query = Query::of(req);
    let user = if caller.user.is_admin {
        match query.id::<UserId>("user") {
            Some(user) if api.cache.user(&api.db, user).await?.is_none() => {
                query.no_such_choice("user");
                None
            }
            user => user,
        }
    } else {
        Some(caller.user.id)
    };
    page_of_orders(req, api, query, user).await
}

async fn list_own(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    page_of_orders(req, api, Query::of(req), Some(caller.user.id)).await
}

async fn page_of_orders(
    req: &Request,
    api: &Api,
    mut query: Query<'_>,
    user: Option<UserId>,
) -> Result<Reply, ApiError> {
    let status = query.choice::<OrderStatus>("status");
    let ordering = query
        .ordering(&[("created_at", OrderBy::CreatedAt), ("total_price", OrderBy::Total)])
        .into_iter()
        .map(|(by, descending)| Ordering { by, descending })
        .collect();
    query.finish()?;
    let page = PageQuery::of(req)?;
    let wanted = OrderQuery { user, status, ordering, ..OrderQuery::default() };
    let (orders, count) = orders::list(&api.db, &wanted, page.limit(), page.offset()).await?;
    Reply::ok(&page.page(req, count, orders.into_iter().map(OrderView::from).collect())?)
}

async fn show(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_user(req, api).await?;
    let order = orders::find(&api.db, extract::id(req, "order")?).await?;
    // Somebody else's is not there, rather than forbidden: its number is nobody's business.
    let order = order.filter(|order| caller.user.is_admin || order.user_id == caller.user.id);
    Reply::ok(&OrderView::from(order.ok_or_else(ApiError::not_found)?))
}

async fn set_status(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    require_admin(req, api).await?;
    let order: OrderId = extract::id(req, "order")?;
    orders::find(&api.db, order).await?.ok_or_else(ApiError::not_found)?;
    let mut fields = extract::fields(req).await?;
    let status = fields.choice::<OrderStatus>("status").required_if(true);
    let status = fields.finish_with(status)?;
    step(api, order, status, None).await
}

async fn cancel(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let SignedIn { user, .. } = require_user(req, api).await?;
    let owner = (!user.is_admin).then_some(user.id);
    step(api, extract::id(req, "order")?, OrderStatus::Cancelled, owner).await
}

async fn step(api: &Api, order: OrderId, to: OrderStatus, owner: Option<UserId>) -> Result<Reply, ApiError> {
    api.handles.ledger.step_order(order, to, owner).await?;
    let order = orders::find(&api.db, order).await?.ok_or_else(ApiError::not_found)?;
    Reply::json(StatusCode::OK, &OrderView::from(order))
}
