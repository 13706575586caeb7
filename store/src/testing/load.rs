//! What load benchmarks do to a database past the actors: fill many carts at once, and place an order the usual way.
//!
//! [`place_alone`] is the rival that the ledger is measured against: one transaction an order, with the statements that
//! such a transaction usually has, prepared, on the same connections as everything else. No actor may hold a cart that
//! is changed here.

use std::collections::HashMap;

use crate::bulk::{Bulk, BulkConnection, Column, Kind, bulk};
use crate::db::{Db, StoreError, read, statements, transaction};
use crate::ledger::PlaceOrder;
use crate::model::{
    CartId, EventKind, Money, MovementKind, OrderId, OrderStatus, ProductId, Timestamp, UserId,
};

use Kind::{Int, Time};

statements! {
    TAKE: "update products set stock = stock - $2, version = version + 1 \
     where id = $1 and is_active and stock >= $2 returning name, sku, price, stock";
    TAKE_CART: "update carts set version = version + 1, updated_at = $3 where id = $1 and version = $2";
    EMPTY_CART: "delete from cart_items where cart_id = $1";
    INSERT_ORDER: "insert into orders (user_id, status, total, shipping_address, phone, notes, created_at, updated_at) \
                   values ($1, $2, $3, $4, $5, $6, $7, $7) returning id";
    INSERT_ITEM: "insert into order_items (order_id, product_id, product_name, sku, price, quantity) \
                  values ($1, $2, $3, $4, $5, $6)";
    INSERT_MOVEMENT: "insert into stock_movements (product_id, kind, change, level, order_id, created_at) \
                      values ($1, $2, $3, $4, $5, $6)";
    TAKE_NUMBER: "insert into inboxes (user_id, last_event_id) values ($1, 1) on conflict (user_id) do update \
                  set last_event_id = inboxes.last_event_id + 1 returning last_event_id";
    INSERT_EVENT: "insert into events (user_id, id, kind, order_id, status, total, created_at) \
                   values ($1, $2, $3, $4, $5, $6, $7)";
    ORDERS: "select id from orders";
}

const OPEN_CARTS: Bulk = bulk(
    "insert into carts (user_id, updated_at) select v.column1, v.column2 from {rows} where true \
     on conflict (user_id) do update set version = carts.version + 1 returning user_id, id, version",
    &[Int, Time],
);
const FILL_CARTS: Bulk = bulk(
    "insert into cart_items (cart_id, product_id, quantity) select v.column1, v.column2, v.column3 from {rows} \
     where true on conflict (cart_id, product_id) do update set quantity = excluded.quantity",
    &[Int, Int, Int],
);

/// Every statement over many rows of this file, for the test that prepares them.
#[cfg(test)]
pub(crate) const BULKS: &[&Bulk] = &[&OPEN_CARTS, &FILL_CARTS];

/// Puts these lines into the users' carts, which are made if there are none, in one transaction. Gives each cart and
/// its version, in the users' order.
///
/// # Errors
/// Any [`StoreError`]; nothing was stored then.
///
/// # Panics
/// If a user is named twice.
pub async fn fill_carts(
    db: &Db,
    carts: &[(UserId, Vec<(ProductId, i64)>)],
) -> Result<Vec<(CartId, i64)>, StoreError> {
    let now = Timestamp::now();
    let columns = [Column::ints(carts.iter().map(|(user, _)| user.0)), Column::Time(vec![now; carts.len()])];
    transaction!(db, tx => {
        let open: HashMap<UserId, (CartId, i64)> = tx
            .fetch_rows::<(UserId, CartId, i64)>(&OPEN_CARTS, &columns)
            .await?
            .into_iter()
            .map(|(user, cart, version)| (user, (cart, version)))
            .collect();
        assert_eq!(open.len(), carts.len(), "a user is named twice");
        let lines = || carts.iter().flat_map(|(user, lines)| lines.iter().map(|line| (open[user].0, line)));
        let columns = [
            Column::ints(lines().map(|(cart, _)| cart.0)),
            Column::ints(lines().map(|(_, line)| line.0.0)),
            Column::ints(lines().map(|(_, line)| line.1)),
        ];
        tx.run_rows(&FILL_CARTS, &columns).await?;
        Ok(carts.iter().map(|(user, _)| open[user]).collect())
    })
}

