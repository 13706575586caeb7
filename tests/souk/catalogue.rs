//! Categories and products: creating, reading, changing and deleting, who may, what is refused, and what is
//! shown to whom. Filters, stock and freshness have files of their own.

use serde_json::{Value, json};

use crate::harness::Shop;

#[tokio::test]
async fn a_category_lives_its_life() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let created = admin
        .post("/api/categories/", json!({ "name": "  Lights 💡 ", "description": "All that glows" }))
        .await
        .is(201);
    let fields =
        ["created_at", "description", "id", "image", "is_active", "name", "product_count", "updated_at"];
    assert_eq!(created.refused_fields(), fields, "{created}");
    assert_eq!(created["name"], "Lights 💡", "{created}");
    assert_eq!(created["product_count"], 0, "{created}");
    assert_eq!((&created["is_active"], &created["image"]), (&json!(true), &Value::Null), "{created}");
    let path = format!("/api/categories/{}/", created.id());
    assert_eq!(shop.anyone().get(&path).await.is(200).json, created.json);
    assert_eq!(shop.anyone().get("/api/categories/").await.is(200).results()[0], created.json);

    let patched = admin.patch(&path, json!({ "description": "" })).await.is(200);
    assert_eq!((&patched["name"], &patched["description"]), (&json!("Lights 💡"), &json!("")), "{patched}");
    assert!(patched.text("updated_at") >= created.text("updated_at"), "{patched}");
    assert_eq!(patched["created_at"], created["created_at"], "{patched}");
    let put = admin.put(&path, json!({ "name": "Lamps", "description": "d" })).await.is(200);
    assert_eq!((&put["name"], &put["description"]), (&json!("Lamps"), &json!("d")), "{put}");
    admin
        .put(&path, json!({ "description": "no name" }))
        .await
        .refuses_with("name", "This field is required.");

    admin.delete(&path).await.is(204);
    admin.delete(&path).await.is(404).has_detail("Not found.");
    shop.anyone().get(&path).await.is(404).has_detail("Not found.");
    shop.anyone().get(&format!("{path}products/")).await.is(404);
}

#[tokio::test]
async fn category_names_are_unique_in_any_case() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    shop.new_category("Élan Vital").await;
    let other = format!("/api/categories/{}/", shop.new_category("Lamps").await);
    for taken in ["Élan Vital", "élan vital", "ÉLAN VITAL", "  élan vital "] {
        admin.post("/api/categories/", json!({ "name": taken })).await.refuses("name");
        admin.patch(&other, json!({ "name": taken })).await.refuses("name");
    }
    // Its own name, in another case, is not taken.
    admin.patch(&other, json!({ "name": "LAMPS" })).await.is(200);

    admin.post("/api/categories/", json!({})).await.refuses_with("name", "This field is required.");
    admin
        .post("/api/categories/", json!({ "name": "  " }))
        .await
        .refuses_with("name", "This field may not be blank.");
    admin
        .post("/api/categories/", json!({ "name": null }))
        .await
        .refuses_with("name", "This field may not be null.");
    let long = admin.post("/api/categories/", json!({ "name": "é".repeat(101) })).await;
    long.refuses_with("name", "Ensure this field has no more than 100 characters.");
    admin.post("/api/categories/", json!({ "name": "é".repeat(100) })).await.is(201);
    admin
        .post("/api/categories/", json!({ "name": "Off", "is_active": "perhaps" }))
        .await
        .refuses("is_active");
    assert_eq!(admin.get("/api/categories/").await.is(200).count(), 3);
}

#[tokio::test]
async fn a_category_with_products_stays() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let category = shop.new_category("Lights").await;
    let path = format!("/api/categories/{category}/");
    let lamp = shop.product("Lamp").category(category).create().await;
    let hidden = shop.product("Hidden").category(category).with("is_active", false).create().await;
    assert!(admin.delete(&path).await.is(409)["detail"].is_string());
    admin.delete(&lamp.path()).await.is(204);
    // What nobody sees is still there.
    admin.delete(&path).await.is(409);
    admin.delete(&hidden.path()).await.is(204);
    admin.delete(&path).await.is(204);
}

