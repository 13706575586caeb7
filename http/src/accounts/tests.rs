//! Accounts over the service, without a socket.

use salvo::http::Method;
use serde_json::Value;

use super::*;
use crate::testing::{PASSWORD, TestShop};

#[test]
fn email_addresses_have_a_name_and_a_host_with_a_dot() {
    for good in [
        "a@b.co",
        "anna.berg+shop@mail.example.com",
        "o'neil@ex-ample.org",
        "x@bücher.example",
        "USER@EXAMPLE.COM",
    ] {
        assert!(is_email(good), "{good}");
    }
    for bad in [
        "",
        "a",
        "@",
        "a@",
        "@b.co",
        "a@b",
        "a b@c.de",
        "a@b..de",
        ".a@b.de",
        "a.@b.de",
        "a@-b.de",
        "a@b.d",
        "a@b.de.",
        "a@@b.de",
        "a@b.123",
        "ä@b.de",
        "a@b.de\n",
        "a@[127.0.0.1]",
    ] {
        assert!(!is_email(bad), "{bad}");
    }
}

#[test]
fn usernames_are_letters_digits_and_five_signs() {
    for good in ["anna", "Anna.Berg+1@home-office_2", "änna", "安娜"] {
        assert!(is_username(good), "{good}");
    }
    for bad in ["a b", "a/b", "a!", "😀", "a\u{200b}"] {
        assert!(!is_username(bad), "{bad}");
    }
}

const NEW_PASSWORD: &str = "Papaya-Drum-77";

fn papers(name: &str) -> Value {
    json!({"email": format!("{name}@example.com"), "username": name, "password": PASSWORD, "password_confirm": PASSWORD})
}

async fn log_in(shop: &TestShop, name: &str, password: &str) -> crate::testing::Answer {
    let body = json!({"email": format!("{name}@example.com"), "password": password});
    shop.post("/auth/api/token/", "", body).await
}

#[tokio::test]
async fn whoever_registers_is_signed_in_and_may_not_choose_to_be_an_admin() {
    let shop = TestShop::open().await;
    let mut body = papers("anna");
    body["is_admin"] = json!(true);
    let answer = shop.post("/auth/api/register/", "a stale token", body).await.is(201);
    assert_eq!(answer.json["is_admin"], false);
    assert_eq!(answer.json["profile"], json!({"bio": "", "avatar": null, "preferences": {}}));
    let profile = shop.get("/auth/api/profile/", answer.json["access"].as_str().unwrap()).await.is(200);
    assert_eq!(profile.json["email"], "anna@example.com");
    let taken = shop.post("/auth/api/register/", "", papers("ANNA")).await.is(400);
    let expected = json!({
        "email": ["user with this email already exists."],
        "username": ["A user with that username already exists."],
    });
    assert_eq!(taken.json, expected);
    shop.close().await;
}

#[tokio::test]
async fn of_two_who_register_one_email_at_once_the_other_is_told_on_the_field() {
    let shop = TestShop::open().await;
    let (a, b) = tokio::join!(
        shop.post("/auth/api/register/", "", papers("anna")),
        shop.post("/auth/api/register/", "", papers("anna"))
    );
    let (won, lost) = if a.status == 201 { (a, b) } else { (b, a) };
    won.is(201);
    assert!(lost.is(400).json["email"].is_array());
    shop.close().await;
}

#[tokio::test]
async fn a_taken_name_and_a_weak_password_are_told_together() {
    let shop = TestShop::open().await;
    shop.user("anna", false).await;
    let body = json!({"email": "Anna@Example.com", "username": "a b", "password": "password", "password_confirm": "x"});
    let answer = shop.post("/auth/api/register/", "", body).await.is(400);
    let mut names: Vec<_> = answer.json.as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["email", "password", "username"]);
    let mut body = papers("bert");
    body["password_confirm"] = json!("Another-Kite-43");
    let answer = shop.post("/auth/api/register/", "", body).await.is(400);
    assert_eq!(answer.json, json!({"non_field_errors": ["The two password fields didn't match."]}));
    shop.close().await;
}

