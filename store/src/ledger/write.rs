//! The last part of a batch: what was decided is stored in sets, a handful of statements whatever its size.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::bulk::{Bulk, BulkConnection, Column, Kind};
use crate::cache::Key;
use crate::carts::CartEdit;
use crate::db::StoreError;
use crate::model::{
    CartId, CartItemId, Event, EventId, EventKind, Level, OrderId, OrderItemId, OrderStatus, ProductId,
    Timestamp, UserId,
};

use super::batch::{Books, MovedBy, MovementDraft, bulk};
use super::{Batch, Done, PlaceOrder, Refusal, Work};

use Kind::{Int, Text, Time};

const MARK: Bulk = bulk(
    "insert into ledger_commits (id, created_at) select v.column1, v.column2 from {rows}",
    &[Kind::Uuid, Time],
);
const ANSWER_KEYS: Bulk = bulk(
    "update idempotency_keys set order_id = v.column3, refusal = v.column4 from {rows} \
     where idempotency_keys.user_id = v.column1 and idempotency_keys.key = v.column2",
    &[Int, Text, Int, Text],
);
const SET_LEVELS: Bulk = bulk(
    "update products set stock = v.column2, version = v.column3 from {rows} where products.id = v.column1",
    &[Int, Int, Int],
);
const INSERT_MOVEMENTS: Bulk = bulk(
    "insert into stock_movements (product_id, kind, change, level, order_id, created_at) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6 from {rows}",
    &[Int, Text, Int, Int, Int, Time],
);
const INSERT_ORDERS: Bulk = bulk(
    "insert into orders (user_id, status, total, shipping_address, phone, notes, created_at, updated_at) \
     select v.column1, 'pending', v.column2, v.column3, v.column4, v.column5, v.column6, v.column6 from {rows} \
     where true returning id, user_id",
    &[Int, Int, Text, Text, Text, Time],
);
const INSERT_ITEMS: Bulk = bulk(
    "insert into order_items (order_id, product_id, product_name, sku, price, quantity) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6 from {rows} \
     where true returning id, order_id, product_id",
    &[Int, Int, Text, Text, Int, Int],
);
const PUT_LINES: Bulk = bulk(
    "insert into cart_items (cart_id, product_id, quantity) \
     select v.column1, p.id, v.column3 from {rows} join products p on p.id = v.column2 where true \
     on conflict (cart_id, product_id) do update set quantity = excluded.quantity returning id, cart_id",
    &[Int, Int, Int],
);
const REMOVE_LINES: Bulk = bulk("delete from cart_items where id in (select v.column1 from {rows})", &[Int]);
const EMPTY_CARTS: Bulk =
    bulk("delete from cart_items where cart_id in (select v.column1 from {rows})", &[Int]);
const BUMP_CARTS: Bulk = bulk(
    "update carts set version = version + 1, updated_at = v.column2 from {rows} where carts.id = v.column1",
    &[Int, Time],
);
const SET_STATUS: Bulk = bulk(
    "update orders set status = v.column2, updated_at = v.column3 from {rows} where orders.id = v.column1",
    &[Int, Text, Time],
);
const INSERT_STEPS: Bulk = bulk(
    "insert into order_steps (order_id, status, at) select v.column1, v.column2, v.column3 from {rows}",
    &[Int, Text, Time],
);
/// Takes as many numbers of each user's events as the second column says; gives the last one taken.
const TAKE_NUMBERS: Bulk = bulk(
    "insert into inboxes (user_id, last_event_id) select v.column1, v.column2 from {rows} where true \
     on conflict (user_id) do update set last_event_id = inboxes.last_event_id + excluded.last_event_id \
     returning user_id, last_event_id",
    &[Int, Int],
);
const INSERT_EVENTS: Bulk = bulk(
    "insert into events (user_id, id, kind, order_id, status, previous_status, total, created_at) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8 from {rows}",
    &[Int, Int, Text, Int, Text, Text, Int, Time],
);

