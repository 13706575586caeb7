//! How often callers were refused, by the reason; counted as it happens, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use souk_store::ledger::Refusal;

use crate::Refused;

#[derive(Default)]
pub(crate) struct Refusals([AtomicU64; REASONS.len()]);

impl Refusals {
    pub(crate) fn count(&self, refused: &Refused) {
        self.0[reason(refused)].fetch_add(1, Ordering::Relaxed);
    }

    /// Every reason, also those that never were one.
    pub(crate) fn read(&self) -> Vec<(&'static str, u64)> {
        REASONS.iter().zip(&self.0).map(|(name, count)| (*name, count.load(Ordering::Relaxed))).collect()
    }
}

/// In the order of [`reason`].
const REASONS: [&str; 20] = [
    "busy",
    "unavailable",
    "uncertain",
    "fault",
    "cart_empty",
    "cart_moved",
    "out_of_stock",
    "key_reused",
    "order_not_found",
    "wrong_step",
    "product_not_found",
    "product_changed",
    "sku_taken",
    "category_not_found",
    "stock_is_another",
    "too_few",
    "too_many",
    "cart_full",
    "no_such_item",
    "product_gone",
];

fn reason(refused: &Refused) -> usize {
    match refused {
        Refused::Busy => 0,
        Refused::Unavailable => 1,
        Refused::Uncertain => 2,
        Refused::Fault => 3,
        Refused::Books(refusal) => match refusal {
            Refusal::CartEmpty => 4,
            Refusal::CartMoved => 5,
            Refusal::OutOfStock(_) => 6,
            Refusal::KeyReused => 7,
            Refusal::OrderNotFound => 8,
            Refusal::WrongStep(_) => 9,
            Refusal::ProductNotFound => 10,
            Refusal::ProductChanged => 11,
            Refusal::SkuTaken => 12,
            Refusal::CategoryNotFound => 13,
            Refusal::StockIs(_) => 14,
        },
        Refused::TooFew { .. } => 15,
        Refused::TooMany => 16,
        Refused::CartFull => 17,
        Refused::NoSuchItem => 18,
        Refused::ProductGone => 19,
    }
}
