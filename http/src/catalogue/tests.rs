//! The catalogue over the service, without a socket: what is kept, and when it is not sent again.

use serde_json::{Value, json};
use souk_store::catalogue::{NewCategory, create_category};

use super::*;
use crate::testing::{Answer, TestShop, request};

struct Catalogue {
    shop: TestShop,
    admin: String,
    category: CategoryId,
}

impl Catalogue {
    async fn open() -> Self {
        let shop = TestShop::open().await;
        let admin = shop.user("admin", true).await;
        let admin = shop.access(&admin);
        let lights = NewCategory {
            name: "Lights".to_owned(),
            description: String::new(),
            is_active: true,
            image: None,
        };
        let category = create_category(&shop.api.db, &lights, None).await.unwrap().unwrap().id;
        Self { shop, admin, category }
    }

    /// A product with these members besides those that it must have.
    async fn product(&self, name: &str, others: Value) -> ProductId {
        let mut body = json!({"name": name, "price": "5.00", "category": self.category, "stock": 3});
        for (field, value) in others.as_object().unwrap() {
            body[field] = value.clone();
        }
        let made = self.shop.post("/api/products/", &self.admin, body).await.is(201);
        ProductId(made.json["id"].as_i64().unwrap())
    }

    async fn get(&self, path: &str) -> Answer {
        self.shop.get(path, "").await.is(200)
    }

    async fn move_stock(&self, id: ProductId, change: i64) {
        let body = json!({"change": change});
        self.shop.post(&format!("/api/products/{id}/stock/"), &self.admin, body).await.is(200);
    }

    fn misses(&self) -> u64 {
        self.shop.api.cache.stats().misses
    }
}

#[tokio::test]
async fn a_read_is_answered_from_what_was_written_before() {
    let catalogue = Catalogue::open().await;
    let lamp = catalogue.product("Lamp", json!({})).await;
    for path in [
        "/api/products/",
        "/api/products/?search=lamp&page_size=5",
        &format!("/api/products/{lamp}/"),
        "/api/categories/",
    ] {
        let kept = catalogue.shop.api.answers.count();
        let first = catalogue.get(path).await;
        assert_eq!(catalogue.shop.api.answers.count(), kept + 1, "{path}");
        let misses = catalogue.misses();
        let second = catalogue.get(path).await;
        assert_eq!(first.json, second.json);
        assert_eq!(first.header("etag"), second.header("etag"));
        assert_eq!(catalogue.misses(), misses);
        assert_eq!(second.header("cache-control"), "no-cache");
    }
    catalogue.shop.close().await;
}

#[tokio::test]
async fn made_up_parameters_and_hosts_without_end_are_not_kept() {
    let catalogue = Catalogue::open().await;
    catalogue.product("Lamp", json!({})).await;
    let kept = catalogue.shop.api.answers.count();
    for number in 0..20 {
        let page = catalogue.get(&format!("/api/products/?utm={number}&page_size=1")).await;
        assert_eq!(page.json["count"], 1);
        catalogue.get(&format!("/api/categories/?utm={number}")).await;
    }
    let long = format!("/api/products/?search={}", "l".repeat(200));
    catalogue
        .shop
        .get(&format!("{long}&ordering=price&category=&price_min=&x={}", "y".repeat(400)), "")
        .await
        .is(200);
    assert_eq!(catalogue.shop.api.answers.count(), kept);
    catalogue.shop.close().await;
}

#[tokio::test]
async fn stock_that_moves_is_laid_over_what_is_cached() {
    let catalogue = Catalogue::open().await;
    let lamp = catalogue.product("Lamp", json!({})).await;
    let rug = catalogue.product("Rug", json!({})).await;
    let first_row = async || {
        let page = catalogue.get("/api/products/?ordering=name").await;
        (page.json["results"][0]["stock"].clone(), page.header("etag").to_owned())
    };
    let before = first_row().await;
    assert_eq!(before.0, 3);
    let misses = catalogue.misses();
    catalogue.move_stock(lamp, -1).await;
    let after = first_row().await;
    assert_eq!(after.0, 2);
    assert_ne!(before.1, after.1);
    // What is not on the page changes the epoch, and nothing else.
    catalogue.product("Sofa", json!({"is_active": false})).await;
    let detail = catalogue.get(&format!("/api/products/{lamp}/")).await;
    catalogue.move_stock(rug, -1).await;
    let again = catalogue.get(&format!("/api/products/{lamp}/")).await;
    assert_eq!(detail.header("etag"), again.header("etag"));
    assert!(catalogue.misses() - misses < 8, "the rows came from the cache");
    catalogue.shop.close().await;
}

