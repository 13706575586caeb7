//! An order as it is read, and the life that it leads: which status may follow which.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::{Money, OrderId, OrderItemId, ProductId, Timestamp, UserId};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum OrderStatus {
    /// Placed and paid for by the shop's own terms; stock is taken.
    Pending,
    /// On its way.
    Shipped,
    /// Arrived; the end.
    Delivered,
    /// Called off before shipping; stock is back; the end.
    Cancelled,
}

/// What a request to change an order's status amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has that status already: nothing happens.
    Stay,
    /// It moves; `restock` tells whether its units go back.
    Move {
        /// Whether the order's units return to stock.
        restock: bool,
    },
}

/// The status cannot follow the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Cannot change status from {from} to {to}.")]
pub struct WrongStep {
    /// The present status.
    pub from: OrderStatus,
    /// The status asked for.
    pub to: OrderStatus,
}

impl OrderStatus {
    /// All of them, in the order of an order's life.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Shipped, Self::Delivered, Self::Cancelled];

    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether an order may go from this status to `to`: pending → shipped → delivered, and pending → cancelled.
    ///
    /// # Errors
    /// [`WrongStep`] for every other pair.
    pub fn step(self, to: Self) -> Result<Step, WrongStep> {
        match (self, to) {
            (from, to) if from == to => Ok(Step::Stay),
            (Self::Pending, Self::Shipped) | (Self::Shipped, Self::Delivered) => {
                Ok(Step::Move { restock: false })
            }
            (Self::Pending, Self::Cancelled) => Ok(Step::Move { restock: true }),
            (from, to) => Err(WrongStep { from, to }),
        }
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OrderStatus {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// A line item of an order, with its own copy of what was bought.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields are those of the contract's order item")]
pub struct OrderItem {
    pub id: OrderItemId,
    pub order_id: OrderId,
    /// None once the product has been deleted.
    pub product_id: Option<ProductId>,
    pub product_name: String,
    pub sku: String,
    pub price: Money,
    pub quantity: i64,
}

/// A status that an order reached, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct StatusChange {
    /// The status reached.
    pub status: OrderStatus,
    /// When it was committed.
    pub at: Timestamp,
}

/// An order with its line items and its history, oldest first, beginning with `pending`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the contract's order")]
pub struct Order {
    pub id: OrderId,
    pub user_id: UserId,
    pub status: OrderStatus,
    pub total: Money,
    pub shipping_address: String,
    pub phone: String,
    pub notes: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub items: Vec<OrderItem>,
    pub history: Vec<StatusChange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_moves_only_along_its_life() {
        use OrderStatus::{Cancelled, Delivered, Pending, Shipped};
        for from in OrderStatus::ALL {
            for to in OrderStatus::ALL {
                let expected = match (from, to) {
                    (Pending, Shipped) | (Shipped, Delivered) => Ok(Step::Move { restock: false }),
                    (Pending, Cancelled) => Ok(Step::Move { restock: true }),
                    (from, to) if from == to => Ok(Step::Stay),
                    (from, to) => Err(WrongStep { from, to }),
                };
                assert_eq!(from.step(to), expected);
            }
        }
    }
}
