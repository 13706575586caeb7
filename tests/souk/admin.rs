//! The door of the administration site: who gets in, for how long, whose forms are believed, and what its pages carry.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Browser, PASSWORD, Shop};

/// Far less than the half minute after which sockets are looked at anyway.
const AT_ONCE: Duration = Duration::from_secs(10);

const SESSION: &str = "souk_admin";

#[tokio::test]
async fn admins_get_in_and_nobody_else() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.admin().await, shop.register("ada").await);
    let mut browser = Browser::of(&shop);
    let turned_away = browser.get("/admin/orders/?status=pending").await.is(303);
    let login = turned_away.header("location").to_owned();
    assert_eq!(login, "/admin/login/?next=%2Fadmin%2Forders%2F%3Fstatus%3Dpending");
    assert!(browser.get(&login).await.is(200).plain().contains("Please log in to go on"));

    // A customer's right password, a wrong one and an unknown account look the same.
    for (email, password) in [(ada.email.as_str(), PASSWORD), (&admin.email, "wrong"), ("x@example.com", "y")]
    {
        let refused = browser.log_in(email, password).await.is(403);
        assert!(refused.plain().contains("do not match an active admin account"), "{refused}");
        assert!(browser.cookie(SESSION).is_none());
    }
    let empty = browser.log_in("", "").await.is(400);
    assert!(empty.plain().contains("This field may not be blank."), "{empty}");

    let fields =
        [("email", admin.email.as_str()), ("password", PASSWORD), ("next", "/admin/orders/?status=pending")];
    let let_in = browser.submit(&login, "/admin/login/", &fields).await.is(303);
    assert_eq!(let_in.header("location"), "/admin/orders/?status=pending");
    let cookie = let_in.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let cookie = cookie.into_iter().find(|cookie| cookie.starts_with("souk_admin=")).unwrap();
    assert!(cookie.ends_with("; Path=/admin/; HttpOnly; SameSite=Lax"), "{cookie}");
    browser.get("/admin/orders/").await.is(200);
    assert_eq!(browser.get("/admin/login/").await.is(303).header("location"), "/admin/");
    assert_eq!(browser.get("/admin").await.is(308).header("location"), "/admin/");

    // A login anew is another one, and the old is gone.
    let old = browser.cookie(SESSION).unwrap().clone();
    let csrf = {
        let mut fresh = Browser::of(&shop);
        let csrf = fresh.csrf("/admin/login/").await;
        browser.set_cookie("souk_admin_login", fresh.cookie("souk_admin_login").unwrap());
        csrf
    };
    let fields = [("email", admin.email.as_str()), ("password", PASSWORD), ("next", "https://evil.example/")];
    let anew = browser.submit_with(&csrf, "/admin/login/", &fields).await.is(303);
    assert_eq!(anew.header("location"), "/admin/", "never to a foreign place");
    assert_ne!(browser.cookie(SESSION).unwrap(), &old);
    let mut stale = Browser::of(&shop);
    stale.set_cookie(SESSION, &old);
    stale.get("/admin/").await.is(303);

    let page = browser.get("/admin/").await.is(200);
    assert!(page.plain().contains(&admin.email));
    browser.submit("/admin/", "/admin/logout/", &[]).await.is(303);
    assert!(browser.cookie(SESSION).is_none());
    browser.get("/admin/").await.is(303);
}

#[tokio::test]
async fn guesses_are_counted_with_those_at_the_api() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let mut browser = Browser::of(&shop);
    for _ in 0..10 {
        browser.log_in(&admin.email, "wrong").await.is(403);
    }
    let braked = browser.log_in(&admin.email, PASSWORD).await.is(429);
    assert!(braked.plain().contains("Request was throttled."), "{braked}");
    let login = serde_json::json!({ "email": admin.email, "password": PASSWORD });
    shop.anyone().post("/auth/api/token/", login).await.is(429);
}

#[tokio::test]
async fn a_login_ends_with_the_rights_and_the_password_it_began_with() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let second = shop.another_admin("second").await;
    let path = format!("/auth/api/users/{}/", second.id);
    let signed_in = async || {
        let mut browser = Browser::of(&shop);
        browser.log_in(&second.email, PASSWORD).await.is(303);
        browser.get("/admin/").await.is(200);
        browser
    };
    for (off, on) in [
        (serde_json::json!({ "is_active": false }), serde_json::json!({ "is_active": true })),
        (serde_json::json!({ "is_admin": false }), serde_json::json!({ "is_admin": true })),
    ] {
        let mut browser = signed_in().await;
        admin.patch(&path, off).await.is(200);
        browser.get("/admin/").await.is(303);
        admin.patch(&path, on).await.is(200);
        browser.get("/admin/").await.is(303);
    }
    let mut browser = signed_in().await;
    let change = serde_json::json!({
        "current_password": PASSWORD, "password": "Walnut-Harbour-7", "password_confirm": "Walnut-Harbour-7",
    });
    second.post("/auth/api/password/", change).await.is(204);
    browser.get("/admin/").await.is(303);
}

