//! Orders and users on the administration site: found, shown as text, moved on, and what customers and others hear of it.

use serde_json::json;

use crate::harness::{Browser, PASSWORD, Shop, hidden};

#[tokio::test]
async fn a_shipped_order_is_told_to_its_customer_and_a_stale_page_undoes_nothing() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let tea = shop.product("Tea").price("2.50").stock(10).create().await;
    let order = ada.buy(&tea, 3).await.id();
    let mut socket = ada.socket().await;
    let mut browser = Browser::of_admin(&shop).await;
    let path = format!("/admin/orders/{order}/");
    let page = browser.get(&path).await.is(200).plain();
    for text in ["7.50", "Tea", "ada@example.com", "pending", "Ship", "Cancel the order"] {
        assert!(page.contains(text), "{text} is missing\n{page}");
    }
    assert!(!page.contains("Mark as delivered"), "only what is allowed now");

    let step = format!("{path}step/");
    let shipped = browser.submit(&path, &step, &[("to", "shipped")]).await;
    let page = browser.follow(shipped).await.plain();
    assert!(page.contains(&format!("Order #{order} is shipped now.")), "{page}");
    let told = socket.next_event().await;
    assert_eq!((&told["type"], &told["status"]), (&json!("order_status_update"), &json!("shipped")));

    // Somebody who still sees the old page is told, and nothing happens.
    let late = browser.submit(&path, &step, &[("to", "cancelled")]).await;
    let page = browser.follow(late).await.plain();
    assert!(page.contains("is shipped and cannot become cancelled"), "{page}");
    assert!(!browser.get(&path).await.plain().contains("cannot become"), "it is said once");
    browser.submit(&path, &step, &[("to", "lost")]).await.is(400);
    browser.submit(&path, "/admin/orders/999/step/", &[("to", "shipped")]).await.is(404);
    assert_eq!(shop.stock_of(&tea).await, 7);
    shop.audit().await;
}

#[tokio::test]
async fn chosen_orders_are_shipped_together_and_the_rest_is_explained() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let tea = shop.product("Tea").stock(100).create().await;
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(ada.buy(&tea, 1).await.id());
    }
    for order in &orders[8..] {
        ada.post(&format!("/api/orders/{order}/cancel/"), json!({})).await.is(200);
    }
    let mut browser = Browser::of_admin(&shop).await;
    let ids: Vec<String> = orders.iter().map(i64::to_string).collect();
    let mut fields = vec![("to", "shipped"), ("back", "?status=pending")];
    fields.extend(ids.iter().map(|id| ("order", id.as_str())));
    let done = browser.submit("/admin/orders/", "/admin/orders/step/", &fields).await.is(303);
    assert_eq!(done.header("location"), "/admin/orders/?status=pending");
    let page = browser.follow(done).await.plain();
    assert!(page.contains("8 orders shipped. Left as they were: 2 were cancelled already."), "{page}");
    let again = browser.submit("/admin/orders/", "/admin/orders/step/", &fields).await;
    let page = browser.follow(again).await.plain();
    assert!(page.contains("No order was shipped."), "{page}");
    let none = browser.submit("/admin/orders/", "/admin/orders/step/", &[("to", "shipped")]).await;
    assert!(browser.follow(none).await.plain().contains("No order was chosen"));
    assert_eq!(shop.admin().await.get("/api/orders/?status=shipped").await.is(200).count(), 8);
    shop.audit().await;
}

#[tokio::test]
async fn orders_are_found_by_status_customer_and_day() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let tea = shop.product("Tea").create().await;
    let first = ada.buy(&tea, 1).await.id();
    let second = bea.buy(&tea, 1).await.id();
    shop.admin().await.set_status(first, "shipped").await.is(200);
    let mut browser = Browser::of_admin(&shop).await;
    let mut found = async |query: &str| {
        let page = browser.get(&format!("/admin/orders/?{query}")).await.is(200).plain();
        (page.contains(&format!(">#{first}<")), page.contains(&format!(">#{second}<")), page)
    };
    for (query, one, two) in [
        ("", true, true),
        ("status=shipped", true, false),
        ("customer=BEA%40example.com", false, true),
        ("from=2020-01-01&until=2999-12-31", true, true),
        ("until=2020-01-01", false, false),
        ("from=2999-01-01", false, false),
    ] {
        let (has_one, has_two, page) = found(query).await;
        assert_eq!((has_one, has_two), (one, two), "{query}\n{page}");
    }
    assert!(found(&format!("customer={}", ada.id)).await.0);
    for (query, message) in [
        ("status=lost", "is not a valid choice."),
        ("customer=nobody%40example.com", "There is no account with this email address or number."),
        ("from=yesterday", "Date has wrong format."),
        ("from=2026-02-02&until=2026-02-01", "This day is before the first one."),
    ] {
        let page = found(query).await.2;
        assert!(page.contains(message), "{query}\n{page}");
    }
    assert!(found("until=2020-01-01").await.2.contains("No order passes these filters."));
    assert_eq!(
        browser.get("/admin/orders/?status=shipped&page=7").await.is(303).header("location"),
        "/admin/orders/?status=shipped&page=1"
    );
}

