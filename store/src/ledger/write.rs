//! The last part of a batch: what was decided is stored in sets, a handful of statements whatever its size.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::bulk::{Bulk, BulkConnection, Column, Job, Kind, bulk};
use crate::cache::Key;
use crate::carts::CartEdit;
use crate::changes;
use crate::db::StoreError;
use crate::model::{
    CartId, CartItemId, Event, EventId, EventKind, Level, OrderId, OrderItemId, OrderStatus, UserId,
};

use super::batch::{Books, MovedBy, MovementDraft};
use super::{Batch, Done, IdempotencyKey, PlaceOrder, Refusal, Work};

use Kind::{Bytes, Int, Text, Time};

const MARK: Bulk = bulk(
    "insert into ledger_commits (id, created_at) select v.column1, v.column2 from {rows}",
    &[Kind::Uuid, Time],
);
/// A key that is here already has had its time.
const STORE_KEYS: Bulk = bulk(
    "insert into idempotency_keys (user_id, key, fingerprint, order_id, refusal, created_at, expires_at) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7 from {rows} where true \
     on conflict (user_id, key) do update set fingerprint = excluded.fingerprint, order_id = excluded.order_id, \
     refusal = excluded.refusal, created_at = excluded.created_at, expires_at = excluded.expires_at",
    &[Int, Text, Bytes, Int, Text, Time, Time],
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
    "insert into orders (id, user_id, status, total, shipping_address, phone, notes, created_at, updated_at) \
     select v.column1, v.column2, 'pending', v.column3, v.column4, v.column5, v.column6, v.column7, v.column7 \
     from {rows}",
    &[Int, Int, Int, Text, Text, Text, Time],
);
const INSERT_ITEMS: Bulk = bulk(
    "insert into order_items (id, order_id, product_id, product_name, sku, price, quantity) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7 from {rows}",
    &[Int, Int, Int, Text, Text, Int, Int],
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
const SET_INBOXES: Bulk = bulk(
    "insert into inboxes (user_id, last_event_id) select v.column1, v.column2 from {rows} where true \
     on conflict (user_id) do update set last_event_id = excluded.last_event_id",
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
    &STORE_KEYS,
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
    &SET_INBOXES,
    &INSERT_EVENTS,
];

impl Books {
    /// Stores all that was decided, in sets, and marks the batch as stored.
    pub(super) async fn write<C: BulkConnection>(
        mut self,
        tx: &mut C,
        id: Uuid,
        works: &[Work],
    ) -> Result<Batch, StoreError> {
        self.number_orders();
        let mut jobs = Vec::new();
        self.write_levels(&mut jobs);
        self.write_orders(&mut jobs);
        let carts_changed = self.write_carts(tx, works, &mut jobs).await?;
        self.write_movements(&mut jobs);
        self.write_steps(&mut jobs);
        let events = self.write_events(&mut jobs);
        self.write_answers(works, &mut jobs);
        jobs.push(changes::job(self.now, &self.noted));
        for draft in self.placed {
            self.outcomes[draft.work] = Some(Ok(Done::Placed(Box::new(draft.order))));
        }
        let wrote = carts_changed
            || !self.new_levels.is_empty()
            || !self.movements.is_empty()
            || !self.forget.is_empty()
            || !events.is_empty()
            || !self.refused_keys.is_empty();
        // The batch's id says that the rest was written. A batch of refusals alone writes nothing at all.
        if wrote {
            jobs.push((&MARK, vec![Column::Uuid(vec![id]), Column::SameTime(self.now, 1)]));
        }
        tx.run_all(jobs).await?;
        let outcomes = self.outcomes.into_iter().map(|outcome| outcome.expect("every work was decided"));
        Ok(Batch {
            outcomes: outcomes.collect(),
            events,
            levels: self.new_levels,
            forget: self.forget.into_iter().collect(),
        })
    }

    /// Gives the new orders and their items the ids that they will be stored with.
    fn number_orders(&mut self) {
        let mut items = self.new_item_ids.iter().copied();
        for (draft, id) in self.placed.iter_mut().zip(&self.new_order_ids) {
            draft.order.id = OrderId(*id);
            for (item, id) in draft.order.items.iter_mut().zip(&mut items) {
                item.order_id = draft.order.id;
                item.id = OrderItemId(id);
            }
        }
    }

    fn write_levels(&mut self, jobs: &mut Vec<Job>) {
        let changed: Vec<_> = self.shelves.values().filter(|shelf| shelf.before.is_some()).collect();
        jobs.push((
            &SET_LEVELS,
            vec![
                Column::ints(changed.iter().map(|shelf| shelf.id.0)),
                Column::ints(changed.iter().map(|shelf| shelf.stock)),
                Column::ints(changed.iter().map(|shelf| shelf.version)),
            ],
        ));
        for shelf in changed {
            self.new_levels.push((shelf.id, Level { stock: shelf.stock, version: shelf.version }));
            // Which products are in stock is part of what lists depend on; how many there are is laid over them.
            if (shelf.before > Some(0)) != (shelf.stock > 0) {
                self.forget.insert(Key::Availability);
            }
        }
    }

    fn write_orders(&self, jobs: &mut Vec<Job>) {
        let orders = || self.placed.iter().map(|draft| &draft.order);
        jobs.push((
            &INSERT_ORDERS,
            vec![
                Column::ints(orders().map(|order| order.id.0)),
                Column::ints(orders().map(|order| order.user_id.0)),
                Column::ints(orders().map(|order| order.total.0)),
                Column::texts(orders().map(|order| order.shipping_address.as_str())),
                Column::texts(orders().map(|order| order.phone.as_str())),
                Column::texts(orders().map(|order| order.notes.as_str())),
                Column::SameTime(self.now, self.placed.len()),
            ],
        ));
        let items = || orders().flat_map(|order| &order.items);
        jobs.push((
            &INSERT_ITEMS,
            vec![
                Column::ints(items().map(|item| item.id.0)),
                Column::ints(items().map(|item| item.order_id.0)),
                Column::Int(items().map(|item| item.product_id.map(|id| id.0)).collect()),
                Column::texts(items().map(|item| item.product_name.as_str())),
                Column::texts(items().map(|item| item.sku.as_str())),
                Column::ints(items().map(|item| item.price.0)),
                Column::ints(items().map(|item| item.quantity)),
            ],
        ));
    }

    /// Stores the edits of carts and empties those that became orders.
    ///
    /// Lines are put at once, since their ids are part of the answer. Gives whether any cart changed.
    async fn write_carts<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        works: &[Work],
        jobs: &mut Vec<Job>,
    ) -> Result<bool, StoreError> {
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
        let any = !changed.is_empty();
        jobs.push((&REMOVE_LINES, vec![Column::ints(removed)]));
        jobs.push((&EMPTY_CARTS, vec![Column::ints(emptied)]));
        let times = Column::SameTime(self.now, changed.len());
        jobs.push((&BUMP_CARTS, vec![Column::ints(changed), times]));
        Ok(any)
    }

    fn write_movements(&self, jobs: &mut Vec<Job>) {
        let movements = &self.movements;
        let order_of = |movement: &MovementDraft| match movement.by {
            MovedBy::Admin => None,
            MovedBy::Order(id) => Some(id.0),
            MovedBy::Placed(index) => Some(self.placed[index].order.id.0),
        };
        jobs.push((
            &INSERT_MOVEMENTS,
            vec![
                Column::ints(movements.iter().map(|movement| movement.product_id.0)),
                Column::texts(movements.iter().map(|movement| movement.kind.as_str())),
                Column::ints(movements.iter().map(|movement| movement.change)),
                Column::ints(movements.iter().map(|movement| movement.level)),
                Column::Int(movements.iter().map(order_of).collect()),
                Column::SameTime(self.now, movements.len()),
            ],
        ));
    }

    fn write_steps(&self, jobs: &mut Vec<Job>) {
        jobs.push((
            &INSERT_STEPS,
            vec![
                Column::ints(self.steps.iter().map(|step| step.order_id.0)),
                Column::texts(self.steps.iter().map(|step| step.to.as_str())),
                Column::SameTime(self.now, self.steps.len()),
            ],
        ));
        // Of an order that moved twice in this batch only the last status stays.
        let last: BTreeMap<_, _> = self.steps.iter().map(|step| (step.order_id, step.to)).collect();
        jobs.push((
            &SET_STATUS,
            vec![
                Column::ints(last.keys().map(|id| id.0)),
                Column::texts(last.values().map(|status| status.as_str())),
                Column::SameTime(self.now, last.len()),
            ],
        ));
    }

    /// Numbers the events of each user without a gap and stores them.
    fn write_events(&mut self, jobs: &mut Vec<Job>) -> Vec<Event> {
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
        let mut last: BTreeMap<UserId, i64> = BTreeMap::new();
        for event in &mut events {
            let before = || self.last_events.get(&event.user_id).copied().unwrap_or(0);
            let number = last.entry(event.user_id).or_insert_with(before);
            *number += 1;
            event.id = EventId(*number);
        }
        let inboxes =
            vec![Column::ints(last.keys().map(|user| user.0)), Column::ints(last.values().copied())];
        jobs.push((&SET_INBOXES, inboxes));
        jobs.push((
            &INSERT_EVENTS,
            vec![
                Column::ints(events.iter().map(|event| event.user_id.0)),
                Column::ints(events.iter().map(|event| event.id.0)),
                Column::texts(events.iter().map(|event| event.kind.as_str())),
                Column::ints(events.iter().map(|event| event.order_id.0)),
                Column::texts(events.iter().map(|event| event.status.as_str())),
                Column::Text(
                    events
                        .iter()
                        .map(|event| event.previous_status.map(|status| status.as_str().into()))
                        .collect(),
                ),
                Column::ints(events.iter().map(|event| event.total.0)),
                Column::SameTime(self.now, events.len()),
            ],
        ));
        events
    }

    /// Keeps the first answers to keys: what was answered from an earlier use is neither placed nor refused here.
    fn write_answers(&self, works: &[Work], jobs: &mut Vec<Job>) {
        let placed = self.placed.iter().map(|draft| (draft.work, Some(draft.order.id.0), None));
        let refused = self.refused_keys.iter().map(|(work, answer)| (*work, None, answer.to_stored()));
        let answers: Vec<(UserId, &IdempotencyKey, Option<i64>, Option<String>)> = placed
            .chain(refused)
            .filter_map(|(work, order, refusal)| match &works[work] {
                Work::Place(PlaceOrder { user_id, key: Some(key), .. }) => {
                    Some((*user_id, key, order, refusal))
                }
                _ => None,
            })
            .collect();
        jobs.push((
            &STORE_KEYS,
            vec![
                Column::ints(answers.iter().map(|(user, ..)| user.0)),
                Column::texts(answers.iter().map(|(_, key, ..)| key.key.as_str())),
                Column::Bytes(answers.iter().map(|(_, key, ..)| key.fingerprint.to_vec()).collect()),
                Column::Int(answers.iter().map(|(_, _, order, _)| *order).collect()),
                Column::Text(
                    answers.iter().map(|(.., refusal)| refusal.as_deref().map(Into::into)).collect(),
                ),
                Column::SameTime(self.now, answers.len()),
                Column::SameTime(self.now.plus_seconds(super::KEY_LIFE_SECONDS), answers.len()),
            ],
        ));
    }
}