#[tokio::test]
async fn a_product_lives_its_life() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let category = shop.new_category("Lights").await;
    let described = json!({
        "name": "Lamp", "description": "It glows.", "price": "19.99", "stock": 7, "category": category,
        "sku": "LAMP-1", "featured": true, "id": 4_711, "in_stock": false, "category_name": "Nonsense",
        "created_at": "2001-01-01T00:00:00Z",
    });
    let created = admin.post("/api/products/", described.clone()).await.is(201);
    let fields = [
        "category",
        "category_name",
        "created_at",
        "description",
        "featured",
        "id",
        "image",
        "in_stock",
        "is_active",
        "name",
        "price",
        "sku",
        "stock",
        "updated_at",
    ];
    assert_eq!(created.refused_fields(), fields, "{created}");
    for field in ["name", "description", "price", "stock", "category", "sku", "featured"] {
        assert_eq!(created[field], described[field], "{created}");
    }
    assert_eq!((&created["in_stock"], &created["is_active"]), (&json!(true), &json!(true)), "{created}");
    assert_eq!((&created["category_name"], &created["image"]), (&json!("Lights"), &Value::Null), "{created}");
    assert_ne!(created.id(), 4_711, "{created}");
    let path = format!("/api/products/{}/", created.id());
    assert_eq!(shop.anyone().get(&path).await.is(200).json, created.json);
    assert_eq!(shop.anyone().get("/api/products/").await.is(200).results()[0], created.json);

    let patched = admin.patch(&path, json!({ "price": 5 })).await.is(200);
    assert_eq!((&patched["price"], &patched["stock"]), (&json!("5.00"), &json!(7)), "{patched}");
    let put = json!({ "name": "Lantern", "price": "6.50", "category": category });
    let put = admin.put(&path, put).await.is(200);
    assert_eq!((&put["name"], &put["price"]), (&json!("Lantern"), &json!("6.50")), "{put}");
    assert_eq!((&put["stock"], &put["sku"]), (&json!(7), &json!("LAMP-1")), "left out, it stays\n{put}");
    let bare = admin.put(&path, json!({})).await.refuses_with("name", "This field is required.");
    assert_eq!(bare.refused_fields(), ["category", "name", "price"], "{bare}");

    admin.delete(&path).await.is(204);
    admin.delete(&path).await.is(404);
    admin.patch(&path, json!({ "price": 1 })).await.is(404);
    shop.anyone().get(&path).await.is(404).has_detail("Not found.");
    assert_eq!(shop.anyone().get("/api/products/").await.is(200).count(), 0);
}

#[tokio::test]
async fn what_is_left_out_of_a_product_has_its_default() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let category = shop.some_category().await;
    let create = async |name: &str| {
        let body = json!({ "name": name, "price": "0.00", "category": category });
        admin.post("/api/products/", body).await.is(201)
    };
    let (lamp, lantern) = (create("Lamp").await, create("Lamp").await);
    assert_eq!((&lamp["stock"], &lamp["in_stock"]), (&json!(0), &json!(false)), "{lamp}");
    assert_eq!((&lamp["featured"], &lamp["is_active"]), (&json!(false), &json!(true)), "{lamp}");
    assert_eq!((&lamp["description"], &lamp["price"]), (&json!(""), &json!("0.00")), "{lamp}");
    assert!(!lamp.text("sku").is_empty() && lamp.text("sku") != lantern.text("sku"), "{lamp}");
}

#[tokio::test]
async fn money_is_a_decimal_of_two_places() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").create().await;
    let set = async |price: Value| admin.patch(&lamp.path(), json!({ "price": price })).await;
    for (price, shown) in [
        (json!("19.99"), "19.99"),
        (json!(19.99), "19.99"),
        (json!(0.1), "0.10"),
        (json!(7), "7.00"),
        (json!("7.5"), "7.50"),
        (json!("0"), "0.00"),
        (json!("99999999.99"), "99999999.99"),
        (json!(99_999_999.99), "99999999.99"),
        (json!(1.15), "1.15"),
        (json!(8.2), "8.20"),
    ] {
        assert_eq!(set(price.clone()).await.is(200)["price"], shown, "{price}");
    }
    for price in [
        json!("19.999"),
        json!(19.999),
        json!("-0.01"),
        json!(-1),
        json!("100000000.00"),
        json!(1e300),
        json!("1e30"),
        json!("NaN"),
        json!("Infinity"),
        json!("-Infinity"),
        json!("12,50"),
        json!("$5"),
        json!("0x10"),
        json!("abc"),
        json!(""),
        json!("1\u{0}"),
        json!("9".repeat(5_000)),
        json!(true),
        json!([]),
        json!({}),
        json!(null),
    ] {
        set(price).await.refuses("price");
    }
    set(json!("abc")).await.refuses_with("price", "A valid number is required.");
    set(json!("1.999")).await.refuses_with("price", "Ensure that there are no more than 2 decimal places.");
    assert_eq!(shop.anyone().get(&lamp.path()).await.is(200)["price"], "8.20");
}

