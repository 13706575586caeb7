//! tmp
use crate::model::{ProductId, UserId};
/// tmp
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "tmp")]
pub enum Key {
    Catalogue,
    Product(ProductId),
    Categories,
    User(UserId),
}