/// Every statement of this file, for the test that prepares them.
#[cfg(test)]
pub(super) const BULKS: &[&Bulk] = &[
    &MARK,
    &ANSWER_KEYS,
    &SET_LEVELS,
    &INSERT_MOVEMENTS,
    &INSERT_ORDERS,
    &INSERT_ITEMS,
    &PUT_LINES,
    &REMOVE_LINES,
    &EMPTY_CARTS,
    &BUMP_CARTS,
    &SET_STATUS,
    &INSERT_STEPS,
    &TAKE_NUMBERS,
    &INSERT_EVENTS,
];

/// Writes the batch's id, which says that the rest was written. A batch of refusals alone writes nothing at all.
async fn mark<C: BulkConnection>(tx: &mut C, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
    tx.run_rows(&MARK, &[Column::Uuid(vec![id]), Column::Time(vec![now])]).await?;
    Ok(())
}

impl Books {
    /// Stores all that was decided, in sets, and marks the batch as stored.
    pub(super) async fn write<C: BulkConnection>(
        mut self,
        tx: &mut C,
        id: Uuid,
        works: &[Work],
    ) -> Result<Batch, StoreError> {
        self.write_levels(tx).await?;
        self.write_orders(tx).await?;
        self.write_carts(tx, works).await?;
        self.write_movements(tx).await?;
        self.write_steps(tx).await?;
        let events = self.write_events(tx).await?;
        self.write_answers(tx, works).await?;
        for draft in self.placed {
            self.outcomes[draft.work] = Some(Ok(Done::Placed(Box::new(draft.order))));
        }
        let nothing = self.new_levels.is_empty()
            && self.movements.is_empty()
            && self.forget.is_empty()
            && events.is_empty()
            && self.claimed.is_empty()
            && self.changed_carts == 0;
        if !nothing {
            mark(tx, id, self.now).await?;
        }
        let outcomes = self.outcomes.into_iter().map(|outcome| outcome.expect("every work was decided"));
        Ok(Batch {
            outcomes: outcomes.collect(),
            events,
            levels: self.new_levels,
            forget: self.forget.into_iter().collect(),
        })
    }

    async fn write_levels<C: BulkConnection>(&mut self, tx: &mut C) -> Result<(), StoreError> {
        let changed: Vec<_> = self.shelves.values().filter(|shelf| shelf.before.is_some()).collect();
        let columns = [
            Column::ints(changed.iter().map(|shelf| shelf.id.0)),
            Column::ints(changed.iter().map(|shelf| shelf.stock)),
            Column::ints(changed.iter().map(|shelf| shelf.version)),
        ];
        tx.run_rows(&SET_LEVELS, &columns).await?;
        for shelf in changed {
            self.new_levels.push((shelf.id, Level { stock: shelf.stock, version: shelf.version }));
            // Which products are in stock is part of what lists depend on; how many there are is laid over them.
            if (shelf.before > Some(0)) != (shelf.stock > 0) {
                self.forget.insert(Key::Availability);
            }
        }
        Ok(())
    }

    async fn write_orders<C: BulkConnection>(&mut self, tx: &mut C) -> Result<(), StoreError> {
        let orders = || self.placed.iter().map(|draft| &draft.order);
        let columns = [
            Column::ints(orders().map(|order| order.user_id.0)),
            Column::ints(orders().map(|order| order.total.0)),
            Column::texts(orders().map(|order| order.shipping_address.as_str())),
            Column::texts(orders().map(|order| order.phone.as_str())),
            Column::texts(orders().map(|order| order.notes.as_str())),
            Column::Time(vec![self.now; self.placed.len()]),
        ];
        // A cart is in a batch once, so a user is, too.
        let ids: HashMap<UserId, OrderId> = tx
            .fetch_rows::<(OrderId, UserId)>(&INSERT_ORDERS, &columns)
            .await?
            .into_iter()
            .map(|(order, user)| (user, order))
            .collect();
        for draft in &mut self.placed {
            draft.order.id = ids[&draft.order.user_id];
        }
        let lines = || {
            self.placed.iter().flat_map(|draft| draft.order.items.iter().map(|item| (draft.order.id, item)))
        };
        let columns = [
            Column::ints(lines().map(|(order, _)| order.0)),
            Column::Int(lines().map(|(_, item)| item.product_id.map(|id| id.0)).collect()),
            Column::texts(lines().map(|(_, item)| item.product_name.as_str())),
            Column::texts(lines().map(|(_, item)| item.sku.as_str())),
            Column::ints(lines().map(|(_, item)| item.price.0)),
            Column::ints(lines().map(|(_, item)| item.quantity)),
        ];
        let item_ids: HashMap<(OrderId, Option<ProductId>), OrderItemId> = tx
            .fetch_rows::<(OrderItemId, OrderId, Option<ProductId>)>(&INSERT_ITEMS, &columns)
            .await?
            .into_iter()
            .map(|(item, order, product)| ((order, product), item))
            .collect();
        for draft in &mut self.placed {
            for item in &mut draft.order.items {
                item.order_id = draft.order.id;
                item.id = item_ids[&(draft.order.id, item.product_id)];
            }
        }
        Ok(())
    }

