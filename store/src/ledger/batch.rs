//! The second part of a batch: do what admins ask of products, a statement or more each, since that is rare; then decide
//! carts, steps and orders in arrival order, in memory. The number of statements for these does not grow with the batch.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::bulk::{BulkConnection, Column};
use crate::cache::Key;
use crate::changes::{self, Action, Author, Draft};
use crate::db::StoreError;
use crate::model::{
    CartId, Level, MAX_STOCK, Money, MovementKind, Order, OrderId, OrderItem, OrderItemId, OrderStatus,
    Product, ProductId, StatusChange, Step, Timestamp, UserId,
};

use super::lock::{OpenOrder, Shelf, TakenKey};
use super::{
    Done, EditCart, FirstAnswer, Outcome, PlaceOrder, ProductChange, Refusal, Seen, Shortfall, StepOrder,
    StockMove, Work, products,
};

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
        let by = |index: usize| authors.get(index).and_then(Option::as_ref);
        for (index, work) in works.iter().enumerate() {
            let outcome = match work {
                Work::Create(new) => self.create(tx, new, by(index)).await?,
                Work::Change(id, change, seen) => self.change(tx, *id, change, *seen, by(index)).await?,
                Work::Delete(id, version) => self.delete(tx, *id, *version, by(index)).await?,
                Work::Move(id, stock_move) => self.move_stock(tx, *id, *stock_move, by(index)).await?,
                Work::Together(parts) => self.together(tx, parts, by(index)).await?,
                Work::Place(_) | Work::Step(_) | Work::EditCart(_) => continue,
            };
            self.outcomes[index] = Some(outcome);
        }
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
                    let outcome = self.step(step, by(index));
                    self.outcomes[index] = Some(outcome);
                }
                Work::EditCart(edit) => self.cart_edits.push((index, *edit)),
                _ => {}
            }
        }
        Ok(self)
    }

    async fn create<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        new: &super::NewProduct,
        by: Option<&Author>,
    ) -> Result<Outcome, StoreError> {
        let id = match products::create(tx, self.now, new).await? {
            Ok(id) => id,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(product) = products::find(tx, id).await? else {
            return Ok(Err(Refusal::ProductNotFound));
        };
        if new.stock > 0 {
            self.note(id, MovementKind::Initial, new.stock, new.stock, MovedBy::Admin);
        }
        self.new_levels.push((id, Level { stock: product.stock, version: product.version }));
        self.forget.insert(Key::Catalogue);
        let fields = changes::Fields::default()
            .is("name", &product.name)
            .is("price", &product.price)
            .is("category", &product.category_name)
            .is("sku", &product.sku)
            .is("stock", &product.stock)
            .is("featured", &product.featured)
            .is("is_active", &product.is_active);
        self.remember(by, &product, Action::Created, fields);
        Ok(Ok(Done::Product(Box::new(product))))
    }

    async fn change<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        id: ProductId,
        change: &ProductChange,
        seen: Seen,
        by: Option<&Author>,
    ) -> Result<Outcome, StoreError> {
        if let Err(refusal) = self.unchanged(id, seen.version) {
            return Ok(Err(refusal));
        }
        if let Some(shelf) = self.shelves.get(&id)
            && seen.stock.is_some_and(|stock| stock != shelf.stock)
        {
            return Ok(Err(Refusal::StockIs(shelf.stock)));
        }
        if let Some(updated_at) = seen.updated_at
            && products::find(tx, id).await?.is_none_or(|product| product.updated_at != updated_at)
        {
            return Ok(Err(Refusal::ProductChanged));
        }
        let (before, mut product) = match products::change(tx, self.now, id, change).await? {
            Ok(changed) => changed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut fields = changes::Fields::of_products(&before, &product);
        let shelf = self.shelves.get_mut(&id).expect("unchanged() found it");
        shelf.touch();
        shelf.name.clone_from(&product.name);
        shelf.sku.clone_from(&product.sku);
        shelf.price = product.price;
        shelf.is_active = product.is_active;
        if let Some(level) = change.stock.filter(|level| *level != shelf.stock) {
            let difference = level - shelf.stock;
            let was = shelf.stock;
            if shelf.shift(difference).is_some() {
                fields = fields.differ("stock", &was, &level);
                self.note(id, MovementKind::Set, difference, level, MovedBy::Admin);
            }
        }
        self.forget.extend([Key::Product(id), Key::Catalogue]);
        self.lay_level_over(&mut product);
        self.remember(by, &product, Action::Changed, fields);
        Ok(Ok(Done::Product(Box::new(product))))
    }

    /// Does all of it or nothing. What can be refused is looked at first, since what is written stays written in this
    /// transaction. What is refused after that, because another node was quicker by a moment, ends the whole batch.
    async fn together<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        parts: &[Work],
        by: Option<&Author>,
    ) -> Result<Outcome, StoreError> {
        if let Err(refusal) = self.can_all_be_written(tx, parts).await? {
            return Ok(Err(refusal));
        }
        for part in parts {
            let outcome = match part {
                Work::Create(new) => self.create(tx, new, by).await?,
                // That it is as it was seen is known, and two rows may be about the same product.
                Work::Change(id, change, _) => self.change(tx, *id, change, Seen::default(), by).await?,
                _ => Err(Refusal::ProductNotFound),
            };
            if outcome.is_err() {
                let error =
                    sqlx::Error::Io(std::io::Error::other("a product was written elsewhere meanwhile"));
                return Err(StoreError::Unavailable(error));
            }
        }
        Ok(Ok(Done::Together))
    }

    async fn can_all_be_written<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        parts: &[Work],
    ) -> Result<Result<(), Refusal>, StoreError> {
        let mut categories = BTreeSet::new();
        let mut skus = BTreeSet::new();
        let ids = parts.iter().filter_map(|part| match part {
            Work::Change(id, ..) => Some(id.0),
            _ => None,
        });
        let found = tx.fetch_rows::<Product>(&products::FIND, &[Column::ints(ids)]).await?;
        let found: HashMap<ProductId, Product> =
            found.into_iter().map(|product| (product.id, product)).collect();
        for part in parts {
            match part {
                Work::Create(new) => {
                    categories.insert(new.category_id);
                    if let Some(sku) = &new.sku
                        && !skus.insert(sku.as_str())
                    {
                        return Ok(Err(Refusal::SkuTaken));
                    }
                }
                Work::Change(id, change, seen) => {
                    categories.extend(change.category_id);
                    let Some(product) = found.get(id) else { return Ok(Err(Refusal::ProductNotFound)) };
                    let is_as_seen = self.unchanged(*id, seen.version).is_ok()
                        && seen.updated_at.is_none_or(|time| time == product.updated_at);
                    // A file says by its SKU which product it means; to change that as well could collide.
                    if !is_as_seen || change.sku.is_some() {
                        return Ok(Err(Refusal::ProductChanged));
                    }
                    if let Some(shelf) = self.shelves.get(id)
                        && seen.stock.is_some_and(|stock| stock != shelf.stock)
                    {
                        return Ok(Err(Refusal::StockIs(shelf.stock)));
                    }
                }
                _ => return Ok(Err(Refusal::ProductNotFound)),
            }
        }
        for category in categories {
            if products::category_name(tx, category).await?.is_none() {
                return Ok(Err(Refusal::CategoryNotFound));
            }
        }
        let taken = tx.fetch_rows::<(String,)>(&products::TAKEN_SKUS, &[Column::texts(skus)]).await?;
        Ok(if taken.is_empty() { Ok(()) } else { Err(Refusal::SkuTaken) })
    }

    async fn delete<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        id: ProductId,
        version: Option<i64>,
        by: Option<&Author>,
    ) -> Result<Outcome, StoreError> {
        if let Err(refusal) = self.unchanged(id, version) {
            return Ok(Err(refusal));
        }
        if by.is_some()
            && let Some(product) = products::find(tx, id).await?
        {
            let fields = changes::Fields::default();
            self.remember(by, &product, Action::Deleted, fields);
        }
        products::delete(tx, id).await?;
        self.shelves.remove(&id);
        self.movements.retain(|movement| movement.product_id != id);
        self.forget.extend([Key::Product(id), Key::Catalogue]);
        Ok(Ok(Done::Deleted))
    }

    async fn move_stock<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        id: ProductId,
        stock_move: StockMove,
        by: Option<&Author>,
    ) -> Result<Outcome, StoreError> {
        let Some(shelf) = self.shelves.get_mut(&id) else {
            return Ok(Err(Refusal::ProductNotFound));
        };
        let was = shelf.stock;
        let (kind, change) = match stock_move {
            StockMove::Change(change) => (MovementKind::Change, change),
            StockMove::Set { stock, was } if was == shelf.stock => (MovementKind::Set, stock - was),
            StockMove::Set { .. } => return Ok(Err(Refusal::StockIs(shelf.stock))),
        };
        if change != 0 {
            let Some(level) = shelf.shift(change) else {
                return Ok(Err(Refusal::StockIs(shelf.stock)));
            };
            self.note(id, kind, change, level, MovedBy::Admin);
        }
        let Some(mut product) = products::find(tx, id).await? else {
            return Ok(Err(Refusal::ProductNotFound));
        };
        self.lay_level_over(&mut product);
        let fields = changes::Fields::default().differ("stock", &was, &(was + change));
        self.remember(by, &product, Action::Changed, fields);
        Ok(Ok(Done::Product(Box::new(product))))
    }

    fn remember(&mut self, by: Option<&Author>, product: &Product, action: Action, fields: changes::Fields) {
        let label = product.name.clone();
        let draft = Draft { kind: changes::Kind::Product, object_id: product.id.0, label, action, fields };
        self.noted.extend(changes::drafted(by, draft));
    }

    fn unchanged(&self, id: ProductId, version: Option<i64>) -> Result<(), Refusal> {
        let shelf = self.shelves.get(&id).ok_or(Refusal::ProductNotFound)?;
        match version {
            Some(version) if version != shelf.version => Err(Refusal::ProductChanged),
            _ => Ok(()),
        }
    }

    fn lay_level_over(&self, product: &mut Product) {
        if let Some(shelf) = self.shelves.get(&product.id) {
            product.stock = shelf.stock;
            product.version = shelf.version;
        }
    }

    fn note(&mut self, product_id: ProductId, kind: MovementKind, change: i64, level: i64, by: MovedBy) {
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
