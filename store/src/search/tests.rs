use super::*;
use crate::catalogue;
use crate::model::{Timestamp, fold};
use crate::sample::{SampleCategory, SampleProduct, add_categories, add_products};
use crate::testing::TestDb;

struct Shop {
    test: TestDb,
    categories: Vec<Category>,
    products: Vec<Product>,
}

const CATEGORIES: [&str; 4] = ["Kitchen & Co", "Steelware", "Ünï 100%", "Empty_ones"];
const NAMES: [&str; 8] = [
    "Steel kettle",
    "Kettle",
    "ÉCLAIR tin",
    "TV \"stand\"",
    "茶壺",
    "Lamp",
    "lamp of steel",
    "O'Lantern (oak)",
];
const TEXTS: [&str; 5] =
    ["", "Boils in two minutes", "100% oak_wood; no TV", "a\\b * near steel", "茶 for two"];

impl Shop {
    /// Every combination of name, text, price, flags and category that a search could stumble over, a few hundred.
    async fn open() -> Self {
        let test = TestDb::create().await;
        let now = Timestamp::now();
        let new = CATEGORIES.map(|name| SampleCategory {
            name: name.to_owned(),
            description: String::new(),
            created_at: now,
        });
        add_categories(&test.db, &new).await.unwrap();
        let mut new = Vec::new();
        for number in 0..360_usize {
            new.push(SampleProduct {
                name: NAMES[number * 7 % 8].to_owned(),
                description: TEXTS[number * 3 % 5].to_owned(),
                price: Money([0, 999, 1999, 2000, 150_000][number % 5]),
                stock: if number % 4 == 0 { 0 } else { 3 },
                category: CATEGORIES[number / 2 % 3].to_owned(),
                sku: format!("S{number}"),
                featured: number % 6 == 0,
                is_active: number % 9 != 0,
                created_at: now.plus_seconds(i64::try_from(number / 3).unwrap()),
            });
        }
        add_products(&test.db, &new).await.unwrap();
        let categories = catalogue::categories(&test.db, true).await.unwrap();
        let mut products = Vec::new();
        for id in 1..=360 {
            products.push(catalogue::product(&test.db, crate::model::ProductId(id)).await.unwrap().unwrap());
        }
        Self { test, categories, products }
    }

    /// What the contract says, without an index.
    fn expected(&self, query: &ProductQuery) -> Vec<i64> {
        let filter = &query.filter;
        let mut found: Vec<_> = self
            .products
            .iter()
            .filter(|product| {
                let text =
                    [&product.name, &product.description, &product.category_name].map(|text| fold(text));
                (filter.include_inactive || product.is_active)
                    && filter.category.is_none_or(|category| product.category_id == category)
                    && filter.price_min.is_none_or(|price| product.price >= price)
                    && filter.price_max.is_none_or(|price| product.price <= price)
                    && filter.in_stock.is_none_or(|in_stock| (product.stock > 0) == in_stock)
                    && filter.featured.is_none_or(|featured| product.featured == featured)
                    && filter.words.0.iter().all(|word| text.iter().any(|text| text.contains(word)))
            })
            .collect();
        found.sort_by(|a, b| {
            let mut order = std::cmp::Ordering::Equal;
            let mut descending = false;
            for term in &query.ordering.0 {
                descending = term.descending;
                let by_term = match term.by {
                    SortBy::CreatedAt => a.created_at.cmp(&b.created_at),
                    SortBy::Price => a.price.cmp(&b.price),
                    SortBy::Name => fold(&a.name).cmp(&fold(&b.name)),
                };
                order = order.then(if descending { by_term.reverse() } else { by_term });
            }
            order.then(if descending { b.id.cmp(&a.id) } else { a.id.cmp(&b.id) })
        });
        found.iter().map(|product| product.id.0).collect()
    }

