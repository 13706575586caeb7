//! Orders as they are read. They are placed and moved on by the ledger alone.

use std::collections::HashMap;

use crate::bulk::{Bulk, BulkConnection, Column, Kind, bulk};
use crate::db::{Db, StoreError, read, read_together, statements};
use crate::model::{Money, Order, OrderId, OrderItem, OrderStatus, StatusChange, Timestamp, UserId};
use crate::sql::{Sql, fetch, fetch_count};

/// Which orders to list, and in what order.
#[derive(Clone, Debug, Default)]
pub struct OrderQuery {
    /// Of this user alone.
    pub user: Option<UserId>,
    /// In this status alone.
    pub status: Option<OrderStatus>,
    /// Placed at this moment or later.
    pub from: Option<Timestamp>,
    /// Placed before this moment.
    pub before: Option<Timestamp>,
    /// The terms of the order, the first weighing most; ties by id in the direction of the last term.
    pub ordering: Vec<Ordering>,
}

/// A term of the order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordering {
    /// What to compare.
    pub by: OrderBy,
    /// From the highest to the lowest.
    pub descending: bool,
}

/// What a list of orders can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// When it was placed.
    CreatedAt,
    /// What it costs.
    Total,
}

#[derive(sqlx::FromRow)]
struct OrderRow {
    id: OrderId,
    user_id: UserId,
    status: OrderStatus,
    total: Money,
    shipping_address: String,
    phone: String,
    notes: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, user_id, status, total, shipping_address, phone, notes, created_at, updated_at"
    };
}

const SELECT: &str = concat!("select ", columns!(), " from orders");

statements! {
    FIND: concat!("select ", columns!(), " from orders where id = $1");
}

/// The line items of many orders; of a deleted product the id is none.
const ITEMS: Bulk = bulk(
    "select i.id, i.order_id, p.id as product_id, i.product_name, i.sku, i.price, i.quantity from {rows} \
     join order_items i on i.order_id = v.column1 left join products p on p.id = i.product_id order by i.id",
    &[Kind::Int],
);
/// The same with the id that the product had, whether it is there or not.
const ITEMS_AS_PLACED: Bulk = bulk(
    "select i.id, i.order_id, i.product_id, i.product_name, i.sku, i.price, i.quantity from {rows} \
     join order_items i on i.order_id = v.column1 order by i.id",
    &[Kind::Int],
);
const STEPS: Bulk = bulk(
    "select s.order_id, s.status, s.at from {rows} join order_steps s on s.order_id = v.column1 order by s.at",
    &[Kind::Int],
);

/// Every statement over many rows of this file, for the test that prepares them.
#[cfg(test)]
pub(crate) const BULKS: &[&Bulk] = &[&ITEMS, &ITEMS_AS_PLACED, &STEPS];

/// The order with this id.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find(db: &Db, id: OrderId) -> Result<Option<Order>, StoreError> {
    find_with(db, id, &ITEMS).await
}

async fn find_with(db: &Db, id: OrderId, items: &Bulk) -> Result<Option<Order>, StoreError> {
    let row: Option<OrderRow> =
        read!(db, pool => sqlx::query_as(FIND.on(db)).bind(id).fetch_optional(pool).await)?;
    Ok(complete(db, row.into_iter().collect(), items).await?.pop())
}

/// The order as it was when it was placed: the first answer to its idempotency key.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_as_placed(db: &Db, id: OrderId) -> Result<Option<Order>, StoreError> {
    Ok(find_with(db, id, &ITEMS_AS_PLACED).await?.map(|mut order| {
        order.status = OrderStatus::Pending;
        order.updated_at = order.created_at;
        order.history.truncate(1);
        order
    }))
}