#[tokio::test]
async fn new_orders_appear_on_the_dashboard() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let tea = shop.product("Tea").price("12.00").stock(3).create().await;
    let mut browser = Browser::of_admin(&shop).await;
    assert!(browser.get("/admin/").await.is(200).plain().contains("No orders yet."));
    let order = ada.buy(&tea, 3).await.id();
    let live = browser.get("/admin/live/").await.is(200).plain();
    assert!(live.contains(&format!("data-id=\"{order}\"")) && !live.contains("<html"), "{live}");
    // Whoever opens the page sees what is so now, and nobody sees older numbers after that.
    let page = browser.get("/admin/").await.is(200).plain();
    assert!(page.contains("36.00") && page.contains("sold out"), "{page}");
    ada.post(&format!("/api/orders/{order}/cancel/"), serde_json::json!({})).await.is(200);
    let page = browser.get("/admin/").await.is(200).plain();
    assert!(page.contains("<h2>cancelled</h2><p class=\"number\">1</p>"), "{page}");
    let again = ada.buy(&tea, 3).await.id();
    assert!(browser.get("/admin/live/").await.is(200).plain().contains(&format!("data-id=\"{again}\"")));
    crate::harness::eventually("the numbers follow", async || {
        let mut browser = browser.at(&shop);
        let page = browser.get("/admin/live/").await.is(200).plain();
        page.contains("36.00") && page.contains("sold out") && page.contains("<rect")
    })
    .await;
}

#[tokio::test]
async fn accounts_are_switched_but_never_the_last_admin_off() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.admin().await, shop.register("ada").await);
    let mut browser = Browser::of_admin(&shop).await;
    let (path, own) = (format!("/admin/users/{}/", ada.id), format!("/admin/users/{}/", admin.id));
    let switch = format!("{path}switch/");
    let off = browser.submit(&path, &switch, &[("is_active", "false")]).await;
    let page = browser.follow(off).await.plain();
    assert!(page.contains("ada@example.com is deactivated now."), "{page}");
    assert!(
        page.contains("<b>active</b>") && page.contains("boss@example.com · changed"),
        "the history\n{page}"
    );
    ada.get("/auth/api/profile/").await.is(401);
    let on = browser.submit(&path, &switch, &[("is_active", "true")]).await;
    assert!(browser.follow(on).await.plain().contains("ada@example.com is active now."));
    ada.get("/auth/api/profile/").await.is(200);

    for field in ["is_active", "is_admin"] {
        let last = browser.submit(&own, &format!("{own}switch/"), &[(field, "false")]).await;
        assert!(browser.follow(last).await.plain().contains("this is the last active admin"));
    }
    let made = browser.submit(&path, &switch, &[("is_admin", "true")]).await;
    assert!(browser.follow(made).await.plain().contains("ada@example.com is an admin now."));
    Browser::of(&shop).log_in(&ada.email, PASSWORD).await.is(303);
    // Who takes their own rights away is out at once.
    browser.submit(&own, &format!("{own}switch/"), &[("is_admin", "false")]).await.is(303);
    browser.get("/admin/").await.is(303);
    browser.get("/admin/users/999/").await.is(303);
}

#[tokio::test]
async fn a_new_password_ends_every_login_of_its_user() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let mut browser = Browser::of_admin(&shop).await;
    let path = format!("/admin/users/{}/", ada.id);
    let action = format!("{path}password/");
    for (one, two, message) in [
        ("", "", "This field may not be blank."),
        ("12345678", "12345678", "This password is entirely numeric."),
        ("Walnut-Harbour-7", "Walnut-Harbour-8", "The two password fields didn&#39;t match."),
    ] {
        let refused =
            browser.submit(&path, &action, &[("password", one), ("password_confirm", two)]).await.is(400);
        assert!(refused.plain().contains(message), "{message}\n{refused}");
        assert!(!refused.plain().contains("Harbour"), "it is never shown\n{refused}");
    }
    let new = [("password", "Walnut-Harbour-7"), ("password_confirm", "Walnut-Harbour-7")];
    let set = browser.submit(&path, &action, &new).await;
    let page = browser.follow(set).await.plain();
    assert!(
        page.contains("has a new password") && page.contains("set anew") && !page.contains("argon2"),
        "{page}"
    );
    ada.post("/auth/api/token/refresh/", json!({ "refresh": ada.refresh })).await.is(401);
    shop.anyone().signed_in_as(&ada.email, "Walnut-Harbour-7").await;
}

#[tokio::test]
async fn what_customers_write_is_shown_as_text() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let profile = json!({
        "first_name": evil, "last_name": evil, "phone": "<b>1</b>", "address": evil, "profile": { "bio": evil },
    });
    ada.patch("/auth/api/profile/", profile).await.is(200);
    let tea = shop.product("Tea").with("name", evil).with("sku", "<i>sku</i>").stock(5).create().await;
    ada.fill_cart(&tea, 5).await;
    let order = ada
        .post("/api/orders/", json!({ "shipping_address": evil, "phone": "<b>2</b>", "notes": evil }))
        .await;
    let order = order.is(201).id();
    let mut browser = Browser::of_admin(&shop).await;
    let query = crate::harness::escaped(evil);
    for path in [
        "/admin/",
        &format!("/admin/orders/{order}/"),
        "/admin/users/",
        &format!("/admin/users/{}/", ada.id),
        &format!("/admin/orders/?customer={query}"),
        &format!("/admin/users/?search={query}"),
    ] {
        let page = browser.get(path).await.is(200).plain();
        for raw in ["<script>alert", "<img", "<b>1", "<b>2", "<i>sku"] {
            assert!(!page.contains(raw), "{path} lets {raw} through\n{page}");
        }
        assert!(page.contains("&#60;script&#62;alert(1)"), "{path}\n{page}");
    }
    let login = Browser::of(&shop).get(&format!("/admin/login/?next={query}")).await.is(200);
    assert_eq!(hidden(&login, "next"), "/admin/");
}
