//! Lists of products on Postgres, whose planner knows how often words occur and chooses among the indexes by itself.

use super::{ProductFilter, ProductQuery, Word};
use crate::catalogue::product_columns;
use crate::sql::Sql;

pub(super) fn count(filter: &ProductFilter, words: &[Word<'_>]) -> Sql {
    let mut sql = Sql::default();
    sql.select("select count(*) as matching, (select count(*) from products) as \"all\" from products p");
    filters(&mut sql, filter, words);
    sql
}

pub(super) fn page(query: &ProductQuery, words: &[Word<'_>]) -> Sql {
    let mut sql = Sql::default();
    sql.select(concat!(
        "select ",
        product_columns!(),
        " from products p join categories c on c.id = p.category_id"
    ));
    filters(&mut sql, &query.filter, words);
    sql.order_by(&query.ordering).part(query.limit, query.offset);
    sql
}

fn filters(sql: &mut Sql, filter: &ProductFilter, words: &[Word<'_>]) {
    sql.plain_filters(filter);
    match filter.in_stock {
        Some(true) => drop(sql.condition("p.stock > 0")),
        Some(false) => drop(sql.condition("p.stock = 0")),
        None => {}
    }
    for word in words {
        sql.condition("(p.search_text like ").bind(pattern(word.text)).add(" escape '\\'");
        if let Some(list) = word.category_list() {
            sql.add(" or p.category_id = any (string_to_array(trim(both ',' from ").bind(list);
            sql.add("), ',')::bigint[])");
        }
        sql.add(")");
    }
}

fn pattern(word: &str) -> String {
    let mut pattern = String::with_capacity(word.len() + 2);
    pattern.push('%');
    for character in word.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