/// Places one order in a transaction of its own. None if the cart has moved or a line cannot be served; keys are not
/// looked at.
///
/// # Errors
/// Any [`StoreError`].
pub async fn place_alone(db: &Db, order: &PlaceOrder) -> Result<Option<OrderId>, StoreError> {
    let now = Timestamp::now();
    let mut lines = order.lines.clone();
    // In the order of their ids, so that two transactions never wait for each other.
    lines.sort_unstable();
    let placed = transaction!(db, tx => {
        let taken = sqlx::query(TAKE_CART.on(db))
            .bind(order.cart_id)
            .bind(order.cart_version)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        if taken.rows_affected() == 0 {
            return Err(sqlx::Error::RowNotFound.into());
        }
        sqlx::query(EMPTY_CART.on(db)).bind(order.cart_id).execute(&mut *tx).await?;
        let mut items = Vec::with_capacity(lines.len());
        for &(product, quantity) in &lines {
            let (name, sku, price, level): (String, String, Money, i64) =
                sqlx::query_as(TAKE.on(db)).bind(product).bind(quantity).fetch_one(&mut *tx).await?;
            items.push((product, quantity, name, sku, price, level));
        }
        let total: Money = items.iter().map(|item| item.4.times(item.1)).sum();
        let (id,): (OrderId,) = sqlx::query_as(INSERT_ORDER.on(db))
            .bind(order.user_id)
            .bind(OrderStatus::Pending)
            .bind(total)
            .bind(&order.shipping_address)
            .bind(&order.phone)
            .bind(&order.notes)
            .bind(now)
            .fetch_one(&mut *tx)
            .await?;
        for (product, quantity, name, sku, price, level) in items {
            sqlx::query(INSERT_ITEM.on(db))
                .bind(id)
                .bind(product)
                .bind(name)
                .bind(sku)
                .bind(price)
                .bind(quantity)
                .execute(&mut *tx)
                .await?;
            sqlx::query(INSERT_MOVEMENT.on(db))
                .bind(product)
                .bind(MovementKind::Order)
                .bind(-quantity)
                .bind(level)
                .bind(id)
                .bind(now)
                .execute(&mut *tx)
                .await?;
        }
        let (number,): (i64,) =
            sqlx::query_as(TAKE_NUMBER.on(db)).bind(order.user_id).fetch_one(&mut *tx).await?;
        sqlx::query(INSERT_EVENT.on(db))
            .bind(order.user_id)
            .bind(number)
            .bind(EventKind::OrderCreated)
            .bind(id)
            .bind(OrderStatus::Pending)
            .bind(total)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        Ok(id)
    });
    match placed {
        Ok(id) => Ok(Some(id)),
        Err(StoreError::Fault(sqlx::Error::RowNotFound)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every order that there is.
///
/// # Errors
/// Any [`StoreError`].
pub async fn order_ids(db: &Db) -> Result<Vec<OrderId>, StoreError> {
    let ids: Vec<(OrderId,)> = read!(db, pool => sqlx::query_as(ORDERS.on(db)).fetch_all(pool).await)?;
    Ok(ids.into_iter().map(|(id,)| id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::audit;
    use crate::ledger::{self, Done, NewProduct, Work};
    use crate::testing::TestDb;

    #[tokio::test]
    async fn an_order_of_its_own_transaction_leaves_the_books_as_right_as_one_of_a_batch() {
        let test = TestDb::create().await;
        let user = test.user().await;
        let new = NewProduct {
            name: "Lamp".to_owned(),
            description: String::new(),
            price: Money(1999),
            stock: 5,
            category_id: test.category("Lamps").await,
            sku: None,
            featured: false,
            is_active: true,
            image: None,
        };
        let batch =
            ledger::commit(&test.db, uuid::Uuid::new_v4(), &[Work::Create(Box::new(new))]).await.unwrap();
        let Some(Ok(Done::Product(lamp))) = batch.outcomes.into_iter().next() else { panic!("no lamp") };
        let mut placed = Vec::new();
        for quantity in [2, 3, 1] {
            let carts = fill_carts(&test.db, &[(user, vec![(lamp.id, quantity)])]).await.unwrap();
            let order = PlaceOrder {
                user_id: user,
                cart_id: carts[0].0,
                cart_version: carts[0].1,
                lines: vec![(lamp.id, quantity)],
                shipping_address: String::new(),
                phone: String::new(),
                notes: String::new(),
                key: None,
            };
            placed.extend(place_alone(&test.db, &order).await.unwrap());
            assert_eq!(place_alone(&test.db, &order).await.unwrap(), None);
        }
        assert_eq!(placed.len(), 2);
        assert_eq!(order_ids(&test.db).await.unwrap(), placed);
        for check in audit(&test.db).await.unwrap() {
            assert_eq!(check.violations, 0, "{check:?}");
        }
    }
}
