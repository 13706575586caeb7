//! How the product list is narrowed and sorted: each filter with values that are good, empty and bad; the
//! search, in which no character means anything but itself; and orderings, ties included.

use crate::harness::{Shop, Shopper, escaped};

/// The names that a query finds, sorted.
async fn found(who: &Shopper, query: &str) -> Vec<String> {
    let mut names = who.get(&format!("/api/products/?page_size=100&{query}")).await.is(200).column("name");
    names.sort();
    names
}

/// Lamp 5.00, Lantern 10.00 (featured), Soap 10.01 (sold out), Towel 20.00 (featured); the first two are
/// lights.
async fn small_shop() -> (Shop, i64, i64) {
    let shop = Shop::start().await;
    let lights = shop.new_category("Lights").await;
    let bath = shop.new_category("Bath").await;
    shop.product("Lamp").price("5.00").category(lights).create().await;
    shop.product("Lantern").price("10.00").category(lights).with("featured", true).create().await;
    shop.product("Soap").price("10.01").category(bath).stock(0).create().await;
    shop.product("Towel").price("20.00").category(bath).with("featured", true).create().await;
    (shop, lights, bath)
}

const ALL: [&str; 4] = ["Lamp", "Lantern", "Soap", "Towel"];

#[tokio::test]
async fn products_can_be_filtered() {
    let (shop, lights, bath) = small_shop().await;
    let anyone = shop.anyone();
    for (query, expected) in [
        (String::new(), &ALL[..]),
        (format!("category={lights}"), &["Lamp", "Lantern"]),
        (format!("category={bath}&in_stock=true"), &["Towel"]),
        ("price_min=10".to_owned(), &["Lantern", "Soap", "Towel"]),
        ("price_min=10.00&price_max=10.01".to_owned(), &["Lantern", "Soap"]),
        ("price_max=10".to_owned(), &["Lamp", "Lantern"]),
        ("price_min=10.01&price_max=10".to_owned(), &[]),
        ("price_min=0".to_owned(), &ALL),
        ("price_max=99999999.99".to_owned(), &ALL),
        ("in_stock=true".to_owned(), &["Lamp", "Lantern", "Towel"]),
        ("in_stock=false".to_owned(), &["Soap"]),
        ("featured=true".to_owned(), &["Lantern", "Towel"]),
        ("featured=false".to_owned(), &["Lamp", "Soap"]),
        (format!("featured=true&category={bath}&price_min=15&search=tow"), &["Towel"]),
        ("category=&price_min=&price_max=&in_stock=&featured=&search=&ordering=".to_owned(), &ALL),
        ("colour=red&in_stok=false&%00=1".to_owned(), &ALL),
    ] {
        assert_eq!(found(&anyone, &query).await, expected, "?{query}");
        // And again, from a cache.
        assert_eq!(found(&anyone, &query).await, expected, "?{query}");
    }
}

#[tokio::test]
async fn a_bad_filter_is_refused_by_name() {
    let (shop, lights, _) = small_shop().await;
    let anyone = shop.anyone();
    let lists = ["/api/products/".to_owned(), format!("/api/categories/{lights}/products/")];
    for list in &lists {
        let get = async |query: &str| anyone.get(&format!("{list}?{query}")).await;
        for bound in ["price_min", "price_max"] {
            get(&format!("{bound}=cheap")).await.refuses_with(bound, "Enter a number.");
            for bad in ["nan", "inf", "-inf", "1,5", "0x1", "%00", "5%00", "%F0%9F%92%A1", "true", "1e"] {
                get(&format!("{bound}={bad}")).await.refuses(bound);
            }
            // Out of range, but numbers: found or refused, never a failure.
            for far in ["-1", "1e300", "1e-300", "100000000000", "5.001", &"9".repeat(500)] {
                let answer = get(&format!("{bound}={far}")).await;
                if answer.status != 200 {
                    answer.refuses(bound);
                }
            }
        }
        for flag in ["in_stock", "featured"] {
            for bad in ["maybe", "1.5", "%00", "truefalse", "null", "%F0%9F%92%A1"] {
                get(&format!("{flag}={bad}")).await.refuses(flag);
            }
        }
        for bad in ["colour", "price;drop", "-", "--price", "price,colour", "%00", "id)--", "password"] {
            let answer = get(&format!("ordering={bad}")).await.refuses("ordering");
            let message = answer.messages("ordering").join(" ");
            for choice in ["price", "created_at", "name"] {
                assert!(message.contains(choice), "the choices should be named\n{answer}");
            }
        }
        get("search=lamp%00").await.refuses("search");
    }
    let message = "Select a valid choice. That choice is not one of the available choices.";
    for bad in ["999999", "lights", "-1", "1.5", "%00", "99999999999999999999"] {
        let answer = anyone.get(&format!("/api/products/?category={bad}")).await;
        answer.refuses_with("category", message);
    }
    let several =
        anyone.get("/api/products/?price_min=x&in_stock=maybe&ordering=colour").await.refuses("price_min");
    assert_eq!(several.refused_fields(), ["in_stock", "ordering", "price_min"], "{several}");
}

