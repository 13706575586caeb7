//! The admin's side of accounts: the list of users with its filters, and the two switches. A switch works at
//! once, and the last admin cannot lock everyone out.

use serde_json::{Value, json};

use crate::harness::{PASSWORD, Shop};

#[tokio::test]
async fn users_are_shown_to_admins_alone() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let one = format!("/auth/api/users/{}/", ada.id);
    for path in ["/auth/api/users/", &one] {
        shop.anyone().get(path).await.is(401);
        let refusal = ada.get(path).await.is(403);
        refusal.has_detail("You do not have permission to perform this action.");
        admin.get(path).await.is(200);
    }
    ada.patch(&one, json!({ "is_admin": true })).await.is(403);
    shop.anyone().patch(&one, json!({ "is_admin": true })).await.is(401);

    let user = admin.get(&one).await.is(200);
    for field in ["is_active", "is_admin", "last_login", "email", "username", "profile", "date_joined"] {
        assert!(user.json.as_object().unwrap().contains_key(field), "{field}\n{user}");
    }
    assert_eq!((&user["is_active"], &user["is_admin"]), (&json!(true), &json!(false)), "{user}");
    shop.anyone().signed_in_as(&ada.email, PASSWORD).await;
    assert!(admin.get(&one).await.is(200)["last_login"].is_string());
    admin.get("/auth/api/users/999999/").await.is(404).has_detail("Not found.");
    admin.patch("/auth/api/users/999999/", json!({ "is_active": false })).await.is(404);
}

#[tokio::test]
async fn users_can_be_searched_and_filtered() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    shop.register("bea").await;
    let admin = shop.admin().await;
    admin.patch(&format!("/auth/api/users/{}/", ada.id), json!({ "is_active": false })).await.is(200);
    let get = async |query: &str| admin.get(&format!("/auth/api/users/?{query}")).await;
    let names = async |query: &str| {
        let mut names = get(query).await.is(200).column("username");
        names.sort();
        names
    };
    assert_eq!(names("").await, ["ada", "bea", "boss"]);
    assert_eq!(names("is_active=true").await, ["bea", "boss"]);
    assert_eq!(names("is_active=false").await, ["ada"]);
    assert_eq!(names("is_admin=true").await, ["boss"]);
    assert_eq!(names("is_admin=false&is_active=true").await, ["bea"]);
    assert_eq!(names("search=ADA").await, ["ada"]);
    assert_eq!(names("search=bea%40example").await, ["bea"]);
    assert_eq!(names("search=%25").await, [""; 0]);
    assert_eq!(names("is_active=&search=&is_admin=").await, ["ada", "bea", "boss"]);
    get("is_active=maybe").await.refuses("is_active");
    get("is_admin=1.5").await.refuses("is_admin");
    get("search=a%00").await.refused_properly();
    assert_eq!(get("page_size=2&page=2").await.is(200).results().len(), 1);
    get("page=9").await.is(404).has_detail("Invalid page.");
}

#[tokio::test]
async fn a_deactivated_user_is_out_at_once() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").create().await;
    let one = format!("/auth/api/users/{}/", ada.id);
    ada.fill_cart(&lamp, 1).await;
    ada.get("/auth/api/profile/").await.is(200);

    let answer = admin.patch(&one, json!({ "is_active": false })).await.is(200);
    assert_eq!(answer["is_active"], false, "{answer}");
    ada.get("/auth/api/profile/").await.is(401);
    ada.checkout().await.is(401);
    ada.get("/api/cart/").await.is(401);
    ada.post("/auth/api/token/refresh/", json!({ "refresh": ada.refresh })).await.is(401);
    let login = json!({ "email": ada.email, "password": PASSWORD });
    let refusal = shop.anyone().post("/auth/api/token/", login).await.is(401);
    refusal.has_detail("No active account found with the given credentials");
    let (status, _) = ada.knock().bearer(&ada.access).refused().await;
    assert_eq!(status, 401);

    admin.patch(&one, json!({ "is_active": true })).await.is(200);
    shop.anyone().signed_in_as(&ada.email, PASSWORD).await.get("/api/cart/").await.is(200);
    assert_eq!(shop.stock_of(&lamp).await, 100);
}

#[tokio::test]
async fn rights_come_and_go_at_once() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let one = format!("/auth/api/users/{}/", ada.id);
    let set = async |value: Value| admin.patch(&one, json!({ "is_admin": value })).await;
    ada.get("/auth/api/users/").await.is(403);
    assert_eq!(set(json!(true)).await.is(200)["is_admin"], true);
    ada.get("/auth/api/users/").await.is(200);
    ada.post("/api/categories/", json!({ "name": "Lights" })).await.is(201);
    set(json!(false)).await.is(200);
    ada.get("/auth/api/users/").await.is(403);
    ada.post("/api/categories/", json!({ "name": "More lights" })).await.is(403);

    for bad in [json!("perhaps"), json!(null), json!([true]), json!({})] {
        set(bad.clone()).await.refuses("is_admin");
        admin.patch(&one, json!({ "is_active": bad })).await.refuses("is_active");
    }
    // What else is in the body is not this call's business.
    let answer = admin.patch(&one, json!({ "email": "eve@example.com", "is_active": true })).await.is(200);
    assert_eq!(answer["email"], ada.email, "{answer}");
}

#[tokio::test]
async fn the_last_active_admin_stays() {
    let shop = Shop::start().await;
    let admin = shop.admin().await;
    let own = format!("/auth/api/users/{}/", admin.id);
    for change in [
        json!({ "is_admin": false }),
        json!({ "is_active": false }),
        json!({ "is_active": false, "is_admin": false }),
    ] {
        let answer = admin.patch(&own, change).await.is(409);
        assert!(answer["detail"].is_string(), "{answer}");
    }
    admin.patch(&own, json!({ "is_admin": true, "is_active": true })).await.is(200);

    let second = shop.another_admin("second").await;
    let other = format!("/auth/api/users/{}/", second.id);
    admin.patch(&other, json!({ "is_active": false })).await.is(200);
    // An admin who is not active does not count.
    admin.patch(&own, json!({ "is_admin": false })).await.is(409);
    admin.patch(&other, json!({ "is_active": true })).await.is(200);
    admin.patch(&own, json!({ "is_admin": false })).await.is(200);
    admin.get("/auth/api/users/").await.is(403);
    shop.anyone().signed_in_as(&second.email, PASSWORD).await.get("/auth/api/users/").await.is(200);
}