#[tokio::test]
async fn a_login_holds_on_every_node_and_over_a_restart() {
    let mut shop = Shop::start().await;
    let mut browser = Browser::of_admin(&shop).await;
    let node = shop.node(&[]).await;
    browser.at(&node).get("/admin/").await.is(200);
    shop.restart().await;
    browser.get("/admin/").await.is(200);
    browser.submit("/admin/", "/admin/logout/", &[]).await.is(303);
    browser.at(&node).get("/admin/").await.is(303);
}

#[tokio::test]
async fn only_forms_of_the_sites_own_pages_are_believed() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let mut browser = Browser::of_admin(&shop).await;
    let mut other = Browser::of_admin(&shop).await;
    let action = format!("/admin/users/{}/switch/", ada.id);
    let csrf = browser.csrf("/admin/").await;
    let foreign = other.csrf("/admin/").await;
    let off = ("is_active", "false");

    for token in ["", "x", &foreign, &csrf[1..]] {
        let refused = browser.send(&action, &[("csrf", token), off], &[]).await.is(403);
        assert!(refused.plain().contains("This form was out of date"), "{refused}");
    }
    browser.send(&action, &[off], &[]).await.is(403);
    let fields = [("csrf", csrf.as_str()), off];
    for headers in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let refused = browser.send(&action, &fields, &[headers]).await.is(403);
        assert!(refused.header("content-type").starts_with("text/html"), "{refused}");
    }
    // Without a login it is not even read.
    Browser::of(&shop).send(&action, &fields, &[]).await.is(303);
    // A login form of elsewhere would sign somebody in as somebody else.
    let mut visitor = Browser::of(&shop);
    let admin = shop.admin().await;
    let login = [("csrf", csrf.as_str()), ("email", admin.email.as_str()), ("password", PASSWORD)];
    visitor.send("/admin/login/", &login, &[]).await.is(403);
    visitor.csrf("/admin/login/").await;
    visitor.send("/admin/login/", &login, &[]).await.is(403);
    visitor.send("/admin/login/", &login, &[("origin", "https://evil.example")]).await.is(403);
    assert!(visitor.cookie(SESSION).is_none());

    let ada_now = admin.get(&format!("/auth/api/users/{}/", ada.id)).await.is(200);
    assert_eq!(ada_now["is_active"], true, "nothing was done\n{ada_now}");
    browser.send(&action, &fields, &[]).await.is(303);
    // What is neither a form nor small is refused before it is understood.
    let long = "x".repeat(1024 * 1024);
    browser.send(&action, &[("csrf", &csrf), ("more", &long)], &[]).await.is(413);
}

