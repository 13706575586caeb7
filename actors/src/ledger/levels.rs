//! The live levels of this node, in memory: what the ledgers of all nodes made of stock since this one started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use souk_store::cache::Key;
use souk_store::model::{Level, Product, ProductId};

/// How many there are of each product that was moved since the start; of the others the database's row is true.
///
/// Of a row and a level, the one with the higher version is the newer. Cheap to clone.
#[derive(Clone, Default)]
pub struct Levels(Arc<LevelTable>);

#[derive(Default)]
struct LevelTable {
    levels: DashMap<ProductId, Entry>,
    epoch: AtomicU64,
}

#[derive(Clone, Copy)]
struct Entry {
    level: Level,
    /// The version at which the product itself, not its stock, last changed; 0 if it did not since the start.
    changed_at: i64,
}

impl Levels {
    /// The level of a product, if it was moved since the start.
    #[must_use]
    pub fn get(&self, product: ProductId) -> Option<Level> {
        self.0.levels.get(&product).map(|entry| entry.level)
    }

    /// The level to show with a row that may have grown old.
    ///
    /// A row that was read before the product itself was changed keeps its own: under the newer version it would pass
    /// for the changed product, and an `If-Match` made from it would undo a change that its client never saw.
    #[must_use]
    pub fn over(&self, row: &Product) -> Level {
        let own = Level { stock: row.stock, version: row.version };
        let newer = |entry: &Entry| entry.level.version > own.version && own.version >= entry.changed_at;
        self.0.levels.get(&row.id).map(|entry| *entry).filter(newer).map_or(own, |entry| entry.level)
    }

    /// Rises whenever any level changes: while it stays, so do all levels.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Lays the live level over a row that may have grown old.
    pub fn lay_over(&self, product: &mut Product) {
        Level { stock: product.stock, version: product.version } = self.over(product);
    }

    /// Levels as of a commit, here or on another node, and what that changed besides.
    pub(crate) fn set(&self, levels: &[(ProductId, Level)], changed: &[Key]) {
        for (product, level) in levels {
            let changed_at = if changed.contains(&Key::Product(*product)) { level.version } else { 0 };
            let mut entry = self.0.levels.entry(*product).or_insert(Entry { level: *level, changed_at });
            if entry.level.version < level.version {
                entry.level = *level;
            }
            entry.changed_at = entry.changed_at.max(changed_at);
        }
        if !levels.is_empty() {
            self.0.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Rows tell all there is to know of levels; for when those known here may be none of this database's any more.
    pub(crate) fn clear(&self) {
        self.0.levels.clear();
        self.0.epoch.fetch_add(1, Ordering::AcqRel);
    }
}
