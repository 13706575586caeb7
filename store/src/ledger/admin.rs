//! What admins do to products in a batch, before its orders. What can be is done in sets: all that a batch must know of
//! products and categories is asked once, and changes that have nothing to do with each other are one statement, so that
//! the thousand rows of a file cost no more ways to the database than one.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::bulk::{BulkConnection, Column};
use crate::cache::Key;
use crate::changes::{self, Action, Author, Draft};
use crate::db::StoreError;
use crate::model::{CategoryId, Level, MovementKind, Product, ProductId, Timestamp};

use super::batch::{Books, MovedBy};
use super::{Done, NewProduct, Outcome, ProductChange, Refusal, Seen, StockMove, Work, author, products};

/// Products that were written, or why none of them was.
type Written = Result<Vec<Product>, Refusal>;

/// What a batch knows of products and categories that admins' works name.
#[derive(Default)]
pub(super) struct Known {
    products: HashMap<ProductId, Product>,
    /// Held: they are not deleted before the batch has ended.
    categories: HashMap<CategoryId, String>,
}

impl Known {
    /// The category of a product after a change; none if there is no such product.
    fn category_after(&self, id: ProductId, change: &ProductChange) -> Option<CategoryId> {
        self.products.get(&id).map(|product| change.category_id.unwrap_or(product.category_id))
    }

    /// A product after a change, but for its level; none if it, or the category that it would be of, is not there.
    fn product_after(&self, id: ProductId, change: &ProductChange, now: Timestamp) -> Option<Product> {
        let mut product = products::changed(self.products.get(&id)?, change, now);
        product.category_name.clone_from(self.categories.get(&product.category_id)?);
        Some(product)
    }
}

/// A change that an admin asks for.
struct Asked<'w> {
    id: ProductId,
    change: &'w ProductChange,
    by: Option<&'w Author>,
}

