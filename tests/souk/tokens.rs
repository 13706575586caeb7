//! Tokens: what is in them, how refresh tokens rotate and die, and that no token which the server did not
//! make, or made for something else, opens a door.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::harness::{Answer, Forgery, PASSWORD, Shop, Shopper, claims_of};

async fn refresh(who: &Shopper, token: &str) -> Answer {
    who.post("/auth/api/token/refresh/", json!({ "refresh": token })).await
}

/// The refusal of a refresh token.
fn is_dead(answer: Answer) {
    let answer = answer.is(401).has_detail("Token is invalid");
    assert_eq!(answer["code"], "token_not_valid", "{answer}");
}

#[tokio::test]
async fn tokens_say_what_they_are() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    for (token, kind, lifetime) in
        [(&ada.access, "access", 60 * 60), (&ada.refresh, "refresh", 7 * 24 * 60 * 60)]
    {
        let claims = claims_of(token);
        assert_eq!(claims["token_type"], kind, "{claims}");
        let user = claims["user_id"].as_str().map_or_else(|| claims["user_id"].to_string(), str::to_owned);
        assert_eq!(user, ada.id.to_string(), "{claims}");
        assert!(claims["jti"].as_str().is_some_and(|jti| !jti.is_empty()), "{claims}");
        let (issued, expires) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        assert_eq!(expires - issued, lifetime, "{claims}");
    }
    assert_ne!(claims_of(&ada.access)["jti"], claims_of(&ada.refresh)["jti"]);
}

#[tokio::test]
async fn refresh_tokens_rotate_and_a_used_one_kills_its_family() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let elsewhere = shop.anyone().signed_in_as(&ada.email, PASSWORD).await;
    let anyone = shop.anyone();

    let second = refresh(&anyone, &ada.refresh).await.is(200);
    assert_eq!(second.refused_fields(), ["access", "refresh"], "{second}");
    assert_ne!(second.text("refresh"), ada.refresh);
    ada.bearing(second.text("access")).get("/auth/api/profile/").await.is(200);
    let third = refresh(&anyone, second.text("refresh")).await.is(200);

    is_dead(refresh(&anyone, &ada.refresh).await);
    is_dead(refresh(&anyone, third.text("refresh")).await);
    is_dead(refresh(&anyone, second.text("refresh")).await);
    // Another sign-in is another family.
    refresh(&anyone, &elsewhere.refresh).await.is(200);
}

#[tokio::test]
async fn refreshing_outlives_a_restart_and_so_does_revocation() {
    let mut shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let bea = shop.register("bea").await;
    let next = refresh(&ada, &ada.refresh).await.is(200);
    bea.post("/auth/api/logout/", json!({ "refresh": bea.refresh })).await.is(204);
    shop.restart().await;
    is_dead(refresh(&shop.anyone(), &bea.refresh).await);
    let third = refresh(&shop.anyone(), next.text("refresh")).await.is(200);
    shop.restart().await;
    is_dead(refresh(&shop.anyone(), &ada.refresh).await);
    is_dead(refresh(&shop.anyone(), third.text("refresh")).await);
}

#[tokio::test]
async fn only_a_living_refresh_token_refreshes() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let anyone = shop.anyone();
    is_dead(refresh(&anyone, &ada.access).await);
    is_dead(refresh(&anyone, "nonsense").await);
    is_dead(refresh(&anyone, &Forgery::of(&ada.refresh).signed_with(&"x".repeat(40)).token()).await);
    is_dead(refresh(&anyone, &Forgery::of(&ada.refresh).unsigned()).await);
    let expired = refresh(&anyone, &Forgery::of(&ada.refresh).expires_in(-1).token()).await.is(401);
    assert_eq!(expired["code"], "token_not_valid", "{expired}");
    refresh(&anyone, "").await.refused_properly();
    anyone
        .post("/auth/api/token/refresh/", json!({}))
        .await
        .refuses_with("refresh", "This field is required.");
    anyone.post("/auth/api/token/refresh/", json!({ "refresh": null })).await.refuses("refresh");
    anyone.post("/auth/api/token/refresh/", json!({ "refresh": [ada.refresh] })).await.refuses("refresh");
    // None of that has hurt the real one.
    let next = refresh(&anyone, &ada.refresh).await.is(200);
    is_dead(refresh(&anyone, &Forgery::of(next.text("refresh")).claim("jti", "made-up").token()).await);
}

#[tokio::test]
async fn verify_tells_good_from_bad() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let anyone = shop.anyone();
    let verify = |token: String| {
        let anyone = shop.anyone();
        async move { anyone.post("/auth/api/token/verify/", json!({ "token": token })).await }
    };
    for good in [&ada.access, &ada.refresh] {
        assert_eq!(verify(good.clone()).await.is(200).json, json!({}));
    }
    let forged = Forgery::of(&ada.access).signed_with(&"x".repeat(40)).token();
    let expired = Forgery::of(&ada.access).expires_in(-1).token();
    for bad in [forged, expired, "nonsense".to_owned(), Forgery::of(&ada.access).unsigned()] {
        let answer = verify(bad).await.is(401);
        assert_eq!(answer["code"], "token_not_valid", "{answer}");
    }
    anyone.post("/auth/api/token/verify/", json!({})).await.refuses_with("token", "This field is required.");
}

