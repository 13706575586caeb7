//! Products and categories on the administration site: forms that come back with what is wrong, forms that somebody else
//! was quicker than, what is done to many at once, what goes with a product, files of them, and the history of it all.

use serde_json::json;

use crate::harness::{Answer, Browser, PASSWORD, Product, Shop, hidden, says};

/// What a form of a product holds, with these differing from what is usual.
fn filled_in<'f>(category: &'f str, more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let mut fields = vec![
        ("name", "Kettle"),
        ("description", ""),
        ("price", "49.90"),
        ("stock", "12"),
        ("category", category),
        ("sku", ""),
        ("is_active", "true"),
    ];
    for field in more {
        fields.retain(|(name, _)| name != &field.0);
        fields.push(*field);
    }
    fields
}

#[tokio::test]
async fn a_product_is_created_and_every_error_stands_beside_its_field() {
    let shop = Shop::start().await;
    let category = shop.some_category().await.to_string();
    let mut browser = Browser::of_admin(&shop).await;
    let new = "/admin/products/new/";
    for (field, value, message) in [
        ("name", "", "This field may not be blank."),
        ("price", "1.999", "Ensure that there are no more than 2 decimal places."),
        ("price", "", "A valid number is required."),
        ("stock", "-1", "Ensure this value is greater than or equal to 0."),
        ("category", "", "Expected pk value"),
        ("category", "999", "object does not exist."),
    ] {
        let refused = browser.submit(new, new, &filled_in(&category, &[(field, value)])).await.is(400);
        let page = refused.plain();
        let beside = page.split(&format!("id=\"error-{field}\">")).nth(1).unwrap_or_default();
        assert!(beside.split("</p>").next().unwrap().contains(message), "{field} {message}\n{page}");
        assert!(page.contains(&format!(
            "name=\"price\" type=\"text\" value=\"{}\"",
            if field == "price" { value } else { "49.90" }
        )));
    }
    let created = browser.submit(new, new, &filled_in(&category, &[("featured", "true")])).await;
    let page = browser.follow(created).await;
    says(&page, "Kettle was created.");
    let product = shop.anyone().get("/api/products/?search=kettle").await.is(200).results()[0].clone();
    assert_eq!(
        (&product["price"], &product["stock"], &product["featured"]),
        (&json!("49.90"), &json!(12), &json!(true))
    );
    let sku = product["sku"].as_str().unwrap();
    let taken = browser.submit(new, new, &filled_in(&category, &[("sku", sku)])).await.is(400);
    says(&taken, "product with this sku already exists.");
    says(&browser.get("/admin/history/?kind=product").await.is(200), "created");
    shop.audit().await;
}

async fn open(browser: &mut Browser, product: &Product) -> Vec<(&'static str, String)> {
    let page = browser.get(&format!("/admin/products/{}/", product.id)).await.is(200);
    vec![("csrf", hidden(&page, "csrf")), ("was", hidden(&page, "was")), ("seen", hidden(&page, "seen"))]
}