    /// Stores the edits of carts and empties those that became orders.
    async fn write_carts<C: BulkConnection>(&mut self, tx: &mut C, works: &[Work]) -> Result<(), StoreError> {
        let puts: Vec<_> = self
            .cart_edits
            .iter()
            .filter_map(|(_, edit)| match edit.edit {
                CartEdit::Put(product, quantity) => Some((edit.cart_id.0, product.0, quantity)),
                CartEdit::Remove(_) | CartEdit::Clear => None,
            })
            .collect();
        let columns = [
            Column::ints(puts.iter().map(|put| put.0)),
            Column::ints(puts.iter().map(|put| put.1)),
            Column::ints(puts.iter().map(|put| put.2)),
        ];
        // A cart is in a batch once, so its id tells which put a line belongs to.
        let lines: HashMap<CartId, CartItemId> = tx
            .fetch_rows::<(CartItemId, CartId)>(&PUT_LINES, &columns)
            .await?
            .into_iter()
            .map(|(line, cart)| (cart, line))
            .collect();
        let mut changed = Vec::new();
        let mut removed = Vec::new();
        let mut emptied = Vec::new();
        for (work, edit) in &self.cart_edits {
            let line = lines.get(&edit.cart_id).copied();
            self.outcomes[*work] = Some(match edit.edit {
                // The product was deleted a moment ago.
                CartEdit::Put(..) if line.is_none() => Err(Refusal::ProductNotFound),
                _ => Ok(Done::CartEdited { line, at: self.now }),
            });
            match edit.edit {
                CartEdit::Put(..) if line.is_none() => continue,
                CartEdit::Put(..) => {}
                CartEdit::Remove(item) => removed.push(item.0),
                CartEdit::Clear => emptied.push(edit.cart_id.0),
            }
            changed.push(edit.cart_id.0);
        }
        for draft in &self.placed {
            if let Work::Place(order) = &works[draft.work] {
                changed.push(order.cart_id.0);
                emptied.push(order.cart_id.0);
            }
        }
        tx.run_rows(&REMOVE_LINES, &[Column::ints(removed)]).await?;
        tx.run_rows(&EMPTY_CARTS, &[Column::ints(emptied)]).await?;
        let times = Column::Time(vec![self.now; changed.len()]);
        self.changed_carts = tx.run_rows(&BUMP_CARTS, &[Column::ints(changed), times]).await?;
        Ok(())
    }

    async fn write_movements<C: BulkConnection>(&self, tx: &mut C) -> Result<(), StoreError> {
        let movements = &self.movements;
        let order_of = |movement: &MovementDraft| match movement.by {
            MovedBy::Admin => None,
            MovedBy::Order(id) => Some(id.0),
            MovedBy::Placed(index) => Some(self.placed[index].order.id.0),
        };
        let columns = [
            Column::ints(movements.iter().map(|movement| movement.product_id.0)),
            Column::texts(movements.iter().map(|movement| movement.kind.as_str())),
            Column::ints(movements.iter().map(|movement| movement.change)),
            Column::ints(movements.iter().map(|movement| movement.level)),
            Column::Int(movements.iter().map(order_of).collect()),
            Column::Time(vec![self.now; movements.len()]),
        ];
        tx.run_rows(&INSERT_MOVEMENTS, &columns).await?;
        Ok(())
    }

