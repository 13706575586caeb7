//! The catalogue: categories, and products as the shop's visitors find them.

use crate::model::fold;

/// What a product is found by: its folded name, description and, on the last line, category name.
#[must_use]
pub fn search_text(name: &str, description: &str, category: &str) -> String {
    format!("{}\n{}\n{}", fold(name), fold(description), fold(category))
}