#[tokio::test]
async fn the_products_of_a_category_are_filtered_in_the_same_way() {
    let (shop, lights, bath) = small_shop().await;
    let anyone = shop.anyone();
    let names = async |path: String| {
        let mut names = anyone.get(&path).await.is(200).column("name");
        names.sort();
        names
    };
    assert_eq!(names(format!("/api/categories/{lights}/products/")).await, ["Lamp", "Lantern"]);
    assert_eq!(names(format!("/api/categories/{lights}/products/?price_min=6")).await, ["Lantern"]);
    assert_eq!(names(format!("/api/categories/{bath}/products/?in_stock=true&search=TOW")).await, ["Towel"]);
    let page =
        anyone.get(&format!("/api/categories/{bath}/products/?page_size=1&ordering=name")).await.is(200);
    assert_eq!(page.column("name"), ["Soap"], "{page}");
    let next = page["next"].as_str().expect("a next page");
    assert!(next.contains(&format!("/api/categories/{bath}/products/?")), "{page}");
    assert_eq!(anyone.get(next).await.is(200).column("name"), ["Towel"]);
    anyone.get("/api/categories/999999/products/").await.is(404).has_detail("Not found.");
    anyone.get(&format!("/api/categories/{bath}/products/?page=7")).await.is(404).has_detail("Invalid page.");
    assert_eq!(names("/api/products/featured/".to_owned()).await, ["Lantern", "Towel"]);
}

#[tokio::test]
async fn a_search_finds_every_word_in_any_case_and_place() {
    let shop = Shop::start().await;
    let kitchen = shop.new_category("Küche & Co").await;
    let product = async |name: &str, description: &str| {
        shop.product(name).with("description", description).category(kitchen).create().await;
    };
    product("Steel Kettle", "Boils in two minutes").await;
    product("Éclair Tin", "For cakes; 100% steel").await;
    product("Чайник", "Kettle_brand from afar").await;
    product("茶壺", "A pot's pot").await;
    product("TV \"stand\" (oak)", "near* OR far -- x").await;
    let anyone = shop.anyone();
    let search = async |words: &str| found(&anyone, &format!("search={}", escaped(words))).await;

    let everything = 5;
    for (words, expected) in [
        ("kettle", &["Steel Kettle", "Чайник"][..]),
        ("KETTLE", &["Steel Kettle", "Чайник"]),
        ("steel", &["Steel Kettle", "Éclair Tin"]),
        ("steel kettle", &["Steel Kettle"]),
        ("  kettle \t two  ", &["Steel Kettle"]),
        ("kettle cakes", &[]),
        ("éclair", &["Éclair Tin"]),
        ("ÉCLAIR", &["Éclair Tin"]),
        ("чайник", &["Чайник"]),
        ("ЧАЙ", &["Чайник"]),
        ("茶", &["茶壺"]),
        ("茶壺", &["茶壺"]),
        ("ett", &["Steel Kettle", "Чайник"]),
        ("tv", &["TV \"stand\" (oak)"]),
        ("v", &["TV \"stand\" (oak)"]),
        ("ti tin", &["Éclair Tin"]),
        ("%", &["Éclair Tin"]),
        ("100%", &["Éclair Tin"]),
        ("10%", &[]),
        ("_", &["Чайник"]),
        ("kettle_", &["Чайник"]),
        ("s_eel", &[]),
        ("\"stand\"", &["TV \"stand\" (oak)"]),
        ("\"", &["TV \"stand\" (oak)"]),
        ("(oak)", &["TV \"stand\" (oak)"]),
        ("near*", &["TV \"stand\" (oak)"]),
        ("nea*", &[]),
        ("kettle OR stand", &[]),
        ("or stand", &["TV \"stand\" (oak)"]),
        ("-- stand", &["TV \"stand\" (oak)"]),
        ("NOT kettle", &[]),
        ("name:kettle", &[]),
        ("pot's", &["茶壺"]),
        ("'; drop table products; --", &[]),
        ("\\", &[]),
        ("💡", &[]),
    ] {
        assert_eq!(search(words).await, expected, "search for {words:?}");
    }
    assert_eq!(search("küche").await.len(), everything, "by the category's name");
    assert_eq!(search("KÜCHE & co").await.len(), everything, "by the category's name");
    assert_eq!(search("küche steel cakes").await, ["Éclair Tin"], "across name, description and category");
    assert_eq!(search("   ").await.len(), everything, "no word is no filter");
    let long = anyone.get(&format!("/api/products/?search={}", "kettle+".repeat(500))).await;
    assert!(long.status == 200 || (400..500).contains(&long.status), "{long}");
}