    async fn check(&self, query: &ProductQuery) {
        let expected = self.expected(query);
        let matching = i64::try_from(expected.len()).unwrap();
        let count = count(&self.test.db, &query.filter, &self.categories).await.unwrap();
        assert_eq!(count, Count { matching, all: 360 }, "{query:?}");
        let (from, to) = (usize::try_from(query.offset).unwrap(), usize::try_from(query.limit).unwrap());
        let expected: Vec<_> = expected.into_iter().skip(from).take(to).collect();
        let ids = |products: Vec<Product>| products.iter().map(|product| product.id.0).collect::<Vec<_>>();
        let found = page(&self.test.db, query, &self.categories, count).await.unwrap();
        assert_eq!(ids(found), expected, "{query:?}");
        if query.offset < matching && matches!(self.test.db, Db::Sqlite(_)) {
            let words = words(&self.test.db, &query.filter, &self.categories).await.unwrap();
            for plan in [sqlite::Plan::Glance(1_000), sqlite::Plan::Walk, sqlite::Plan::Gather] {
                let found = fetch(&self.test.db, sqlite::page(query, &words, plan)).await.unwrap();
                assert_eq!(ids(found), expected, "{plan:?} {query:?}");
            }
        }
    }
}

fn term(by: SortBy, descending: bool) -> SortTerm {
    SortTerm { by, descending }
}

fn search(text: &str) -> ProductFilter {
    ProductFilter { words: SearchWords::new(text), include_inactive: true, ..ProductFilter::default() }
}