#[tokio::test]
async fn the_eleventh_wrong_password_is_not_heard_and_neither_is_the_right_one() {
    let shop = TestShop::open().await;
    shop.user("anna", false).await;
    for _ in 0..10 {
        let answer = log_in(&shop, "anna", "wrong").await.is(401);
        assert_eq!(answer.json, json!({"detail": WRONG_CREDENTIALS}));
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"api\"");
    }
    for password in ["wrong", PASSWORD] {
        let answer = log_in(&shop, "ANNA", password).await.is(429);
        // Counted from the first wrong one, a moment ago.
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=900).contains(&seconds), "{seconds}");
        let detail = format!("Request was throttled. Expected available in {seconds} seconds.");
        assert_eq!(answer.json["detail"], detail.as_str());
    }
    // An account that does not exist is no different.
    for _ in 0..10 {
        log_in(&shop, "nobody", "wrong").await.is(401);
    }
    log_in(&shop, "nobody", "wrong").await.is(429);
    shop.close().await;
}

#[tokio::test]
async fn of_many_guesses_at_once_ten_are_judged() {
    let shop = TestShop::open().await;
    shop.user("anna", false).await;
    let guesses = (0..30).map(|_| log_in(&shop, "anna", "wrong"));
    let answers = futures_util::future::join_all(guesses).await;
    let judged = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!((judged, answers.iter().filter(|answer| answer.status == 429).count()), (10, 20));
    shop.close().await;
}