impl Books {
    /// Does every work that admins alone ask for.
    pub(super) async fn do_for_admins<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        works: &[Work],
        authors: &[Option<Author>],
    ) -> Result<(), StoreError> {
        self.get_to_know(tx, works).await?;
        self.change_in_a_set(tx, works, authors).await?;
        for (index, work) in works.iter().enumerate() {
            if self.outcomes[index].is_some() {
                continue;
            }
            let by = author(authors, index);
            let outcome = match work {
                Work::Create(new) => the_one(self.create(tx, &[&**new], by).await?),
                Work::Change(id, change, seen) => match self.can_be_changed(*id, change, *seen) {
                    Ok(()) => the_one(self.change(tx, &[Asked { id: *id, change, by }]).await?),
                    Err(refusal) => Err(refusal),
                },
                Work::Delete(id, version) => self.delete(tx, *id, *version, by).await?,
                Work::Move(id, stock_move) => self.move_stock(*id, *stock_move, by),
                Work::Together(parts) => self.together(tx, parts, by).await?,
                Work::Place(_) | Work::Step(_) | Work::EditCart(_) => continue,
            };
            self.outcomes[index] = Some(outcome);
        }
        Ok(())
    }

    async fn get_to_know<C: BulkConnection>(&mut self, tx: &mut C, works: &[Work]) -> Result<(), StoreError> {
        let parts = || works.iter().flat_map(Work::parts);
        let ids = parts().filter_map(Work::product);
        self.known.products = products::find(tx, ids).await?;
        let categories: BTreeSet<CategoryId> = parts()
            .filter_map(|work| match work {
                Work::Create(new) => Some(new.category_id),
                Work::Change(id, change, _) => self.known.category_after(*id, change),
                _ => None,
            })
            .collect();
        self.known.categories = products::hold_categories(tx, categories).await?;
        Ok(())
    }

    /// Does the changes that nothing else in the batch has to do with, and that cannot fail once they were looked at: all
    /// but those of SKUs, which another node may take meanwhile.
    async fn change_in_a_set<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        works: &[Work],
        authors: &[Option<Author>],
    ) -> Result<(), StoreError> {
        let mut named: HashMap<ProductId, usize> = HashMap::new();
        for id in works.iter().flat_map(Work::parts).filter_map(Work::product) {
            *named.entry(id).or_default() += 1;
        }
        let mut asked = Vec::new();
        let mut indices = Vec::new();
        for (index, work) in works.iter().enumerate() {
            let Work::Change(id, change, seen) = work else { continue };
            if change.sku.is_some() || named.get(id) != Some(&1) {
                continue;
            }
            match self.can_be_changed(*id, change, *seen) {
                Ok(()) => {
                    asked.push(Asked { id: *id, change, by: author(authors, index) });
                    indices.push(index);
                }
                Err(refusal) => self.outcomes[index] = Some(Err(refusal)),
            }
        }
        let written = self.change(tx, &asked).await?.map_err(|_| interfered())?;
        for (index, product) in indices.into_iter().zip(written) {
            self.outcomes[index] = Some(Ok(Done::Product(Box::new(product))));
        }
        Ok(())
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
        let new: Vec<&NewProduct> = parts
            .iter()
            .filter_map(|part| match part {
                Work::Create(new) => Some(&**new),
                _ => None,
            })
            .collect();
        self.create(tx, &new, by).await?.map_err(|_| interfered())?;
        let mut changes: Vec<Asked<'_>> = parts
            .iter()
            .filter_map(|part| match part {
                Work::Change(id, change, _) => Some(Asked { id: *id, change, by }),
                _ => None,
            })
            .collect();
        // Two changes of one product follow each other.
        while !changes.is_empty() {
            let mut seen = HashSet::new();
            let (now, later): (Vec<_>, Vec<_>) = changes.into_iter().partition(|asked| seen.insert(asked.id));
            self.change(tx, &now).await?.map_err(|_| interfered())?;
            changes = later;
        }
        Ok(Ok(Done::Together))
    }

    async fn can_all_be_written<C: BulkConnection>(
        &self,
        tx: &mut C,
        parts: &[Work],
    ) -> Result<Result<(), Refusal>, StoreError> {
        let mut skus = BTreeSet::new();
        for part in parts {
            let outcome = match part {
                Work::Create(new) if !self.known.categories.contains_key(&new.category_id) => {
                    Err(Refusal::CategoryNotFound)
                }
                Work::Create(new) => match &new.sku {
                    Some(sku) if !skus.insert(sku.as_str()) => Err(Refusal::SkuTaken),
                    _ => Ok(()),
                },
                // A file says by its SKU which product it means; to change that as well could collide.
                Work::Change(_, change, _) if change.sku.is_some() => Err(Refusal::ProductChanged),
                Work::Change(id, change, seen) => self.can_be_changed(*id, change, *seen),
                _ => Err(Refusal::ProductNotFound),
            };
            if outcome.is_err() {
                return Ok(outcome);
            }
        }
        let taken = tx.fetch_rows::<(String,)>(&products::TAKEN_SKUS, &[Column::texts(skus)]).await?;
        Ok(if taken.is_empty() { Ok(()) } else { Err(Refusal::SkuTaken) })
    }

    async fn create<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        new: &[&NewProduct],
        by: Option<&Author>,
    ) -> Result<Written, StoreError> {
        if new.iter().any(|new| !self.known.categories.contains_key(&new.category_id)) {
            return Ok(Err(Refusal::CategoryNotFound));
        }
        let created = match products::create(tx, self.now, new).await? {
            Ok(created) => created,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for product in &created {
            if product.stock > 0 {
                self.note(product.id, MovementKind::Initial, product.stock, product.stock, MovedBy::Admin);
            }
            self.new_levels.push((product.id, Level { stock: product.stock, version: product.version }));
            self.forget.insert(Key::Catalogue);
            let fields = changes::Fields::default()
                .is("name", &product.name)
                .is("price", &product.price)
                .is("category", &product.category_name)
                .is("sku", &product.sku)
                .is("stock", &product.stock)
                .is("featured", &product.featured)
                .is("is_active", &product.is_active);
            self.remember(by, product, Action::Created, fields);
        }
        Ok(Ok(created))
    }

    /// Changes products, each once, that can be changed so.
    async fn change<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        asked: &[Asked<'_>],
    ) -> Result<Written, StoreError> {
        let after = |asked: &Asked<'_>| self.known.product_after(asked.id, asked.change, self.now);
        let changed: Option<Vec<Product>> = asked.iter().map(after).collect();
        let mut changed = changed.ok_or_else(interfered)?;
        if !products::update(tx, &changed).await? {
            return Ok(Err(Refusal::SkuTaken));
        }
        for (Asked { id, change, by }, product) in asked.iter().zip(&mut changed) {
            let shelf = self.shelves.get_mut(id).ok_or_else(interfered)?;
            shelf.touch();
            shelf.name.clone_from(&product.name);
            shelf.sku.clone_from(&product.sku);
            shelf.price = product.price;
            shelf.is_active = product.is_active;
            let was = shelf.stock;
            let level = change.stock.filter(|level| *level != was && shelf.shift(level - was).is_some());
            let before = self.known.products.insert(*id, product.clone());
            let mut fields =
                before.map(|before| changes::Fields::of_products(&before, product)).unwrap_or_default();
            if let Some(level) = level {
                fields = fields.differ("stock", &was, &level);
                self.note(*id, MovementKind::Set, level - was, level, MovedBy::Admin);
            }
            self.forget.extend([Key::Product(*id), Key::Catalogue]);
            self.lay_level_over(product);
            self.remember(*by, product, Action::Changed, fields);
        }
        Ok(Ok(changed))
    }

    async fn delete<C: BulkConnection>(
        &mut self,
        tx: &mut C,
        id: ProductId,
        version: Option<i64>,
        by: Option<&Author>,
    ) -> Result<Outcome, StoreError> {
        if let Err(refusal) = self.is_as_seen(id, Seen::version(version)) {
            return Ok(Err(refusal));
        }
        if let Some(product) = self.known.products.remove(&id) {
            self.remember(by, &product, Action::Deleted, changes::Fields::default());
        }
        products::delete(tx, id).await?;
        self.shelves.remove(&id);
        self.movements.retain(|movement| movement.product_id != id);
        self.forget.extend([Key::Product(id), Key::Catalogue]);
        Ok(Ok(Done::Deleted))
    }

    fn move_stock(&mut self, id: ProductId, stock_move: StockMove, by: Option<&Author>) -> Outcome {
        let (Some(shelf), Some(product)) = (self.shelves.get_mut(&id), self.known.products.get(&id)) else {
            return Err(Refusal::ProductNotFound);
        };
        let mut product = product.clone();
        let was = shelf.stock;
        let (kind, change) = match stock_move {
            StockMove::Change(change) => (MovementKind::Change, change),
            StockMove::Set { stock, was } if was == shelf.stock => (MovementKind::Set, stock - was),
            StockMove::Set { .. } => return Err(Refusal::StockIs(shelf.stock)),
        };
        if change != 0 {
            let level = shelf.shift(change).ok_or(Refusal::StockIs(was))?;
            self.note(id, kind, change, level, MovedBy::Admin);
        }
        self.lay_level_over(&mut product);
        let fields = changes::Fields::default().differ("stock", &was, &(was + change));
        self.remember(by, &product, Action::Changed, fields);
        Ok(Done::Product(Box::new(product)))
    }

    fn is_as_seen(&self, id: ProductId, seen: Seen) -> Result<(), Refusal> {
        let shelf = self.shelves.get(&id).ok_or(Refusal::ProductNotFound)?;
        if seen.version.is_some_and(|version| version != shelf.version) {
            return Err(Refusal::ProductChanged);
        }
        if seen.stock.is_some_and(|stock| stock != shelf.stock) {
            return Err(Refusal::StockIs(shelf.stock));
        }
        let updated_at = self.known.products.get(&id).map(|product| product.updated_at);
        if seen.updated_at.is_some_and(|time| Some(time) != updated_at) {
            return Err(Refusal::ProductChanged);
        }
        Ok(())
    }

    fn can_be_changed(&self, id: ProductId, change: &ProductChange, seen: Seen) -> Result<(), Refusal> {
        self.is_as_seen(id, seen)?;
        let category = self.known.category_after(id, change).ok_or(Refusal::ProductNotFound)?;
        if self.known.categories.contains_key(&category) { Ok(()) } else { Err(Refusal::CategoryNotFound) }
    }

    fn remember(&mut self, by: Option<&Author>, product: &Product, action: Action, fields: changes::Fields) {
        let label = product.name.clone();
        let draft = Draft { kind: changes::Kind::Product, object_id: product.id.0, label, action, fields };
        self.noted.extend(changes::drafted(by, draft));
    }

    fn lay_level_over(&self, product: &mut Product) {
        if let Some(shelf) = self.shelves.get(&product.id) {
            product.stock = shelf.stock;
            product.version = shelf.version;
        }
    }
}

fn the_one(written: Written) -> Outcome {
    written?.pop().map(|product| Done::Product(Box::new(product))).ok_or(Refusal::ProductNotFound)
}

/// What was looked at is no longer so: another node was quicker. The batch is rolled back and may come again.
fn interfered() -> StoreError {
    let error = std::io::Error::other("a product was written elsewhere meanwhile");
    StoreError::Unavailable(sqlx::Error::Io(error))
}

#[cfg(test)]
mod tests;
