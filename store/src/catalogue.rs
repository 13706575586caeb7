//! tmp
use crate::model::fold;
/// tmp
pub fn search_text(name: &str, description: &str, category: &str) -> String {
    format!("{}\n{}\n{}", fold(name), fold(description), fold(category))
}