#[tokio::test]
async fn a_bad_product_names_every_bad_field_and_is_not_made() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").with("sku", "LAMP-1").create().await;
    let category = shop.some_category().await;
    let bare = admin.post("/api/products/", json!({})).await.refuses_with("price", "This field is required.");
    assert_eq!(bare.refused_fields(), ["category", "name", "price"], "{bare}");
    let all = json!({ "name": "", "price": "cheap", "category": 999_999, "stock": -1, "sku": "LAMP-1", "featured": 7,
        "is_active": "x", "description": "d".repeat(10_001) });
    let all = admin.post("/api/products/", all).await.refuses("name");
    for field in ["price", "stock", "featured", "is_active", "description"] {
        assert!(all.refused_fields().iter().any(|name| name == field), "{field}\n{all}");
    }
    for (field, value, message) in [
        ("name", json!(null), "This field may not be null."),
        ("name", json!(" "), "This field may not be blank."),
        ("name", json!("n".repeat(256)), "Ensure this field has no more than 255 characters."),
        ("name", json!("a\u{0}b"), "Null characters are not allowed."),
        ("name", json!(["Lamp"]), "Not a valid string."),
        ("stock", json!("many"), "A valid integer is required."),
        ("stock", json!(1.5), "A valid integer is required."),
        ("stock", json!(-1), "Ensure this value is greater than or equal to 0."),
        ("stock", json!(2_147_483_648_i64), "Ensure this value is less than or equal to 2147483647."),
        ("stock", json!(null), "This field may not be null."),
        ("category", json!(999_999), "Invalid pk \"999999\" - object does not exist."),
        ("category", json!(null), "This field may not be null."),
        ("sku", json!("s".repeat(65)), "Ensure this field has no more than 64 characters."),
        ("featured", json!("perhaps"), "Must be a valid boolean."),
        ("description", json!("d".repeat(10_001)), "Ensure this field has no more than 10000 characters."),
    ] {
        let mut body = json!({ "name": "Lantern", "price": "1.00", "category": category });
        body[field] = value.clone();
        admin.post("/api/products/", body).await.refuses_with(field, message);
        admin
            .patch(&lamp.path(), json!({ field: value, "price": "2.00" }))
            .await
            .refuses_with(field, message);
    }
    for (field, value) in [
        ("sku", json!("LAMP-1")),
        ("category", json!("lights")),
        ("category", json!([category])),
        ("category", json!(0)),
        ("category", json!(true)),
        ("stock", json!(true)),
        ("stock", json!(1e40)),
    ] {
        let mut body = json!({ "name": "Lantern", "price": "1.00", "category": category });
        body[field] = value;
        admin.post("/api/products/", body).await.refuses(field);
    }
    let second = shop.product("Lantern").with("sku", "LAMP-2").create().await;
    admin.patch(&second.path(), json!({ "sku": "LAMP-1" })).await.refuses("sku");
    admin.patch(&second.path(), json!({ "sku": "LAMP-2" })).await.is(200);
    assert_eq!(shop.anyone().get("/api/products/").await.is(200).count(), 2);
    assert_eq!(shop.anyone().get(&lamp.path()).await.is(200).json, lamp.json);

    let largest = shop.product(&"💡".repeat(255)).stock(2_147_483_647).with("sku", "s".repeat(64));
    largest.with("description", "é".repeat(10_000)).create().await;
}