/// One page of the orders that match, and how many match in all.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list(
    db: &Db,
    query: &OrderQuery,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Order>, i64), StoreError> {
    let mut sql = Sql::default();
    conditions(sql.select("select count(*) from orders"), query);
    let count = fetch_count(db, sql).await?;
    if count <= offset {
        return Ok((Vec::new(), count));
    }
    let mut sql = Sql::default();
    conditions(sql.select(SELECT), query);
    order_by(&mut sql, &query.ordering);
    sql.part(limit.max(0), offset.max(0));
    let rows = fetch(db, sql).await?;
    Ok((complete(db, rows, &ITEMS).await?, count))
}

/// The next orders by id that match, for those who go through them all; the query's order does not count.
///
/// # Errors
/// Any [`StoreError`].
pub async fn after(db: &Db, query: &OrderQuery, last: OrderId, limit: i64) -> Result<Vec<Order>, StoreError> {
    let mut sql = Sql::default();
    conditions(sql.select(SELECT), query);
    sql.condition("id > ").bind(last.0).add(" order by id limit ").bind(limit);
    let rows = fetch(db, sql).await?;
    complete(db, rows, &ITEMS).await
}

fn conditions(sql: &mut Sql, query: &OrderQuery) {
    if let Some(user) = query.user {
        sql.condition("user_id = ").bind(user.0);
    }
    if let Some(status) = query.status {
        sql.condition("status = ").bind(status.as_str());
    }
    if let Some(from) = query.from {
        sql.condition("created_at >= ").bind(from);
    }
    if let Some(before) = query.before {
        sql.condition("created_at < ").bind(before);
    }
}

fn order_by(sql: &mut Sql, ordering: &[Ordering]) {
    let newest_first = [Ordering { by: OrderBy::CreatedAt, descending: true }];
    let mut distinct: Vec<Ordering> = Vec::new();
    for term in if ordering.is_empty() { &newest_first[..] } else { ordering } {
        // What is ordered by already is not ordered any further by the same again.
        if distinct.iter().all(|earlier| earlier.by != term.by) {
            distinct.push(*term);
        }
    }
    let direction = |descending| if descending { " desc" } else { "" };
    sql.add(" order by ");
    for term in &distinct {
        sql.add(match term.by {
            OrderBy::CreatedAt => "created_at",
            OrderBy::Total => "total",
        });
        sql.add(direction(term.descending)).add(", ");
    }
    sql.add("id").add(direction(distinct.last().is_some_and(|term| term.descending)));
}

/// Adds line items and history to the rows, in two statements whatever their number.
async fn complete(db: &Db, rows: Vec<OrderRow>, items: &Bulk) -> Result<Vec<Order>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids = [Column::ints(rows.iter().map(|row| row.id.0))];
    let (items, steps) = read_together!(db, connection => {
        let items = connection.fetch_rows::<OrderItem>(items, &ids).await?;
        let steps = connection.fetch_rows::<(OrderId, OrderStatus, Timestamp)>(&STEPS, &ids).await?;
        Ok((items, steps))
    })?;
    let mut items_of: HashMap<OrderId, Vec<OrderItem>> = HashMap::new();
    for item in items {
        items_of.entry(item.order_id).or_default().push(item);
    }
    let mut steps_of: HashMap<OrderId, Vec<StatusChange>> = HashMap::new();
    for (order, status, at) in steps {
        steps_of.entry(order).or_default().push(StatusChange { status, at });
    }
    Ok(rows
        .into_iter()
        .map(|row| {
            // Every order began as pending; only the steps after that are rows.
            let mut history = vec![StatusChange { status: OrderStatus::Pending, at: row.created_at }];
            history.extend(steps_of.remove(&row.id).unwrap_or_default());
            // Two steps in one batch have the same time.
            history
                .sort_by_key(|change| (change.at, OrderStatus::ALL.iter().position(|s| *s == change.status)));
            Order {
                items: items_of.remove(&row.id).unwrap_or_default(),
                history,
                id: row.id,
                user_id: row.user_id,
                status: row.status,
                total: row.total,
                shipping_address: row.shipping_address,
                phone: row.phone,
                notes: row.notes,
                created_at: row.created_at,
                updated_at: row.updated_at,
            }
        })
        .collect())
}