async fn save(
    browser: &mut Browser,
    product: &Product,
    opened: &[(&'static str, String)],
    category: &str,
    more: &[(&str, &str)],
) -> Answer {
    let mut fields: Vec<(&str, &str)> = opened.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.extend(filled_in(category, more));
    browser.send(&format!("/admin/products/{}/", product.id), &fields, &[]).await
}

#[tokio::test]
async fn a_form_that_was_open_while_something_happened_undoes_nothing() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let category = shop.some_category().await.to_string();
    let kettle = shop.product("Kettle").price("49.90").stock(12).create().await;
    let mut browser = Browser::of_admin(&shop).await;

    // A sale in between is none of the business of who leaves the level alone.
    let opened = open(&mut browser, &kettle).await;
    ada.buy(&kettle, 2).await;
    let saved = save(&mut browser, &kettle, &opened, &category, &[("description", "Copper.")]).await;
    says(&browser.follow(saved).await, "Kettle was saved.");
    assert_eq!(shop.stock_of(&kettle).await, 10);

    // Who types a level sees the new one first.
    let opened = open(&mut browser, &kettle).await;
    ada.buy(&kettle, 3).await;
    let refused =
        save(&mut browser, &kettle, &opened, &category, &[("stock", "30"), ("name", "Other")]).await.is(409);
    says(&refused, "when this form was opened there were 10, and now there are 7");
    says(&refused, "value=\"Other\"");
    assert_eq!(shop.stock_of(&kettle).await, 7);
    assert_eq!(shop.anyone().get(&kettle.path()).await.is(200).text("name"), "Kettle", "all or nothing");
    assert_eq!(hidden(&refused, "was"), "7");
    let again = vec![
        ("csrf", hidden(&refused, "csrf")),
        ("was", hidden(&refused, "was")),
        ("seen", hidden(&refused, "seen")),
    ];
    save(&mut browser, &kettle, &again, &category, &[("stock", "30")]).await.is(303);
    assert_eq!(shop.stock_of(&kettle).await, 30);

    // Another admin was quicker.
    let opened = open(&mut browser, &kettle).await;
    shop.admin().await.patch(&kettle.path(), json!({ "price": "39.90" })).await.is(200);
    let refused =
        save(&mut browser, &kettle, &opened, &category, &[("stock", "30"), ("price", "59.90")]).await.is(409);
    says(&refused, "somebody, through the API, changed this product while the form was open");
    says(&refused, "price: 39.90 → 59.90");
    assert_eq!(shop.anyone().get(&kettle.path()).await.is(200).text("price"), "39.90");

    let opened = open(&mut browser, &kettle).await;
    let mut second = Browser::of(&shop);
    shop.another_admin("second").await;
    second.log_in("second@example.com", PASSWORD).await.is(303);
    let of_second = open(&mut second, &kettle).await;
    save(&mut second, &kettle, &of_second, &category, &[("stock", "30"), ("price", "49.90")]).await.is(303);
    let refused =
        save(&mut browser, &kettle, &opened, &category, &[("stock", "30"), ("price", "59.90")]).await.is(409);
    says(&refused, "second@example.com changed this product while the form was open");
    says(&refused, "price: 49.90 → 59.90");

    let path = format!("/admin/products/{}/stock/", kettle.id);
    let page = format!("/admin/products/{}/", kettle.id);
    let moved = browser.submit(&page, &path, &[("change", "-4")]).await;
    says(&browser.follow(moved).await, "The stock was moved by -4: there are 26 now.");
    says(
        &browser.submit(&page, &path, &[("change", "-27")]).await.is(400),
        "There are 26, which does not allow this.",
    );
    says(&browser.submit(&page, &path, &[("change", "x")]).await.is(400), "A valid integer is required.");
    says(&browser.get(&format!("{page}movements/")).await.is(200), "−4");
    let history = browser.get(&page).await.is(200);
    says(&history, "<b>stock</b> <del>30</del> → <ins>26</ins>");
    says(&history, "<b>description</b>");
    browser.send(&page, &[("csrf", &opened[0].1), ("name", "x")], &[]).await.is(400);
    shop.audit().await;
}

#[tokio::test]
async fn many_products_are_changed_at_once_each_for_itself() {
    let shop = Shop::start().await;
    let mut browser = Browser::of_admin(&shop).await;
    let other = shop.new_category("Others").await.to_string();
    let mut products = Vec::new();
    for stock in [0, 3, 9] {
        products.push(shop.product("Cup").stock(stock).create().await);
    }
    let ids: Vec<String> = products.iter().map(|product| product.id.to_string()).collect();
    let mut bulk = async |more: &[(&str, &str)]| {
        let mut fields: Vec<_> = ids.iter().map(|id| ("product", id.as_str())).collect();
        fields.extend(more);
        let answer = browser.submit("/admin/products/", "/admin/products/bulk/", &fields).await;
        browser.follow(answer).await
    };
    says(&bulk(&[("action", "deactivate")]).await, "3 products deactivated.");
    assert_eq!(shop.anyone().get("/api/products/").await.is(200).count(), 0);
    says(&bulk(&[("action", "activate")]).await, "3 products activated.");
    says(&bulk(&[("action", "feature")]).await, "3 products featured.");
    assert_eq!(shop.anyone().get("/api/products/featured/").await.is(200).count(), 3);
    says(&bulk(&[("action", "category"), ("category", &other)]).await, "3 products moved to Others.");
    says(&bulk(&[("action", "category"), ("category", "")]).await, "choose a category");
    let moved = bulk(&[("action", "stock"), ("change", "-3")]).await;
    says(&moved, "2 products moved by -3 units. Left as they were: 1.");
    says(&moved, "the stock is 0, which does not allow this.");
    says(&bulk(&[("action", "stock"), ("change", "")]).await, "a valid integer is required.");
    let levels: Vec<_> = [
        shop.stock_of(&products[0]).await,
        shop.stock_of(&products[1]).await,
        shop.stock_of(&products[2]).await,
    ]
    .into();
    assert_eq!(levels, [0, 0, 6]);
    let mut browser = Browser::of_admin(&shop).await;
    browser
        .submit("/admin/products/", "/admin/products/bulk/", &[("product", &ids[0]), ("action", "burn")])
        .await
        .is(400);
    shop.audit().await;
}

#[tokio::test]
async fn products_are_found_by_what_staff_ask() {
    let shop = Shop::start().await;
    let teas = shop.new_category("Teas").await;
    shop.product("Assam").category(teas).stock(0).with("sku", "TEA-1").create().await;
    shop.product("Ceylon").category(teas).stock(4).with("featured", true).create().await;
    shop.product("Pu-erh").category(teas).stock(50).with("is_active", false).create().await;
    shop.product("Mug").stock(50).create().await;
    let mut browser = Browser::of_admin(&shop).await;
    let mut found = async |query: &str| {
        let page = browser.get(&format!("/admin/products/?{query}")).await.is(200).plain();
        ["Assam", "Ceylon", "Pu-erh", "Mug"].map(|name| page.contains(&format!(">{name}</a>")))
    };
    assert_eq!(found("").await, [true; 4]);
    assert_eq!(found("stock=out").await, [true, false, false, false]);
    assert_eq!(found("stock=low").await, [false, true, false, false]);
    assert_eq!(found("stock=in").await, [false, true, true, true]);
    assert_eq!(found("is_active=false").await, [false, false, true, false]);
    assert_eq!(found("featured=true").await, [false, true, false, false]);
    assert_eq!(found("search=tea-1").await, [true, false, false, false]);
    assert_eq!(found("search=teas&is_active=true").await, [true, true, false, false]);
    assert_eq!(found(&format!("category={teas}&stock=in")).await, [false, true, true, false]);
    let page = browser.get("/admin/products/?sort=name&stock=in").await.is(200).plain();
    let at = |name: &str| page.find(&format!(">{name}</a>")).unwrap();
    assert!(at("Ceylon") < at("Mug") && at("Mug") < at("Pu-erh"));
    assert!(page.contains("?stock=in&#38;sort=-name") || page.contains("?stock=in&sort=-name"), "{page}");
    says(&browser.get("/admin/products/?category=999&stock=many").await.is(200), "is not a valid choice.");
    says(
        &browser.get("/admin/products/?search=nothing-like-it").await.is(200),
        "No product passes these filters.",
    );
}

#[tokio::test]
async fn deleting_says_what_it_takes_along_and_categories_keep_their_products() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let mut browser = Browser::of_admin(&shop).await;
    let made = browser
        .submit(
            "/admin/categories/new/",
            "/admin/categories/new/",
            &[("name", "Teas"), ("is_active", "true")],
        )
        .await;
    says(&browser.follow(made).await, "Teas was created.");
    let category = shop.anyone().get("/api/categories/").await.is(200).results()[0]["id"].as_i64().unwrap();
    let page = format!("/admin/categories/{category}/");
    let again =
        browser.submit("/admin/categories/new/", "/admin/categories/new/", &[("name", "TEAS")]).await.is(400);
    says(&again, "category with this name already exists.");

    let form = browser.get(&page).await.is(200);
    let (csrf, seen) = (hidden(&form, "csrf"), hidden(&form, "seen"));
    shop.admin()
        .await
        .patch(&format!("/api/categories/{category}/"), json!({ "description": "x" }))
        .await
        .is(200);
    let mine = [("seen", seen.as_str()), ("name", "Herbs")];
    says(&browser.submit_with(&csrf, &page, &mine).await.is(409), "somebody changed this category");

    let tea = shop.product("Assam").category(category).stock(5).create().await;
    let order = ada.buy(&tea, 1).await.id();
    ada.fill_cart(&tea, 2).await;
    says(&browser.get(&format!("{page}delete/")).await.is(200), "It cannot be deleted yet");
    let kept = browser.submit(&page, &format!("{page}delete/"), &[]).await;
    says(&browser.follow(kept).await, "Teas was not deleted");
    let delete = format!("/admin/products/{}/delete/", tea.id);
    let asked = browser.get(&delete).await.is(200);
    says(&asked, "1 line in a cart");
    says(&asked, "2 movements of its stock, and the 4 units");
    let gone = browser.submit(&delete, &delete, &[]).await;
    says(&browser.follow(gone).await, "Assam was deleted.");
    assert_eq!(ada.cart().await["total_items"], 0);
    says(
        &browser.get(&format!("/admin/orders/{order}/")).await.is(200),
        "Assam <span class=\"badge deleted\">",
    );
    let gone = browser.submit(&page, &format!("{page}delete/"), &[]).await;
    says(&browser.follow(gone).await, "Teas was deleted.");
    let history = browser.get("/admin/history/").await.is(200);
    says(&history, "deleted");
    browser.get(&delete).await.is(404);
    shop.audit().await;
}