#[tokio::test]
async fn every_combination_of_filters_and_orders_finds_what_it_says() {
    let shop = Shop::open().await;
    let orders = [
        Ordering::default(),
        Ordering::new([term(SortBy::CreatedAt, false)]),
        Ordering::new([term(SortBy::Price, true)]),
        Ordering::new([term(SortBy::Price, false), term(SortBy::Name, true)]),
        Ordering::new([term(SortBy::Name, false), term(SortBy::Price, true), term(SortBy::CreatedAt, false)]),
    ];
    let mut number = 0;
    for words in ["", "steel", "tv", "tv 100% oak", "kitchen"] {
        for prices in [(None, None), (Some(Money(999)), None), (None, Some(Money(1999)))] {
            for category in [None, Some(CategoryId(2)), Some(CategoryId(4))] {
                for in_stock in [None, Some(true), Some(false)] {
                    for featured in [None, Some(true), Some(false)] {
                        for include_inactive in [false, true] {
                            let filter = ProductFilter {
                                category,
                                price_min: prices.0,
                                price_max: prices.1,
                                in_stock,
                                featured,
                                words: SearchWords::new(words),
                                include_inactive,
                                nothing: false,
                            };
                            number += 1;
                            let ordering = orders[number % orders.len()].clone();
                            let offset = [0, 4, 30][number % 3];
                            shop.check(&ProductQuery { filter, ordering, limit: 7, offset }).await;
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_word_is_found_in_any_case_and_place_and_means_itself() {
    let shop = Shop::open().await;
    for text in [
        "STEEL",
        "éclair",
        "ÉCLAIR",
        "lair ti",
        "茶",
        "茶壺",
        "tv",
        "TV",
        "v",
        "100%",
        "10%",
        "%",
        "_",
        "k_wood",
        "\"",
        "\"stand\"",
        "o'l",
        "'",
        "(oak)",
        "near*",
        "nea*",
        "\\",
        "a\\b",
        "steel OR lamp",
        "NOT lamp",
        "NEAR(steel)",
        "search_text:steel",
        "-- ;",
        "steelware",
        "ware kettle",
        "ünï",
        "ÜNÏ 100%",
        "kitchen &",
        "ones",
        "m",
        "two minutes",
        "two  minutes",
        "\u{1f4a1}",
        "\u{fdd0}\u{fdd1}\u{fdd2}",
        "e\u{301}clair",
        "steel steel STEEL",
        "lamp of steel lamp of",
        "^lamp",
        "+ lamp",
    ] {
        shop.check(&ProductQuery { filter: search(text), limit: 100, ..ProductQuery::default() }).await;
    }
    let found = |text| shop.expected(&ProductQuery { filter: search(text), ..ProductQuery::default() }).len();
    assert_eq!((found("100%") > 0, found("10%"), found("nea*"), found("steel NOT lamp")), (true, 0, 0, 0));
}

#[tokio::test]
async fn the_longest_search_that_is_let_in_is_answered() {
    let shop = Shop::open().await;
    let single: String = ('a'..='z').chain('0'..='9').chain('α'..='ω').flat_map(|c| [c, ' ']).collect();
    let triple: String = (0..125).map(|n| format!("{n:03} ")).collect();
    for text in [single, triple, "x".repeat(500), "\"".repeat(500)] {
        shop.check(&ProductQuery { filter: search(&text), limit: 10, ..ProductQuery::default() }).await;
    }
}

#[test]
fn the_same_search_is_the_same_value() {
    assert_eq!(SearchWords::new(" Lamp  ÉCLAIR lamp\t"), SearchWords::new("e\u{301}clair LAMP"));
    assert_eq!(SearchWords::new(" \u{fdd0} \n"), SearchWords::default());
    let terms = [term(SortBy::Price, true), term(SortBy::Price, false), term(SortBy::Name, false)];
    assert_eq!(Ordering::new(terms), Ordering::new([terms[0], terms[2]]));
    assert_eq!(Ordering::new([]), Ordering::default());
}

#[tokio::test]
async fn filters_that_exclude_each_other_find_nothing() {
    let shop = Shop::open().await;
    let filter = ProductFilter { nothing: true, ..ProductFilter::default() };
    let count = count(&shop.test.db, &filter, &shop.categories).await.unwrap();
    assert_eq!(count.matching, 0);
    let query = ProductQuery { filter, limit: 10, ..ProductQuery::default() };
    assert!(page(&shop.test.db, &query, &shop.categories, count).await.unwrap().is_empty());
}

#[tokio::test]
async fn staff_find_products_by_every_filter_in_every_order_and_by_sku() {
    use super::staff::{Left, StaffFilter, StaffSort, after, list};
    let shop = Shop::open().await;
    let (db, categories) = (&shop.test.db, &shop.categories);
    for left in [None, Some(Left::Any), Some(Left::Few), Some(Left::None)] {
        for is_active in [None, Some(true), Some(false)] {
            for (category, featured) in [(None, None), (Some(shop.products[1].category_id), Some(true))] {
                let filter = StaffFilter { category, is_active, featured, left, ..StaffFilter::default() };
                let passes = |product: &&Product| {
                    category.is_none_or(|id| id == product.category_id)
                        && is_active.is_none_or(|is_active| is_active == product.is_active)
                        && featured.is_none_or(|featured| featured == product.featured)
                        && match left {
                            None => true,
                            Some(Left::Any | Left::Few) => product.stock > 0,
                            Some(Left::None) => product.stock == 0,
                        }
                };
                let expected: Vec<_> =
                    shop.products.iter().filter(passes).map(|product| product.id).collect();
                for sort in StaffSort::ALL {
                    for descending in [false, true] {
                        let (found, count) =
                            list(db, &filter, (sort, descending), (1_000, 0), categories).await.unwrap();
                        assert_eq!(count, i64::try_from(expected.len()).unwrap(), "{filter:?}");
                        let mut ids: Vec<_> = found.iter().map(|product| product.id).collect();
                        ids.sort_unstable();
                        assert_eq!(ids, expected, "{filter:?}");
                        let keys = found.iter().map(|product| match sort {
                            StaffSort::Created => product.created_at.to_string(),
                            StaffSort::Name => fold(&product.name),
                            StaffSort::Price => format!("{:012}", product.price.0),
                            StaffSort::Stock => format!("{:012}", product.stock),
                        });
                        let keys: Vec<_> = keys.collect();
                        assert!(if descending { keys.is_sorted_by(|a, b| a >= b) } else { keys.is_sorted() });
                    }
                }
                let all = after(db, &filter, crate::model::ProductId(0), 1_000, categories).await.unwrap();
                assert_eq!(all.iter().map(|product| product.id).collect::<Vec<_>>(), expected);
            }
        }
    }
    for (words, count) in [("s17", 11), ("S359", 1), ("kitchen", 120), ("oak steel", 0)] {
        let filter = StaffFilter { words: SearchWords::new(words), ..StaffFilter::default() };
        let found = list(db, &filter, (StaffSort::Name, false), (5, 0), categories).await.unwrap();
        if count > 0 {
            assert_eq!(found.1, count, "{words}");
        }
        assert!(found.0.len() <= 5);
    }
}