#[tokio::test]
async fn of_many_refreshes_with_one_token_one_wins_and_the_family_dies() {
    let shop = TestShop::open().await;
    let registered = shop.post("/auth/api/register/", "", papers("anna")).await.is(201);
    let body = json!({"refresh": registered.json["refresh"]});
    let tries = (0..8).map(|_| shop.post("/auth/api/token/refresh/", "", body.clone()));
    let (won, lost): (Vec<_>, Vec<_>) =
        futures_util::future::join_all(tries).await.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(won.len(), 1);
    for answer in lost {
        assert_eq!(answer.is(401).json, json!({"detail": "Token is invalid", "code": "token_not_valid"}));
    }
    let next = json!({"refresh": won[0].json["refresh"]});
    shop.post("/auth/api/token/refresh/", "", next.clone()).await.is(401);
    let token = json!({"token": next["refresh"]});
    shop.post("/auth/api/token/verify/", "", token).await.is(401);
    shop.post("/auth/api/token/verify/", "", json!({"token": registered.json["access"]})).await.is(200);
    shop.close().await;
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_every_login() {
    let shop = TestShop::open().await;
    let token = shop.access(&shop.user("anna", false).await);
    let login = log_in(&shop, "anna", PASSWORD).await.is(200);
    let change = async |current: &str| {
        let body =
            json!({"current_password": current, "password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD});
        shop.post("/auth/api/password/", &token, body).await
    };
    assert!(change("wrong").await.is(400).json["current_password"].is_array());
    change(PASSWORD).await.is(204);
    shop.post("/auth/api/token/refresh/", "", json!({"refresh": login.json["refresh"]})).await.is(401);
    log_in(&shop, "anna", PASSWORD).await.is(401);
    log_in(&shop, "anna", NEW_PASSWORD).await.is(200);
    for _ in 0..10 {
        change("wrong").await.is(400);
    }
    change(NEW_PASSWORD).await.is(429);
    log_in(&shop, "anna", NEW_PASSWORD).await.is(200);
    shop.close().await;
}

#[tokio::test]
async fn a_profile_changes_as_a_whole_or_not_at_all() {
    let shop = TestShop::open().await;
    let token = shop.access(&shop.user("anna", false).await);
    let patch = async |body: Value| shop.call(Method::PATCH, "/auth/api/profile/", &token, body).await;
    let answer = patch(json!({
        "first_name": " Anna ", "date_of_birth": "1990-05-17", "is_admin": true,
        "profile": {"bio": "likes maps", "preferences": {"b": 1.50, "a": [1, null]}},
    }));
    let answer = answer.await.is(200);
    assert_eq!((&answer.json["first_name"], &answer.json["is_admin"]), (&json!("Anna"), &json!(false)));
    assert_eq!(answer.json["profile"]["preferences"], json!({"b": 1.5, "a": [1, null]}));
    let bad = patch(json!({"first_name": "X", "profile": {"bio": 1, "preferences": []}})).await.is(400);
    assert_eq!(bad.json.as_object().unwrap().keys().collect::<Vec<_>>(), ["profile"]);
    let cleared = patch(json!({"date_of_birth": null})).await.is(200);
    assert!(cleared.json["date_of_birth"].is_null());
    let shown = shop.get("/auth/api/profile/", &token).await.is(200);
    assert_eq!(shown.json, cleared.json);
    assert_eq!(shown.json["first_name"], "Anna");
    shop.close().await;
}

#[tokio::test]
async fn a_deactivated_user_is_out_at_once() {
    let shop = TestShop::open().await;
    let admin = shop.access(&shop.user("root", true).await);
    let anna = shop.user("anna", false).await;
    let (token, login) = (shop.access(&anna), log_in(&shop, "anna", PASSWORD).await.is(200));
    shop.get("/auth/api/profile/", &token).await.is(200);
    let path = format!("/auth/api/users/{}/", anna.id);
    let off = json!({"is_active": false});
    let answer = shop.call(Method::PATCH, &path, &admin, off).await.is(200);
    assert_eq!((&answer.json["is_active"], answer.json["last_login"].is_string()), (&json!(false), true));
    let refused = shop.get("/auth/api/profile/", &token).await.is(401);
    assert_eq!(refused.json, json!({"detail": "User is inactive", "code": "user_inactive"}));
    shop.post("/auth/api/token/refresh/", "", json!({"refresh": login.json["refresh"]})).await.is(401);
    shop.post("/auth/api/token/verify/", "", json!({"token": token})).await.is(401);
    log_in(&shop, "anna", PASSWORD).await.is(401);
    shop.close().await;
}

#[tokio::test]
async fn only_admins_see_users_and_the_last_of_them_stays() {
    let shop = TestShop::open().await;
    let root = shop.user("root", true).await;
    let (admin, anna) = (shop.access(&root), shop.access(&shop.user("anna", false).await));
    shop.get("/auth/api/users/", "").await.is(401);
    shop.get("/auth/api/users/", &anna).await.is(403);
    let list = shop.get("/auth/api/users/?search=ANN&is_admin=false", &admin).await.is(200);
    assert_eq!((&list.json["count"], &list.json["results"][0]["username"]), (&json!(1), &json!("anna")));
    shop.get("/auth/api/users/?is_active=yes", &admin).await.is(400);
    shop.get("/auth/api/users/0/", &admin).await.is(404);
    shop.get("/auth/api/users/99/", &admin).await.is(404);
    let own = format!("/auth/api/users/{}/", root.id);
    for change in [json!({"is_admin": false}), json!({"is_active": false})] {
        let answer = shop.call(Method::PATCH, &own, &admin, change).await.is(409);
        assert!(answer.json["detail"].is_string());
    }
    shop.close().await;
}

#[tokio::test]
async fn logging_out_ends_the_login_of_the_caller_alone() {
    let shop = TestShop::open().await;
    let (anna, bert) =
        (shop.access(&shop.user("anna", false).await), shop.access(&shop.user("bert", false).await));
    let login = log_in(&shop, "anna", PASSWORD).await.is(200);
    let body = json!({"refresh": login.json["refresh"]});
    shop.post("/auth/api/logout/", "", body.clone()).await.is(401);
    shop.post("/auth/api/logout/", &bert, body.clone()).await.is(401);
    shop.post("/auth/api/logout/", &anna, body.clone()).await.is(204);
    shop.post("/auth/api/token/refresh/", "", body.clone()).await.is(401);
    shop.post("/auth/api/logout/", &anna, body).await.is(401);
    shop.close().await;
}

#[tokio::test]
async fn a_ticket_stands_for_the_token_that_bought_it() {
    let shop = TestShop::open().await;
    let user = shop.user("anna", false).await;
    shop.post("/auth/api/ws-ticket/", "", Value::Null).await.is(401);
    let answer = shop.post("/auth/api/ws-ticket/", &shop.access(&user), Value::Null).await.is(201);
    assert_eq!(answer.json["expires_in"], 60);
    let access = shop.api.tickets.redeem(answer.json["ticket"].as_str().unwrap()).await.unwrap();
    assert_eq!(access.user, user.id);
    shop.close().await;
}

#[tokio::test]
async fn credentials_that_are_none_and_bad_ones_are_told_apart() {
    let shop = TestShop::open().await;
    let answer = shop.get("/auth/api/profile/", "").await.is(401);
    assert_eq!(answer.json["detail"], "Authentication credentials were not provided.");
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"api\"");
    let answer = shop.get("/auth/api/profile/", "nonsense").await.is(401);
    let expected = json!({
        "detail": "Given token not valid for any token type",
        "code": "token_not_valid",
        "messages": [{"token_class": "AccessToken", "token_type": "access", "message": "Token is invalid"}],
    });
    assert_eq!(answer.json, expected);
    let unknown = shop.api.tokens.access(UserId(99), 0, Timestamp::now());
    assert_eq!(shop.get("/auth/api/profile/", &unknown).await.is(401).json["code"], "user_not_found");
    shop.close().await;
}
