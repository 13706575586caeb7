//! Carts as rows. The user's cart actor alone calls this; across nodes the row's version decides who was first.
//!
//! Edits are stored by the ledger, in its batches: thousands of shoppers fill carts with one commit. An edit or an
//! order is stored only if the cart still has the version that the actor knows.

use crate::db::{Db, StoreError, read, statements, transaction};
use crate::model::{Cart, CartId, CartItemId, CartLine, ProductId, Timestamp, UserId};

/// A change of one cart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CartEdit {
    /// This many of this product, whether it has a line or not.
    Put(ProductId, i64),
    /// No line with this id any more.
    Remove(CartItemId),
    /// No lines.
    Clear,
}

statements! {
    FIND: "select id, version, updated_at from carts where user_id = $1";
    CREATE: "insert into carts (user_id, updated_at) values ($1, $2) on conflict (user_id) do nothing";
    LINES: "select id, product_id, quantity from cart_items where cart_id = $1 order by id";
}

/// The user's cart, made if there was none.
///
/// # Errors
/// Any [`StoreError`].
pub async fn load(db: &Db, user: UserId) -> Result<Cart, StoreError> {
    loop {
        let found: Option<(CartId, i64, Timestamp)> =
            read!(db, pool => sqlx::query_as(FIND.on(db)).bind(user).fetch_optional(pool).await)?;
        if let Some((id, version, updated_at)) = found {
            let lines: Vec<CartLine> =
                read!(db, pool => sqlx::query_as(LINES.on(db)).bind(id).fetch_all(pool).await)?;
            return Ok(Cart { id, version, updated_at, lines });
        }
        transaction!(db, tx => {
            sqlx::query(CREATE.on(db)).bind(user).bind(Timestamp::now()).execute(tx).await?;
            Ok(())
        })?;
    }
}

impl Cart {
    /// The cart after an edit that was stored `at` that time; `line` is the id of the line that was put.
    #[must_use]
    pub fn edited(mut self, edit: CartEdit, line: Option<CartItemId>, at: Timestamp) -> Self {
        self.version += 1;
        self.updated_at = at;
        match (edit, line) {
            (CartEdit::Put(product_id, quantity), Some(id)) => {
                match self.lines.iter_mut().find(|line| line.product_id == product_id) {
                    Some(line) => *line = CartLine { id, product_id, quantity },
                    None => self.lines.push(CartLine { id, product_id, quantity }),
                }
            }
            (CartEdit::Remove(item), _) => self.lines.retain(|line| line.id != item),
            (CartEdit::Clear, _) => self.lines.clear(),
            (CartEdit::Put(..), None) => {}
        }
        self
    }
}
