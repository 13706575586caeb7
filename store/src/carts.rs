//! Carts as rows. The user's cart actor alone calls this; across nodes the row's version decides who was first.
//!
//! A change is stored only if the cart still has the version that the caller knows; otherwise it is
//! [`NotEdited::Moved`] and the caller loads it again. The ledger empties the cart of an order that it places.

use crate::db::{Db, StoreError, read, statements, transaction};
use crate::model::{Cart, CartId, CartItemId, CartLine, ProductId, Timestamp, UserId};

/// Why a change was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEdited {
    /// The cart has another version than the caller knows.
    Moved,
    /// There is no such product any more.
    ProductGone,
}

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
    BUMP: "update carts set version = version + 1, updated_at = $3 where id = $1 and version = $2";
    PUT: "insert into cart_items (cart_id, product_id, quantity) \
          select $1, id, $3 from products where id = $2 \
          on conflict (cart_id, product_id) do update set quantity = excluded.quantity returning id";
    REMOVE: "delete from cart_items where cart_id = $1 and id = $2";
    CLEAR: "delete from cart_items where cart_id = $1";
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

/// Stores one change and gives the cart as it is then.
///
/// # Errors
/// Any [`StoreError`]; [`NotEdited`] inside `Ok`.
pub async fn edit(db: &Db, cart: &Cart, edit: CartEdit) -> Result<Result<Cart, NotEdited>, StoreError> {
    let now = Timestamp::now();
    let line = transaction!(db, tx => {
        let bumped = sqlx::query(BUMP.on(db)).bind(cart.id).bind(cart.version).bind(now).execute(&mut *tx).await?;
        if bumped.rows_affected() == 0 {
            return Ok(Err(NotEdited::Moved));
        }
        match edit {
            CartEdit::Put(product, quantity) => {
                let id: Option<(CartItemId,)> = sqlx::query_as(PUT.on(db))
                    .bind(cart.id)
                    .bind(product)
                    .bind(quantity)
                    .fetch_optional(&mut *tx)
                    .await?;
                // The version has risen all the same: the caller's cart held the product's line, which is gone.
                Ok(id.map_or(Err(NotEdited::ProductGone), |id| Ok(Some(id.0))))
            }
            CartEdit::Remove(item) => {
                sqlx::query(REMOVE.on(db)).bind(cart.id).bind(item).execute(&mut *tx).await?;
                Ok(Ok(None))
            }
            CartEdit::Clear => {
                sqlx::query(CLEAR.on(db)).bind(cart.id).execute(&mut *tx).await?;
                Ok(Ok(None))
            }
        }
    })?;
    Ok(line.map(|line| {
        let mut cart = cart.clone();
        cart.version += 1;
        cart.updated_at = now;
        match (edit, line) {
            (CartEdit::Put(product_id, quantity), Some(id)) => {
                match cart.lines.iter_mut().find(|line| line.product_id == product_id) {
                    Some(line) => *line = CartLine { id, product_id, quantity },
                    None => cart.lines.push(CartLine { id, product_id, quantity }),
                }
            }
            (CartEdit::Remove(item), _) => cart.lines.retain(|line| line.id != item),
            (CartEdit::Clear, _) => cart.lines.clear(),
            (CartEdit::Put(..), None) => {}
        }
        cart
    }))
}
