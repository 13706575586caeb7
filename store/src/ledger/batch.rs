//! The second part of a batch: do what admins ask of products (`admin.rs`), then decide carts, steps and orders in arrival
//! order, in memory.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::bulk::BulkConnection;
use crate::cache::Key;
use crate::changes::{self, Action, Author, Draft};
use crate::db::StoreError;
use crate::model::{
    CartId, Level, MAX_STOCK, Money, MovementKind, Order, OrderId, OrderItem, OrderItemId, OrderStatus,
    ProductId, StatusChange, Step, Timestamp, UserId,
};

use super::admin::Known;
use super::lock::{OpenOrder, Shelf, TakenKey};
use super::{Done, EditCart, FirstAnswer, Outcome, PlaceOrder, Refusal, Shortfall, StepOrder, Work, author};

/// Which order a movement belongs to: one that is there, or the n-th of those placed by this batch.
#[derive(Clone, Copy)]
pub(super) enum MovedBy {
    Admin,
    Order(OrderId),
    Placed(usize),
}

pub(super) struct MovementDraft {
    pub(super) product_id: ProductId,
    pub(super) kind: MovementKind,
    pub(super) change: i64,
    pub(super) level: i64,
    pub(super) by: MovedBy,
}

pub(super) struct OrderDraft {
    pub(super) work: usize,
    pub(super) order: Order,
}

pub(super) struct StepDraft {
    pub(super) order_id: OrderId,
    pub(super) user_id: UserId,
    pub(super) from: OrderStatus,
    pub(super) to: OrderStatus,
    pub(super) total: Money,
}

/// What a batch has locked, and what it has decided so far.
pub(super) struct Books {
    pub(super) now: Timestamp,
    pub(super) cart_versions: HashMap<CartId, i64>,
    pub(super) orders: HashMap<OrderId, OpenOrder>,
    pub(super) order_lines: HashMap<OrderId, Vec<(ProductId, i64)>>,
    pub(super) shelves: BTreeMap<ProductId, Shelf>,
    /// The last number given to an event of a user; a user without events is not among them.
    pub(super) last_events: HashMap<UserId, i64>,
    pub(super) taken_keys: HashMap<(UserId, String), TakenKey>,
    /// As many as there are orders to place, and lines of them; those that are refused leave theirs unused.
    pub(super) new_order_ids: Vec<i64>,
    pub(super) new_item_ids: Vec<i64>,
    pub(super) outcomes: Vec<Option<Outcome>>,
    pub(super) placed: Vec<OrderDraft>,
    pub(super) cart_edits: Vec<(usize, EditCart)>,
    pub(super) steps: Vec<StepDraft>,
    pub(super) movements: Vec<MovementDraft>,
    pub(super) refused_keys: Vec<(usize, FirstAnswer)>,
    pub(super) known: Known,
    /// What admins did, for the history.
    pub(super) noted: Vec<(Author, Draft)>,
    pub(super) forget: HashSet<Key>,
    pub(super) new_levels: Vec<(ProductId, Level)>,
}

/// The cart that a work is about, and the version that it must have.
pub(super) fn cart_of(work: &Work) -> Option<(CartId, i64)> {
    match work {
        Work::Place(order) => Some((order.cart_id, order.cart_version)),
        Work::EditCart(edit) => Some((edit.cart_id, edit.cart_version)),
        _ => None,
    }
}

impl Books {
    /// Decides every work: what admins do to products first, then steps and orders as they came.
    pub(super) async fn decide<C: BulkConnection>(
        mut self,
        tx: &mut C,
        works: &[Work],
        authors: &[Option<Author>],
    ) -> Result<Self, StoreError> {
        self.do_for_admins(tx, works, authors).await?;
        self.turn_away_moved_carts(works);
        self.answer_used_keys(works);
        for (index, work) in works.iter().enumerate() {
            if self.outcomes[index].is_some() {
                continue;
            }
            match work {
                Work::Place(order) => {
                    if let Err(refusal) = self.place(index, order) {
                        self.refuse_order(index, order, refusal);
                    }
                }
                Work::Step(step) => {
                    let outcome = self.step(step, author(authors, index));
                    self.outcomes[index] = Some(outcome);
                }
                Work::EditCart(edit) => self.cart_edits.push((index, *edit)),
                _ => {}
            }
        }
        Ok(self)
    }

    pub(super) fn note(
        &mut self,
        product_id: ProductId,
        kind: MovementKind,
        change: i64,
        level: i64,
        by: MovedBy,
    ) {
        self.movements.push(MovementDraft { product_id, kind, change, level, by });
    }

    /// Before any key is looked at: an order whose cart is no longer as it says must be free to come again.
    fn turn_away_moved_carts(&mut self, works: &[Work]) {
        let mut seen = HashSet::new();
        for (index, work) in works.iter().enumerate() {
            let Some((cart, version)) = cart_of(work) else { continue };
            let as_it_says = self.cart_versions.get(&cart) == Some(&version);
            let all_there = match work {
                Work::Place(order) => order.lines.iter().all(|line| self.shelves.contains_key(&line.0)),
                _ => true,
            };
            if !as_it_says || !all_there || !seen.insert(cart) {
                self.outcomes[index] = Some(Err(Refusal::CartMoved));
            }
        }
    }