    async fn write_steps<C: BulkConnection>(&self, tx: &mut C) -> Result<(), StoreError> {
        let all = [
            Column::ints(self.steps.iter().map(|step| step.order_id.0)),
            Column::texts(self.steps.iter().map(|step| step.to.as_str())),
            Column::Time(vec![self.now; self.steps.len()]),
        ];
        tx.run_rows(&INSERT_STEPS, &all).await?;
        // Of an order that moved twice in this batch only the last status stays.
        let last: BTreeMap<_, _> = self.steps.iter().map(|step| (step.order_id, step.to)).collect();
        let columns = [
            Column::ints(last.keys().map(|id| id.0)),
            Column::texts(last.values().map(|status| status.as_str())),
            Column::Time(vec![self.now; last.len()]),
        ];
        tx.run_rows(&SET_STATUS, &columns).await?;
        Ok(())
    }

    /// Numbers the events of each user without a gap and stores them.
    async fn write_events<C: BulkConnection>(&self, tx: &mut C) -> Result<Vec<Event>, StoreError> {
        let created = self.placed.iter().map(|draft| Event {
            user_id: draft.order.user_id,
            id: EventId(0),
            kind: EventKind::OrderCreated,
            order_id: draft.order.id,
            status: OrderStatus::Pending,
            previous_status: None,
            total: draft.order.total,
            created_at: self.now,
        });
        let moved = self.steps.iter().map(|step| Event {
            user_id: step.user_id,
            id: EventId(0),
            kind: EventKind::OrderStatusUpdate,
            order_id: step.order_id,
            status: step.to,
            previous_status: Some(step.from),
            total: step.total,
            created_at: self.now,
        });
        let mut events: Vec<Event> = created.chain(moved).collect();
        let mut counts: BTreeMap<UserId, i64> = BTreeMap::new();
        for event in &events {
            *counts.entry(event.user_id).or_default() += 1;
        }
        let columns = [Column::ints(counts.keys().map(|id| id.0)), Column::ints(counts.values().copied())];
        let mut next: HashMap<UserId, i64> = tx
            .fetch_rows::<(UserId, i64)>(&TAKE_NUMBERS, &columns)
            .await?
            .into_iter()
            .map(|(user, last)| (user, last - counts[&user] + 1))
            .collect();
        for event in &mut events {
            let number = next.get_mut(&event.user_id).expect("each user took numbers");
            event.id = EventId(*number);
            *number += 1;
        }
        let status = |status: OrderStatus| status.as_str().to_owned();
        let columns = [
            Column::ints(events.iter().map(|event| event.user_id.0)),
            Column::ints(events.iter().map(|event| event.id.0)),
            Column::texts(events.iter().map(|event| event.kind.as_str())),
            Column::ints(events.iter().map(|event| event.order_id.0)),
            Column::texts(events.iter().map(|event| event.status.as_str())),
            Column::Text(events.iter().map(|event| event.previous_status.map(status)).collect()),
            Column::ints(events.iter().map(|event| event.total.0)),
            Column::Time(vec![self.now; events.len()]),
        ];
        tx.run_rows(&INSERT_EVENTS, &columns).await?;
        Ok(events)
    }

    /// Keeps the first answer to each key that this batch claimed.
    async fn write_answers<C: BulkConnection>(&self, tx: &mut C, works: &[Work]) -> Result<(), StoreError> {
        let placed = self.placed.iter().map(|draft| (draft.work, Some(draft.order.id.0), None));
        let refused = self.refused_keys.iter().map(|(work, answer)| (*work, None, answer.to_stored()));
        let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (work, order, refusal) in placed.chain(refused).filter(|answer| self.claimed.contains(&answer.0))
        {
            if let Work::Place(PlaceOrder { user_id, key: Some(key), .. }) = &works[work] {
                columns.0.push(Some(user_id.0));
                columns.1.push(Some(key.key.clone()));
                columns.2.push(order);
                columns.3.push(refusal);
            }
        }
        let (users, keys, orders, refusals) = columns;
        let columns = [Column::Int(users), Column::Text(keys), Column::Int(orders), Column::Text(refusals)];
        tx.run_rows(&ANSWER_KEYS, &columns).await?;
        Ok(())
    }
}
