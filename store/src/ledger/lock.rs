//! The first part of a batch: look at all that it touches, and lock it.
//!
//! The order of locks is the same in every batch of every node, so that two never wait for each other: carts, orders,
//! products, inboxes, each in the order of their ids, and last the categories that products name, shared. Products that
//! are put into carts are held after those that change; only a deletion minds.

use std::collections::{HashMap, HashSet};

use crate::bulk::{Bulk, BulkConnection, Column, Job, Kind, bulk};
use crate::carts::CartEdit;
use crate::db::StoreError;
use crate::model::{CartId, MAX_STOCK, Money, OrderId, OrderStatus, ProductId, Timestamp, UserId};

use super::admin::Known;
use super::batch::{Books, cart_of};
use super::{Done, EditCart, FirstAnswer, Outcome, PlaceOrder, Refusal, Work};

use Kind::{Bytes, Int, Text, Time};

const LOCK_CARTS: Bulk =
    bulk("select {row: c.id, c.version} from {rows} join carts c on c.id = v.column1", &[Int])
        .ending(" order by c.id for no key update of c");
const LOCK_ORDERS: Bulk = bulk(
    "select {row: o.id, o.user_id, o.status, o.total} from {rows} join orders o on o.id = v.column1",
    &[Int],
)
.ending(" order by o.id for no key update of o");
const ITEMS_OF_ORDERS: Bulk = bulk(
    "select {row: i.order_id, i.product_id, i.quantity} from {rows} join order_items i on i.order_id = v.column1",
    &[Int],
);
const LOCK_PRODUCTS: Bulk = bulk(
    "select {row: p.id, p.name, p.sku, p.price, p.stock, p.version, case when p.is_active then 1 else 0 end} \
     from {rows} join products p on p.id = v.column1",
    &[Int],
)
.ending(" order by p.id for no key update of p");
/// Products that carts get lines of, which must not be deleted before the lines are stored: a deletion takes its lines
/// out of carts, and two batches would wait for each other. Shared, and in nobody's way but a deletion's.
const HOLD_PRODUCTS: Bulk =
    bulk("select {row: p.id} from {rows} join products p on p.id = v.column1", &[Int])
        .ending(" order by p.id for key share of p")
        .only_locks();
/// How far the numbers of these users' events have come. Of a user without a row only the first order makes events, and
/// his cart is locked.
const LOCK_INBOXES: Bulk = bulk(
    "select {row: i.user_id, i.last_event_id} from {rows} join inboxes i on i.user_id = v.column1",
    &[Int],
)
.ending(" order by i.user_id for no key update of i");
/// Those of these keys that were used within their life, and whether with this digest. They need no lock: a key is its
/// user's, and his cart is locked.
const TAKEN_KEYS: Bulk = bulk(
"select {row: k.user_id, k.key, case when k.fingerprint = v.column3 then 1 else 0 end, k.order_id, k.refusal} \
     from {rows} join idempotency_keys k \
     on k.user_id = v.column1 and k.key = v.column2 and k.expires_at > v.column4",
&[Int, Text, Bytes, Time],
).after_locks();

/// Every statement of this file, for the test that prepares them.
#[cfg(test)]
pub(super) const BULKS: &[&Bulk] = &[
    &LOCK_CARTS,
    &LOCK_ORDERS,
    &ITEMS_OF_ORDERS,
    &LOCK_PRODUCTS,
    &HOLD_PRODUCTS,
    &LOCK_INBOXES,
    &TAKEN_KEYS,
];

/// A locked product: all that an order needs to know of it.
pub(super) struct Shelf {
    pub(super) id: ProductId,
    pub(super) name: String,
    pub(super) sku: String,
    pub(super) price: Money,
    pub(super) stock: i64,
    pub(super) version: i64,
    pub(super) is_active: bool,
    /// The level when it was locked, once it has changed since.
    pub(super) before: Option<i64>,
}

