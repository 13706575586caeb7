//! What the administration site's first page counts: orders and revenue of a day by the hour, orders by status, what is
//! sold out or nearly so, and the newest orders.
//!
//! Only read, and only for people: the caller asks for [`numbers`] every few seconds at most, however many look on.
//! [`newest`] is a look at the end of an index.

use crate::db::{Db, StoreError, read, statements};
use crate::model::{Money, OrderId, OrderStatus, ProductId, Timestamp, UserId};

/// The highest level that counts as low.
pub const LOW_STOCK: i64 = 5;

/// How many products of low stock are named.
const NAMED: i64 = 8;

statements! {
    BY_HOUR:
        sqlite "select cast(substr(created_at, 12, 2) as integer) as hour, count(*) as orders, \
                    sum(case when status = 'cancelled' then 0 else total end) as revenue \
                from orders where created_at >= $1 and created_at < $2 group by 1",
        postgres "select cast(extract(hour from created_at at time zone 'utc') as bigint) as hour, count(*) as orders, \
                    cast(sum(case when status = 'cancelled' then 0 else total end) as bigint) as revenue \
                from orders where created_at >= $1 and created_at < $2 group by 1";
    BY_STATUS: "select status, count(*) from orders group by status";
    SOLD_OUT: "select count(*) from products where is_active and stock = 0";
    LOW: "select count(*) from products where is_active and stock between 1 and $1";
    SHORTEST: "select id, name, sku, stock from products where is_active and stock <= $1 order by stock, id limit $2";
    NEWEST: "select o.id, o.status, o.total, o.created_at, o.user_id, u.email from orders o \
             join users u on u.id = o.user_id order by o.id desc limit $1";
}

/// One hour of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Hour {
    /// 0 to 23, in UTC.
    pub hour: i64,
    /// Orders placed.
    pub orders: i64,
    /// What they cost, without those that were cancelled.
    pub revenue: Money,
}

/// A product of which there are few or none.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields are a product's")]
pub struct Short {
    pub id: ProductId,
    pub name: String,
    pub sku: String,
    pub stock: i64,
}

/// What there is to count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The day's hours, all 24.
    pub hours: Vec<Hour>,
    /// How many orders there are in each status, of all there are.
    pub by_status: Vec<(OrderStatus, i64)>,
    /// Active products of which there is none.
    pub sold_out: i64,
    /// Active products of which there are at most [`LOW_STOCK`].
    pub low: i64,
    /// Some of them, the fewest first.
    pub shortest: Vec<Short>,
}

/// An order, as the newest are listed.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields are an order's, and its user's email")]
pub struct NewOrder {
    pub id: OrderId,
    pub status: OrderStatus,
    pub total: Money,
    pub created_at: Timestamp,
    pub user_id: UserId,
    pub email: String,
}

/// Counts the day that this moment is in, in UTC, and what there is now.
///
/// # Errors
/// If the database does not answer.
pub async fn numbers(db: &Db, now: Timestamp) -> Result<Numbers, StoreError> {
    let day = now.start_of_day();
    let found: Vec<Hour> = read!(db, pool => {
        sqlx::query_as(BY_HOUR.on(db)).bind(day).bind(day.plus_seconds(24 * 60 * 60)).fetch_all(pool).await
    })?;
    let hours = (0..24).map(|hour| {
        found.iter().find(|found| found.hour == hour).copied().unwrap_or(Hour { hour, ..Hour::default() })
    });
    let found: Vec<(OrderStatus, i64)> =
        read!(db, pool => sqlx::query_as(BY_STATUS.on(db)).fetch_all(pool).await)?;
    let count = |status| found.iter().find(|(known, _)| *known == status).map_or(0, |(_, count)| *count);
    let by_status = OrderStatus::ALL.into_iter().map(|status| (status, count(status)));
    let (sold_out,): (i64,) = read!(db, pool => sqlx::query_as(SOLD_OUT.on(db)).fetch_one(pool).await)?;
    let (low,): (i64,) = read!(db, pool => sqlx::query_as(LOW.on(db)).bind(LOW_STOCK).fetch_one(pool).await)?;
    let shortest = read!(db, pool => {
        sqlx::query_as(SHORTEST.on(db)).bind(LOW_STOCK).bind(NAMED).fetch_all(pool).await
    })?;
    Ok(Numbers { hours: hours.collect(), by_status: by_status.collect(), sold_out, low, shortest })
}

/// The newest orders, the newest first.
///
/// # Errors
/// If the database does not answer.
pub async fn newest(db: &Db, limit: i64) -> Result<Vec<NewOrder>, StoreError> {
    Ok(read!(db, pool => sqlx::query_as(NEWEST.on(db)).bind(limit).fetch_all(pool).await)?)
}