    /// Answers the orders whose key was used before; those that are left are the first with theirs.
    fn answer_used_keys(&mut self, works: &[Work]) {
        for (index, work) in works.iter().enumerate() {
            let Work::Place(PlaceOrder { user_id, key: Some(key), .. }) = work else { continue };
            if self.outcomes[index].is_some() {
                continue;
            }
            if let Some(taken) = self.taken_keys.get(&(*user_id, key.key.clone())) {
                self.outcomes[index] = Some(taken.answer());
            }
        }
    }

    fn place(&mut self, work: usize, order: &PlaceOrder) -> Result<(), Refusal> {
        if order.lines.is_empty() {
            return Err(Refusal::CartEmpty);
        }
        let missing: Vec<_> = order
            .lines
            .iter()
            .filter_map(|&(product, requested)| {
                let available = self.shelves.get(&product).map_or(0, Shelf::available);
                (requested > available).then_some(Shortfall { product: product.0, requested, available })
            })
            .collect();
        if !missing.is_empty() {
            return Err(Refusal::OutOfStock(missing));
        }
        let mut items = Vec::with_capacity(order.lines.len());
        for &(product, quantity) in &order.lines {
            let shelf = self.shelves.get_mut(&product).ok_or(Refusal::CartMoved)?;
            let level = shelf.shift(-quantity).ok_or(Refusal::CartMoved)?;
            items.push(OrderItem {
                // Given by `number_orders`, before anything is stored.
                id: OrderItemId(0),
                order_id: OrderId(0),
                product_id: Some(product),
                product_name: shelf.name.clone(),
                sku: shelf.sku.clone(),
                price: shelf.price,
                quantity,
            });
            self.note(product, MovementKind::Order, -quantity, level, MovedBy::Placed(self.placed.len()));
        }
        let order = Order {
            id: OrderId(0),
            user_id: order.user_id,
            status: OrderStatus::Pending,
            total: items.iter().map(|item| item.price.times(item.quantity)).sum(),
            shipping_address: order.shipping_address.clone(),
            phone: order.phone.clone(),
            notes: order.notes.clone(),
            created_at: self.now,
            updated_at: self.now,
            items,
            history: vec![StatusChange { status: OrderStatus::Pending, at: self.now }],
        };
        self.placed.push(OrderDraft { work, order });
        Ok(())
    }

    /// A refusal is the first answer to its key, too.
    fn refuse_order(&mut self, work: usize, order: &PlaceOrder, refusal: Refusal) {
        let answer = match &refusal {
            Refusal::OutOfStock(missing) => Some(FirstAnswer::OutOfStock(missing.clone())),
            Refusal::CartEmpty => Some(FirstAnswer::CartEmpty),
            _ => None,
        };
        if let (Some(answer), Some(_)) = (answer, &order.key) {
            self.refused_keys.push((work, answer));
        }
        self.outcomes[work] = Some(Err(refusal));
    }

    fn step(&mut self, step: &StepOrder, by: Option<&Author>) -> Outcome {
        let order = self
            .orders
            .get_mut(&step.order_id)
            .filter(|order| step.owner.is_none_or(|owner| owner == order.user_id))
            .ok_or(Refusal::OrderNotFound)?;
        let restock = match order.status.step(step.to).map_err(Refusal::WrongStep)? {
            Step::Stay => return Ok(Done::Stepped { moved: false }),
            Step::Move { restock } => restock,
        };
        if restock {
            let lines = self.order_lines.get(&order.id).map_or(&[][..], Vec::as_slice);
            // Of a deleted product nothing goes back. All lines or none: the range is looked at first.
            if let Some(full) = lines.iter().find_map(|(product, quantity)| {
                self.shelves.get(product).filter(|shelf| shelf.stock > MAX_STOCK - quantity)
            }) {
                return Err(Refusal::StockIs(full.stock));
            }
            for &(product_id, change) in lines {
                if let Some(level) = self.shelves.get_mut(&product_id).and_then(|shelf| shelf.shift(change)) {
                    let by = MovedBy::Order(order.id);
                    self.movements.push(MovementDraft {
                        product_id,
                        kind: MovementKind::Cancel,
                        change,
                        level,
                        by,
                    });
                }
            }
        }
        self.steps.push(StepDraft {
            order_id: order.id,
            user_id: order.user_id,
            from: order.status,
            to: step.to,
            total: order.total,
        });
        let draft = Draft {
            kind: changes::Kind::Order,
            object_id: order.id.0,
            label: format!("#{}", order.id),
            action: Action::Changed,
            fields: changes::Fields::default().differ("status", &order.status, &step.to),
        };
        self.noted.extend(changes::drafted(by, draft));
        order.status = step.to;
        Ok(Done::Stepped { moved: true })
    }
}