#[tokio::test]
async fn only_lists_of_what_is_in_stock_are_dropped_when_the_last_unit_goes() {
    let catalogue = Catalogue::open().await;
    let lamp = catalogue.product("Lamp", json!({})).await;
    let count =
        async |query: &str| catalogue.get(&format!("/api/products/?{query}")).await.json["count"].clone();
    assert_eq!(
        (count("").await, count("in_stock=true").await, count("in_stock=false").await),
        (json!(1), json!(1), json!(0))
    );
    catalogue.move_stock(lamp, -3).await;
    let misses = catalogue.misses();
    assert_eq!(catalogue.get("/api/products/").await.json["results"][0]["in_stock"], false);
    assert_eq!(catalogue.misses(), misses, "the page of all products stayed");
    assert_eq!((count("in_stock=true").await, count("in_stock=false").await), (json!(0), json!(1)));
    catalogue.shop.close().await;
}

#[tokio::test]
async fn a_bad_token_is_refused_even_where_an_answer_is_ready() {
    let catalogue = Catalogue::open().await;
    for path in ["/api/products/", "/api/categories/"] {
        catalogue.get(path).await;
        catalogue.shop.get(path, "no token").await.is(401);
    }
    catalogue.shop.close().await;
}

#[tokio::test]
async fn the_best_encoding_that_the_client_takes_is_sent_with_a_weak_tag() {
    let catalogue = Catalogue::open().await;
    let lamp = catalogue.product("Lamp", json!({"description": "It glows. ".repeat(300)})).await;
    let path = format!("/api/products/{lamp}/");
    let plain = catalogue.get(&path).await;
    assert!(plain.header("etag").starts_with('"'));
    for (accepted, sent) in [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, zstd", "zstd"),
        ("gzip;q=0.9, br;q=0.1", "gzip"),
        ("br;q=0, GZIP", "gzip"),
        ("identity", ""),
        ("", ""),
    ] {
        let request = request(salvo::http::Method::GET, &path).add_header("accept-encoding", accepted, true);
        let answer = Answer::of(request.send(&catalogue.shop.service).await).await;
        assert_eq!(answer.header("content-encoding"), sent, "{accepted}");
        let tag = if sent.is_empty() {
            plain.header("etag").to_owned()
        } else {
            format!("W/{}", plain.header("etag"))
        };
        assert_eq!(answer.header("etag"), tag, "{accepted}");
        assert_eq!(answer.json, plain.json, "{accepted}");
        assert!(answer.header("vary").contains("accept-encoding"));
    }
    catalogue.shop.close().await;
}

#[tokio::test]
async fn a_category_that_everybody_may_not_see_is_no_choice() {
    let catalogue = Catalogue::open().await;
    let lamp = catalogue.product("Lamp", json!({})).await;
    let category = catalogue.category;
    let path = format!("/api/categories/{category}/");
    let hide = json!({"is_active": false});
    catalogue.shop.call(salvo::http::Method::PATCH, &path, &catalogue.admin, hide).await.is(200);
    let (filtered, below) = (format!("/api/products/?category={category}"), format!("{path}products/"));
    catalogue.shop.get(&filtered, "").await.is(400);
    catalogue.shop.get(&below, "").await.is(404);
    for path in [&filtered, &below] {
        assert_eq!(catalogue.shop.get(path, &catalogue.admin).await.is(200).json["count"], 1);
    }
    // The product itself is active, and can still be bought.
    catalogue.get(&format!("/api/products/{lamp}/")).await;
    catalogue.shop.close().await;
}

#[tokio::test]
async fn filters_of_the_path_and_of_the_query_both_count() {
    let catalogue = Catalogue::open().await;
    catalogue.product("Lamp", json!({"featured": true})).await;
    let other =
        NewCategory { name: "Rugs".to_owned(), description: String::new(), is_active: true, image: None };
    let other = create_category(&catalogue.shop.api.db, &other, None).await.unwrap().unwrap().id;
    let own = catalogue.category;
    catalogue.shop.api.cache.forget(&[Key::Categories]);
    for (path, count) in [
        ("/api/products/featured/".to_owned(), 1),
        ("/api/products/featured/?featured=true".to_owned(), 1),
        ("/api/products/featured/?featured=false".to_owned(), 0),
        (format!("/api/categories/{own}/products/?category={own}"), 1),
        (format!("/api/categories/{own}/products/?category={other}"), 0),
    ] {
        assert_eq!(catalogue.get(&path).await.json["count"], count, "{path}");
    }
    catalogue.shop.close().await;
}