#[tokio::test]
async fn logging_out_kills_the_token_and_its_descendants() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let anyone = shop.anyone();
    anyone.post("/auth/api/logout/", json!({ "refresh": ada.refresh })).await.is(401);
    ada.post("/auth/api/logout/", json!({})).await.refuses("refresh");
    ada.post("/auth/api/logout/", json!({ "refresh": "nonsense" })).await.refused_properly();
    ada.post("/auth/api/logout/", json!({ "refresh": ada.access })).await.refused_properly();
    let next = refresh(&anyone, &ada.refresh).await.is(200);

    ada.post("/auth/api/logout/", json!({ "refresh": next.text("refresh") })).await.is(204);
    is_dead(refresh(&anyone, next.text("refresh")).await);

    let bea = shop.register("bea").await;
    let child = refresh(&anyone, &bea.refresh).await.is(200);
    let answer = bea.post("/auth/api/logout/", json!({ "refresh": bea.refresh })).await;
    assert!([204, 401].contains(&answer.status), "{answer}");
    is_dead(refresh(&anyone, child.text("refresh")).await);

    // Nobody logs anybody else out.
    let (cleo, dora) = (shop.register("cleo").await, shop.register("dora").await);
    dora.post("/auth/api/logout/", json!({ "refresh": cleo.refresh })).await;
    refresh(&anyone, &cleo.refresh).await.is(200);
}

#[tokio::test]
async fn no_credentials_and_bad_ones_are_told_apart() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let get = |authorization: &str| {
        shop.anyone()
            .call(reqwest::Method::GET, "/auth/api/profile/")
            .header("authorization", authorization)
            .send()
    };
    for none in ["", "Basic YWRhOmFkYQ==", "Token abc", &ada.access] {
        let answer = get(none).await.is(401);
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"api\"");
        answer.has_detail("Authentication credentials were not provided.");
    }
    for odd in ["Bearer", "Bearer ", "Bearer a b", &format!("Bearer {} x", ada.access), "Bearer ünï"] {
        get(odd).await.is(401);
    }
    get(&format!("Bearer {}", ada.access)).await.is(200);
}

#[tokio::test]
async fn no_forged_access_token_opens_a_door() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let forgery = || Forgery::of(&ada.access);
    let mut tampered: Vec<String> = ada.access.split('.').map(str::to_owned).collect();
    tampered[1] = admin.access.split('.').nth(1).unwrap().to_owned();
    let bad = [
        ("another key", forgery().signed_with(&"k".repeat(48)).token()),
        ("an empty key", forgery().signed_with("").token()),
        ("no algorithm", forgery().unsigned()),
        ("another algorithm", forgery().algorithm(Algorithm::HS512).token()),
        ("another algorithm", forgery().algorithm(Algorithm::HS384).token()),
        ("a key id and another key", forgery().key_id("../../dev/null").signed_with("").token()),
        ("a key id and another key", forgery().key_id("1' or '1'='1").signed_with(&"k".repeat(48)).token()),
        ("somebody else's claims", tampered.join(".")),
        ("a refresh token", ada.refresh.clone()),
        ("a kind that is none", forgery().claim("token_type", "admin").token()),
        ("no kind", forgery().without("token_type").token()),
        ("no expiry", forgery().without("exp").token()),
        ("an expiry that is none", forgery().claim("exp", "tomorrow").token()),
        ("no user", forgery().without("user_id").token()),
        ("a user who is none", forgery().claim("user_id", "root").token()),
        ("a user of another kind", forgery().claim("user_id", json!({ "id": 1 })).token()),
        ("nonsense", "a.b.c".to_owned()),
        ("dots", "..".to_owned()),
        ("much", "x".repeat(6_000)),
    ];
    for (what, token) in bad {
        let answer = ada.bearing(&token).get("/auth/api/profile/").await;
        assert_eq!(answer.status, 401, "{what}\n{answer}");
        let expected: Value = json!({
            "detail": "Given token not valid for any token type",
            "code": "token_not_valid",
            "messages": [{ "token_class": "AccessToken", "token_type": "access", "message": "Token is invalid" }],
        });
        assert_eq!(answer.json, expected, "{what}\n{answer}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer}");
    }
    ada.bearing(&forgery().claim("user_id", 999_999).token()).get("/auth/api/profile/").await.is(401);
    // Judged without leeway.
    let answer = ada.bearing(&forgery().expires_in(-1).token()).get("/auth/api/profile/").await.is(401);
    assert_eq!(answer["messages"][0]["message"], "Token is expired", "{answer}");

    // The same forger with the right key gets in, so the above were refused for what was wrong with them; and
    // a key id is ignored.
    ada.bearing(&forgery().expires_in(60).token()).get("/auth/api/profile/").await.is(200);
    ada.bearing(&forgery().key_id("../../dev/null").token()).get("/auth/api/profile/").await.is(200);
}

#[tokio::test]
async fn lifetimes_are_settings() {
    let settings = [("ACCESS_TOKEN_MINUTES", "5"), ("REFRESH_TOKEN_DAYS", "30")];
    let shop = Shop::start_with(&settings).await;
    let ada = shop.register("ada").await;
    for (token, lifetime) in [(&ada.access, 5 * 60), (&ada.refresh, 30 * 24 * 60 * 60)] {
        let claims = claims_of(token);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), lifetime, "{claims}");
    }
}