#[tokio::test]
async fn the_history_names_who_did_what_and_only_what_was_done_here() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let tea = shop.product("Tea").stock(5).create().await;
    let order = ada.buy(&tea, 1).await.id();
    let mut browser = Browser::of_admin(&shop).await;
    says(&browser.get("/admin/history/").await.is(200), "Nothing was changed here yet.");
    let path = format!("/admin/orders/{order}/");
    browser.submit(&path, &format!("{path}step/"), &[("to", "shipped")]).await.is(303);
    browser.submit(&path, &format!("{path}step/"), &[("to", "shipped")]).await.is(303);
    let page = browser.get(&path).await.is(200);
    says(&page, "<del>pending</del> → <ins>shipped</ins>");
    let list = browser.get("/admin/history/?admin=boss%40example.com&kind=order").await.is(200).plain();
    assert_eq!(list.matches("<ins>shipped</ins>").count(), 1, "what changes nothing is no change\n{list}");
    says(&browser.get("/admin/history/?kind=product").await.is(200), "No change passes these filters.");
    says(
        &browser.get("/admin/history/?admin=x").await.is(200),
        "There is no account with this email address.",
    );
}

#[tokio::test]
async fn lists_are_exported_as_they_are_filtered_and_no_cell_is_a_formula() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let tea = shop.product("=cmd|' /C calc'!A0").stock(5).with("description", "a \"b\", c\nd").create().await;
    shop.product("Mug").stock(0).create().await;
    let order = ada.buy(&tea, 2).await.id();
    let mut browser = Browser::of_admin(&shop).await;
    let all = browser.get("/admin/products/export/").await.is(200);
    assert_eq!(all.header("content-type"), "text/csv; charset=utf-8");
    assert!(all.header("content-disposition").starts_with("attachment; filename=\"souk-products-"), "{all}");
    let text = all.plain();
    assert!(text.starts_with("sku,name,description,price,stock,category,featured,is_active,id\n"), "{text}");
    assert!(
        text.contains("'=cmd|' /C calc'!A0,\"a \"\"b\"\", c\nd\",10.00,3,Sundries,false,true,"),
        "{text}"
    );
    let some = browser.get("/admin/products/export/?stock=out").await.is(200).plain();
    assert!(some.contains("Mug") && !some.contains("cmd"), "{some}");
    let orders = browser.get("/admin/orders/export/?status=pending").await.is(200).plain();
    assert!(
        orders.contains(&format!("\n{order},"))
            && orders.contains("ada@example.com")
            && orders.contains("20.00"),
        "{orders}"
    );
    assert_eq!(browser.get("/admin/orders/export/?status=shipped").await.is(200).plain().lines().count(), 1);
    let users = browser.get("/admin/users/export/?is_admin=false").await.is(200).plain();
    assert!(
        users.contains("ada@example.com") && !users.contains("boss@") && !users.contains("argon2"),
        "{users}"
    );
    Browser::of(&shop).get("/admin/users/export/").await.is(303);
}

#[tokio::test]
async fn an_export_of_many_rows_is_whole() {
    let shop = Shop::start().await;
    shop.souk(&["seed", "--products", "1203", "--users", "2"]).await.succeeds();
    let mut browser = Browser::of_admin(&shop).await;
    let text = browser.get("/admin/products/export/").await.is(200).plain();
    let skus: std::collections::HashSet<_> =
        text.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!((text.lines().count(), skus.len()), (1204, 1203));
}