impl Shelf {
    fn from_row(
        (id, name, sku, price, stock, version, is_active): (i64, String, String, i64, i64, i64, i64),
    ) -> (ProductId, Self) {
        let id = ProductId(id);
        (
            id,
            Self {
                id,
                name,
                sku,
                price: Money(price),
                stock,
                version,
                is_active: is_active == 1,
                before: None,
            },
        )
    }

    /// Moves the level by `change` units and gives the level after it; none if it would leave its range.
    pub(super) fn shift(&mut self, change: i64) -> Option<i64> {
        let level = self.stock.checked_add(change).filter(|level| (0..=MAX_STOCK).contains(level))?;
        self.before.get_or_insert(self.stock);
        self.stock = level;
        self.version += 1;
        Some(level)
    }

    /// Counts a change of the product itself.
    pub(super) fn touch(&mut self) {
        self.before.get_or_insert(self.stock);
        self.version += 1;
    }

    pub(super) fn available(&self) -> i64 {
        if self.is_active { self.stock } else { 0 }
    }
}

/// A locked order that is to move on.
pub(super) struct OpenOrder {
    pub(super) id: OrderId,
    pub(super) user_id: UserId,
    pub(super) status: OrderStatus,
    pub(super) total: Money,
}

/// The first answer to a key that was used before.
pub(super) struct TakenKey {
    same_body: bool,
    order_id: Option<OrderId>,
    refusal: Option<String>,
}

impl TakenKey {
    fn from_row(
        (user, key, same_body, order, refusal): (i64, String, i64, Option<i64>, Option<String>),
    ) -> ((UserId, String), Self) {
        ((UserId(user), key), Self { same_body: same_body == 1, order_id: order.map(OrderId), refusal })
    }

    pub(super) fn answer(&self) -> Outcome {
        if !self.same_body {
            return Err(Refusal::KeyReused);
        }
        FirstAnswer::from_stored(self.order_id, self.refusal.as_deref())
            .map(Done::Replayed)
            // A row without an answer breaks a rule of the books; nothing is sold on the strength of it.
            .ok_or(Refusal::CartMoved)
    }
}

/// Locks all that `works` touch, and opens the books on it.
pub(super) async fn open<C: BulkConnection>(
    tx: &mut C,
    now: Timestamp,
    works: &[Work],
) -> Result<Books, StoreError> {
    let cart_ids = sorted(works.iter().filter_map(|work| cart_of(work).map(|cart| cart.0.0)));
    let order_ids = sorted(works.iter().filter_map(|work| match work {
        Work::Step(step) => Some(step.order_id.0),
        _ => None,
    }));
    let mut orders = HashMap::new();
    let mut order_lines: HashMap<OrderId, Vec<(ProductId, i64)>> = HashMap::new();
    let lock_carts: Job = (&LOCK_CARTS, vec![Column::ints(cart_ids)]);
    let new_items = placed(works).map(|order| order.lines.len()).sum();
    let new_ids = [("orders", placed(works).count()), ("order_items", new_items)];
    // What is held is only locked.
    let (carts, products, _held, inboxes, keys, new_order_ids, new_item_ids);
    if order_ids.is_empty() {
        let [for_products, to_hold, for_inboxes, for_keys] = jobs_of(works, &order_lines, &orders, now);
        let jobs = [lock_carts, for_products, to_hold, for_inboxes, for_keys];
        ([carts, products, _held, inboxes, keys], [new_order_ids, new_item_ids]) =
            tx.look_up(jobs, new_ids).await?;
    } else {
        // What products, and whose inbox, an order's step touches is known only when it is locked.
        let order_ids = Column::ints(order_ids);
        let lock_orders: Job = (&LOCK_ORDERS, vec![order_ids.clone()]);
        let (locked, items);
        ([carts, locked, items], []) =
            tx.look_up([lock_carts, lock_orders, (&ITEMS_OF_ORDERS, vec![order_ids])], []).await?;
        for (id, user, status, total) in locked.rows::<(i64, i64, String, i64)>()? {
            let status = status.parse().map_err(|()| corrupt("an order's status", &status))?;
            let order = OpenOrder { id: OrderId(id), user_id: UserId(user), status, total: Money(total) };
            orders.insert(order.id, order);
        }
        for (order, product, quantity) in items.rows::<(i64, i64, i64)>()? {
            order_lines.entry(OrderId(order)).or_default().push((ProductId(product), quantity));
        }
        ([products, _held, inboxes, keys], [new_order_ids, new_item_ids]) =
            tx.look_up(jobs_of(works, &order_lines, &orders, now), new_ids).await?;
    }
    let versions = carts.rows::<(i64, i64)>()?.into_iter();
    let last_events = inboxes.rows::<(i64, i64)>()?.into_iter();
    Ok(Books {
        now,
        cart_versions: versions.map(|(id, version)| (CartId(id), version)).collect(),
        orders,
        order_lines,
        shelves: products.rows()?.into_iter().map(Shelf::from_row).collect(),
        last_events: last_events.map(|(user, last)| (UserId(user), last)).collect(),
        taken_keys: keys.rows()?.into_iter().map(TakenKey::from_row).collect(),
        new_order_ids,
        new_item_ids,
        outcomes: works.iter().map(|_| None).collect(),
        placed: Vec::new(),
        cart_edits: Vec::new(),
        steps: Vec::new(),
        movements: Vec::new(),
        refused_keys: Vec::new(),
        known: Known::default(),
        noted: Vec::new(),
        forget: HashSet::new(),
        new_levels: Vec::new(),
    })
}