#[tokio::test]
async fn only_admins_change_the_catalogue() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let category = shop.some_category().await;
    let lamp = shop.product("Lamp").create().await;
    let body = json!({ "name": "Lantern", "price": "1.00", "category": category, "change": 1 });
    let paths = [
        ("/api/categories/".to_owned(), vec!["POST"]),
        (format!("/api/categories/{category}/"), vec!["PUT", "PATCH", "DELETE"]),
        ("/api/products/".to_owned(), vec!["POST"]),
        (lamp.path(), vec!["PUT", "PATCH", "DELETE"]),
        (lamp.path_of("stock"), vec!["POST"]),
        (lamp.path_of("movements"), vec!["GET"]),
    ];
    for (path, methods) in &paths {
        for method in methods {
            let call = |who: &crate::harness::Shopper| {
                who.call(method.parse().expect("a method"), path).json(&body).send()
            };
            let refusal = call(&shop.anyone()).await.is(401);
            assert_eq!(refusal.header("www-authenticate"), "Bearer realm=\"api\"");
            refusal.has_detail("Authentication credentials were not provided.");
            let refusal = call(&ada).await.is(403);
            refusal.has_detail("You do not have permission to perform this action.");
        }
    }
    assert_eq!(shop.anyone().get(&lamp.path()).await.is(200).json, lamp.json);
    assert_eq!(shop.anyone().get("/api/categories/").await.is(200).count(), 1);
}

#[tokio::test]
async fn what_is_not_active_is_seen_by_admins_alone() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let category = shop.new_category("Lights").await;
    let closed = shop.new_category("Closed").await;
    shop.product("Lamp").category(category).create().await;
    let hidden = shop.product("Hidden lamp").category(category).with("featured", true);
    let hidden = hidden.with("is_active", false).create().await;
    admin.patch(&format!("/api/categories/{closed}/"), json!({ "is_active": false })).await.is(200);

    let lists = [
        "/api/products/".to_owned(),
        "/api/products/?search=lamp".to_owned(),
        "/api/products/featured/".to_owned(),
        format!("/api/categories/{category}/products/"),
        format!("/api/products/?category={category}"),
    ];
    for list in &lists {
        // In turns, so that neither sees what the other's request left in a cache.
        for _ in 0..2 {
            for who in [&ada, &shop.anyone()] {
                let seen = who.get(list).await.is(200).column("id");
                assert!(!seen.contains(&hidden.id.to_string()), "{list} shows what is hidden");
            }
            let seen = admin.get(list).await.is(200).column("id");
            assert!(seen.contains(&hidden.id.to_string()), "{list} hides it from the admin");
        }
    }
    for who in [&ada, &shop.anyone()] {
        who.get(&hidden.path()).await.is(404).has_detail("Not found.");
        who.get(&format!("/api/categories/{closed}/")).await.is(404).has_detail("Not found.");
        assert_eq!(who.get("/api/categories/").await.is(200).column("name"), ["Lights"]);
    }
    admin.get(&hidden.path()).await.is(200);
    assert_eq!(admin.get("/api/categories/").await.is(200).count(), 2);
    ada.put_in_cart(&hidden, 1).await.refuses("product_id");

    // A tag of what an admin saw is worth nothing to others.
    let tag = admin.get(&hidden.path()).await;
    let call = shop.anyone().call(reqwest::Method::GET, &hidden.path());
    call.header("if-none-match", tag.header("etag")).send().await.is(404);
}

#[tokio::test]
async fn a_deleted_product_leaves_carts_but_not_orders() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").price("19.99").with("sku", "LAMP-1").create().await;
    let soap = shop.product("Soap").price("2.00").create().await;
    let order = ada.buy(&lamp, 2).await.id();
    ada.fill_cart(&lamp, 1).await;
    ada.fill_cart(&soap, 1).await;
    admin.delete(&lamp.path()).await.is(204);

    let cart = ada.cart().await;
    assert_eq!((&cart["total_items"], &cart["total_price"]), (&json!(1), &json!("2.00")), "{cart}");
    assert_eq!(cart["items"].as_array().unwrap().len(), 1, "{cart}");
    ada.put_in_cart(&lamp, 1).await.refuses("product_id");
    assert_eq!(ada.checkout().await.is(201)["total_price"], "2.00");
    let order = ada.get(&format!("/api/orders/{order}/")).await.is(200);
    let line = &order["items"][0];
    assert_eq!((&line["product_name"], &line["sku"]), (&json!("Lamp"), &json!("LAMP-1")), "{order}");
    assert_eq!((&line["price"], &order["total_price"]), (&json!("19.99"), &json!("39.98")), "{order}");
    shop.audit().await;
}

#[tokio::test]
async fn an_order_of_a_deleted_product_can_still_be_cancelled() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").create().await;
    let order = ada.buy(&lamp, 2).await.id();
    shop.admin().await.delete(&lamp.path()).await.is(204);
    let cancelled = ada.post(&format!("/api/orders/{order}/cancel/"), json!({})).await.is(200);
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    shop.audit().await;
}