#[tokio::test]
async fn products_can_be_sorted() {
    let shop = Shop::start().await;
    let product = async |name: &str, price: &str| {
        shop.product(name).price(price).create().await;
    };
    product("Basket", "7.00").await;
    product("Apron", "10.00").await;
    product("Candle", "7.00").await;
    product("Apron", "9.00").await;
    let anyone = shop.anyone();
    let list = async |ordering: &str| {
        let answer = anyone.get(&format!("/api/products/?ordering={ordering}")).await.is(200);
        answer.column("name").into_iter().zip(answer.column("price")).collect::<Vec<_>>()
    };
    let pairs =
        |pairs: [(&str, &str); 4]| pairs.map(|(name, price)| (name.to_owned(), price.to_owned())).to_vec();
    let (basket, candle) = (("Basket", "7.00"), ("Candle", "7.00"));
    let (early, late) = (("Apron", "10.00"), ("Apron", "9.00"));

    assert_eq!(list("").await, pairs([late, candle, early, basket]), "newest first");
    assert_eq!(list("-created_at").await, pairs([late, candle, early, basket]));
    assert_eq!(list("created_at").await, pairs([basket, early, candle, late]));
    assert_eq!(list("price").await, pairs([basket, candle, late, early]), "as numbers, ties by id");
    assert_eq!(list("name").await, pairs([early, late, basket, candle]), "ties by id");
    assert_eq!(list("name,price").await, pairs([late, early, basket, candle]));
    assert_eq!(list("-price,-name").await, pairs([early, late, candle, basket]));
    assert_eq!(list("price,-name").await, pairs([candle, basket, late, early]));
    let falling = list("-price").await;
    assert_eq!(falling[..2], pairs([early, late, candle, basket])[..2]);
}

#[tokio::test]
async fn ties_are_paged_without_gaps_or_repeats() {
    let shop = Shop::start().await;
    let mut expected = Vec::new();
    for _ in 0..12 {
        expected.push(shop.product("Brick").price("1.00").create().await.id.to_string());
    }
    for ordering in ["price", "-price", "name", "-name", "price,name"] {
        let mut seen = Vec::new();
        for page in 1..=4 {
            let path = format!("/api/products/?ordering={ordering}&page_size=3&page={page}");
            seen.extend(shop.anyone().get(&path).await.is(200).column("id"));
        }
        let forwards = seen == expected;
        seen.sort_by_key(|id| id.parse::<i64>().expect("an id"));
        assert_eq!(seen, expected, "{ordering}: each once");
        assert!(forwards || ordering.starts_with('-'), "{ordering}: ties by id");
    }
}