/// The look-ups of products, of those to hold, of inboxes and keys.
fn jobs_of(
    works: &[Work],
    order_lines: &HashMap<OrderId, Vec<(ProductId, i64)>>,
    orders: &HashMap<OrderId, OpenOrder>,
    now: Timestamp,
) -> [Job; 4] {
    let buyers = placed(works).map(|order| order.user_id.0);
    let users = sorted(buyers.chain(orders.values().map(|order| order.user_id.0)));
    [
        (&LOCK_PRODUCTS, vec![Column::ints(touched_products(works, order_lines))]),
        (&HOLD_PRODUCTS, vec![Column::ints(put_into_carts(works))]),
        (&LOCK_INBOXES, vec![Column::ints(users)]),
        (&TAKEN_KEYS, keys_of(works, now)),
    ]
}

fn sorted<T: Ord>(ids: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<T> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn placed(works: &[Work]) -> impl Iterator<Item = &PlaceOrder> {
    works.iter().filter_map(|work| match work {
        Work::Place(order) => Some(order),
        _ => None,
    })
}

fn touched_products(works: &[Work], order_lines: &HashMap<OrderId, Vec<(ProductId, i64)>>) -> Vec<i64> {
    let sold = placed(works).flat_map(|order| order.lines.as_slice());
    let named = works.iter().flat_map(Work::parts).filter_map(Work::product);
    sorted(sold.chain(order_lines.values().flatten()).map(|line| line.0).chain(named).map(|id| id.0))
}

fn put_into_carts(works: &[Work]) -> Vec<i64> {
    sorted(works.iter().filter_map(|work| match work {
        Work::EditCart(EditCart { edit: CartEdit::Put(product, _), .. }) => Some(product.0),
        _ => None,
    }))
}

/// The columns of [`TAKEN_KEYS`].
fn keys_of(works: &[Work], now: Timestamp) -> Vec<Column> {
    let keyed: Vec<_> =
        placed(works).filter_map(|order| order.key.as_ref().map(|key| (order.user_id, key))).collect();
    vec![
        Column::ints(keyed.iter().map(|(user, _)| user.0)),
        Column::texts(keyed.iter().map(|(_, key)| key.key.as_str())),
        Column::Bytes(keyed.iter().map(|(_, key)| key.fingerprint.to_vec()).collect()),
        Column::SameTime(now, keyed.len()),
    ]
}

fn corrupt(what: &str, value: &str) -> StoreError {
    StoreError::Fault(sqlx::Error::Decode(format!("{what} is {value:?}").into()))
}