#[tokio::test]
async fn pages_allow_nothing_but_themselves_and_errors_are_pages_too() {
    let shop = Shop::start().await;
    let mut browser = Browser::of_admin(&shop).await;
    let login = Browser::of(&shop).get("/admin/login/").await.is(200);
    let pages = [
        login,
        browser.get("/admin/").await.is(200),
        browser.get("/admin/live/").await.is(200),
        browser.get("/admin/orders/999/").await.is(404),
        browser.get("/admin/orders/x/").await.is(404),
        browser.get("/admin/nothing/there/").await.is(404),
        browser.get("/admin/logout/").await.is(405),
        browser.get("/admin/assets/admin.css").await.is(404),
    ];
    for page in pages {
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8", "{page}");
        assert_eq!(page.header("cache-control"), "no-store", "{page}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{page}");
        let policy = page.header("content-security-policy");
        for rule in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"]
        {
            assert!(policy.contains(rule), "{page}");
        }
        assert!(!policy.contains("unsafe"), "{page}");
        let text = page.plain();
        for slip in [" style=", " onclick=", "<style", "<script>", "javascript:"] {
            assert!(!text.contains(slip), "{slip}\n{page}");
        }
    }
    // Elsewhere they are JSON, as ever.
    assert_eq!(shop.anyone().get("/adminx/").await.is(404)["detail"], "Not found.");

    let dashboard = browser.get("/admin/").await.plain();
    for kind in ["css", "js"] {
        let end = format!(".{kind}\"");
        let path = dashboard.split(&end).next().and_then(|text| text.rsplit('"').next()).unwrap();
        let asset = shop.anyone().get(&format!("{path}.{kind}")).await.is(200);
        assert_eq!(asset.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(asset.header("x-content-type-options"), "nosniff");
        assert!(asset.bytes.len() > 1000, "{asset}");
    }
    // A script that asks when the session is over hears so by the status.
    Browser::of(&shop).get("/admin/live/").await.is(401);
}

#[tokio::test]
async fn pages_are_compressed_like_everything_else() {
    let shop = Shop::start().await;
    let page = shop.anyone().call(reqwest::Method::GET, "/admin/login/").header("accept-encoding", "br");
    assert_eq!(page.send().await.is(200).header("content-encoding"), "br");
}

#[tokio::test]
async fn whose_password_an_admin_sets_is_logged_out_everywhere_at_once() {
    const NEW: &str = "Walnut-Harbour-7";
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let mut socket = ada.socket().await;
    let ticket = ada.post("/auth/api/ws-ticket/", json!({})).await.is(201).text("ticket").to_owned();
    let mut browser = Browser::of_admin(&shop).await;
    let path = format!("/admin/users/{}/", ada.id);
    let fields = [("password", NEW), ("password_confirm", NEW)];
    let done = browser.submit(&path, &format!("{path}password/"), &fields).await;
    assert!(browser.follow(done).await.plain().contains("is logged out everywhere"));
    ada.get("/auth/api/profile/").await.is(401);
    ada.post("/auth/api/token/verify/", json!({ "token": ada.access })).await.is(401);
    ada.post("/auth/api/token/refresh/", json!({ "refresh": ada.refresh })).await.is(401);
    let closed = tokio::time::timeout(AT_ONCE, socket.closed_with()).await;
    assert_eq!(closed.expect("it is closed at once"), Some(4401));
    let (status, _) = ada.knock().query("ticket", &ticket).refused().await;
    assert_eq!(status, 401, "a ticket that was bought before opens nothing");
    // The new login holds, and so does what is made of it.
    let again = shop.anyone().signed_in_as(&ada.email, NEW).await;
    let _socket = again.socket().await;
    let pair = again.post("/auth/api/token/refresh/", json!({ "refresh": again.refresh })).await.is(200);
    again.bearing(pair.text("access")).get("/auth/api/profile/").await.is(200);
    // Who changes his own password goes on with what he has in hand.
    let change = json!({ "current_password": NEW, "password": PASSWORD, "password_confirm": PASSWORD });
    again.post("/auth/api/password/", change).await.is(204);
    again.get("/auth/api/profile/").await.is(200);
}

#[tokio::test]
async fn who_is_no_admin_any_more_sees_no_events_of_others_from_that_moment() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.admin().await, shop.register("ada").await);
    let second = shop.another_admin("second").await;
    let mut watching = second.knock().door_of(&ada.id).bearer(&second.access).open().await;
    let mut own = second.socket().await;
    let path = format!("/auth/api/users/{}/", second.id);
    admin.patch(&path, json!({ "is_admin": false })).await.is(200);
    let closed = tokio::time::timeout(AT_ONCE, watching.closed_with()).await;
    assert_eq!(closed.expect("it is closed at once"), Some(4403));
    own.is_quiet().await;
    second.get("/auth/api/profile/").await.is(200);
}

#[tokio::test]
async fn a_form_that_says_nothing_of_use_is_told_so() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let mut browser = Browser::of_admin(&shop).await;
    let path = format!("/admin/users/{}/", ada.id);
    for fields in [&[("is_admin", "maybe")][..], &[]] {
        let refused = browser.submit(&path, &format!("{path}switch/"), fields).await.is(400);
        assert!(refused.plain().contains("nothing that can be done to an account"), "{refused}");
    }
    // A filter that is no good would export everything.
    for list in ["products/", "orders/", "users/"] {
        let query = "?status=bogus&is_active=perhaps&customer=nobody%40example.com";
        let elsewhere = browser.get(&format!("/admin/{list}export/{query}")).await.is(303);
        let location = elsewhere.header("location").to_owned();
        assert!(location.starts_with(&format!("/admin/{list}?")), "{location}");
        assert!(browser.get(&location).await.is(200).plain().contains("class=\"error\""));
    }
    let mut stranger = Browser::of(&shop);
    let mut answer = stranger.log_in("x@example.com", "wrong").await;
    while answer.status == 403 {
        answer = stranger.log_in("x@example.com", "wrong").await;
    }
    assert!(answer.is(429).header("retry-after").parse::<u64>().unwrap() > 0);
}
