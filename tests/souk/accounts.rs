//! Accounts as their owners see them: registering, signing in, the profile, the password, and one's own
//! orders. Tokens and the admin's side have files of their own.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{PASSWORD, Shop, Shopper};

const USER: [&str; 11] = [
    "address",
    "date_joined",
    "date_of_birth",
    "email",
    "first_name",
    "id",
    "is_admin",
    "last_name",
    "phone",
    "profile",
    "username",
];

fn papers_with(name: &str, field: &str, value: impl Into<Value>) -> Value {
    let mut papers = Shopper::papers(name);
    papers[field] = value.into();
    papers
}

fn papers_and_password(name: &str, password: &str) -> Value {
    let mut papers = Shopper::papers(name);
    papers["password"] = password.into();
    papers["password_confirm"] = password.into();
    papers
}

#[tokio::test]
async fn registering_gives_the_user_and_tokens() {
    let shop = Shop::start().await;
    let mut papers = Shopper::papers("ada");
    papers["first_name"] = "Ada".into();
    papers["last_name"] = "Lovelace 💡".into();
    papers["phone"] = "+44 20 7946 0000".into();
    papers["address"] = "12 St James's Square, London".into();
    papers["date_of_birth"] = "1815-12-10".into();
    papers["is_admin"] = true.into();
    papers["id"] = 7_777.into();
    papers["is_active"] = false.into();
    papers["favourite_colour"] = "green".into();
    let answer = shop.anyone().post("/auth/api/register/", papers.clone()).await.is(201);
    let mut expected: Vec<&str> = USER.into_iter().chain(["access", "refresh"]).collect();
    expected.sort_unstable();
    assert_eq!(answer.refused_fields(), expected, "{answer}");
    for field in ["email", "username", "first_name", "last_name", "phone", "address", "date_of_birth"] {
        assert_eq!(answer[field], papers[field], "{answer}");
    }
    assert_eq!(answer["is_admin"], false, "{answer}");
    assert_ne!(answer.id(), 7_777, "{answer}");
    assert_eq!(answer["profile"], json!({ "bio": "", "avatar": null, "preferences": {} }), "{answer}");
    let joined = answer.text("date_joined");
    assert!(joined.ends_with('Z') && joined.contains('T'), "{answer}");
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    assert!(!text.contains(PASSWORD) && !text.contains("argon2"), "no answer shows a password\n{answer}");

    let ada = shop.anyone().bearing(answer.text("access"));
    let mut profile = ada.get("/auth/api/profile/").await.is(200).json;
    let fields: Vec<String> = profile.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, USER, "{profile}");
    profile["access"] = answer["access"].clone();
    profile["refresh"] = answer["refresh"].clone();
    assert_eq!(profile, answer.json);

    let bare = shop.anyone().post("/auth/api/register/", Shopper::papers("bea")).await.is(201);
    for field in ["first_name", "last_name", "phone", "address"] {
        assert_eq!(bare[field], "", "{bare}");
    }
    assert!(bare["date_of_birth"].is_null(), "{bare}");
}

#[tokio::test]
async fn registering_names_every_bad_field_at_once() {
    let shop = Shop::start().await;
    let register = |body: Value| {
        let anyone = shop.anyone();
        async move { anyone.post("/auth/api/register/", body).await }
    };
    let answer = register(json!({})).await.refuses_with("email", "This field is required.");
    assert_eq!(answer.refused_fields(), ["email", "password", "password_confirm", "username"], "{answer}");

    let bad = json!({ "email": "no address", "username": "", "password": null, "password_confirm": [1],
        "date_of_birth": "10/12/1815" });
    let answer = register(bad).await.refuses("date_of_birth");
    assert_eq!(
        answer.refused_fields(),
        ["date_of_birth", "email", "password", "password_confirm", "username"],
        "{answer}"
    );
    let answer = answer.refuses_with("username", "This field may not be blank.");
    answer.refuses_with("password", "This field may not be null.");

    for email in
        ["ada", "ada@", "@example.com", "a b@example.com", "ada@exa mple.com", "a@b@example.com", " "]
    {
        register(papers_with("ada", "email", email)).await.refuses("email");
    }
    register(papers_with("ada", "email", "ada")).await.refuses_with("email", "Enter a valid email address.");
    register(papers_with("ada", "email", format!("{}@example.com", "a".repeat(400)))).await.refuses("email");
    for username in ["a b", "a/b", "a<b>", "a\"b", "   ", "💡", "a\u{0}b", &"u".repeat(151)] {
        register(papers_with("ada", "username", username)).await.refuses("username");
    }
    register(papers_with("ada", "first_name", "a\u{0}"))
        .await
        .refuses_with("first_name", "Null characters are not allowed.");
    for date in ["2000-02-30", "yesterday", "2000-1-1T00:00", "0000-00-00"] {
        register(papers_with("ada", "date_of_birth", date)).await.refuses("date_of_birth");
    }
    assert_eq!(shop.admin().await.get("/auth/api/users/?is_admin=false").await.is(200).count(), 0);

    register(papers_with("bea", "username", "a@b.c+d-e_f")).await.is(201);
    register(papers_with("cleo", "username", "c".repeat(150))).await.is(201);
    register(papers_with("dora", "date_of_birth", Value::Null)).await.is(201);
}

#[tokio::test]
async fn email_and_username_are_unique_in_any_case() {
    let shop = Shop::start().await;
    shop.register("Ada").await;
    let register = |body: Value| {
        let anyone = shop.anyone();
        async move { anyone.post("/auth/api/register/", body).await }
    };
    register(papers_with("eve", "email", "aDA@EXAMPLE.com")).await.refuses("email");
    register(papers_with("eve", "username", "ADA")).await.refuses("username");
    let both = register(Shopper::papers("ada")).await.refuses("email");
    assert_eq!(both.refused_fields(), ["email", "username"], "{both}");

    register(papers_with("zoe", "username", "Zoë")).await.is(201);
    register(papers_with("zoe2", "username", "ZOË")).await.refuses("username");
}

#[tokio::test]
async fn weak_passwords_are_refused() {
    let shop = Shop::start().await;
    for weak in [
        "Ab1-xyz",
        "",
        "1827364554637281",
        "password",
        "iloveyou",
        "sunshine",
        &"x7-Q".repeat(33),
        "a\u{0}b7-Qwzky",
    ] {
        let answer = shop.anyone().post("/auth/api/register/", papers_and_password("ada", weak)).await;
        answer.refuses("password");
    }
    for alike in ["margarethe", "margarethe1", "Margarethe!"] {
        let answer =
            shop.anyone().post("/auth/api/register/", papers_and_password("margarethe", alike)).await;
        answer.refuses("password");
    }
    let mut differing = Shopper::papers("ada");
    differing["password_confirm"] = "Another-Kite-43".into();
    let answer = shop.anyone().post("/auth/api/register/", differing).await.is(400).refused_properly();
    let blamed = answer.refused_fields();
    let possible = ["non_field_errors", "password", "password_confirm"];
    assert!(blamed.iter().all(|field| possible.contains(&field.as_str())), "{answer}");

    for (name, good) in
        [("ada", "Zx7-kqpw".to_owned()), ("bea", "y8-R".repeat(32)), ("cleo", "слон💡кофе-жираф".to_owned())]
    {
        shop.anyone().post("/auth/api/register/", papers_and_password(name, &good)).await.is(201);
        shop.anyone().signed_in_as(&format!("{name}@example.com"), &good).await;
    }
}

#[tokio::test]
async fn signing_in_takes_the_right_password_only() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let sign_in = |body: Value| {
        let anyone = shop.anyone();
        async move { anyone.post("/auth/api/token/", body).await }
    };
    let answer = sign_in(json!({ "email": ada.email, "password": PASSWORD })).await.is(200);
    assert_eq!(answer.refused_fields(), ["access", "refresh"], "{answer}");
    sign_in(json!({ "email": "ADA@Example.Com", "password": PASSWORD })).await.is(200);

    let refusal = "No active account found with the given credentials";
    let wrong = sign_in(json!({ "email": ada.email, "password": "Tangerine-Kite-43" })).await.is(401);
    let unknown = sign_in(json!({ "email": "nobody@example.com", "password": PASSWORD })).await.is(401);
    assert_eq!(wrong.json, unknown.json, "nobody learns which addresses have accounts");
    wrong.has_detail(refusal);
    sign_in(json!({ "email": ada.email, "password": PASSWORD.to_lowercase() })).await.is(401);
    sign_in(json!({ "email": "no address", "password": PASSWORD })).await.refused_properly();

    let missing = sign_in(json!({})).await.refuses_with("email", "This field is required.");
    assert_eq!(missing.refused_fields(), ["email", "password"], "{missing}");
    sign_in(json!({ "email": ada.email, "password": "" })).await.refuses("password");
    sign_in(json!({ "email": ada.email, "password": null })).await.refuses("password");
    sign_in(json!({ "email": ada.email, "password": ["x"] })).await.refuses("password");

    // A client that always sends the token it has can still sign in.
    let stale = shop.anyone().bearing("stale");
    stale.post("/auth/api/token/", json!({ "email": ada.email, "password": PASSWORD })).await.is(200);
    stale.post("/auth/api/token/refresh/", json!({ "refresh": ada.refresh })).await.is(200);
}

#[tokio::test]
async fn an_unknown_address_costs_as_much_time_as_a_wrong_password() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let mut fastest = [f64::MAX; 2];
    for _ in 0..5 {
        for (which, email) in [(0, ada.email.as_str()), (1, "nobody@example.com")] {
            let began = Instant::now();
            let login = json!({ "email": email, "password": "Tangerine-Kite-43" });
            shop.anyone().post("/auth/api/token/", login).await.is(401);
            fastest[which] = began.elapsed().as_secs_f64().min(fastest[which]);
        }
    }
    let [wrong, unknown] = fastest;
    assert!(unknown * 3.0 > wrong, "unknown {unknown} s, wrong {wrong} s");
}

#[tokio::test]
async fn ten_failures_close_the_door_for_that_account() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let bea = shop.register("bea").await;
    let wrong = json!({ "email": ada.email, "password": "Tangerine-Kite-43" });
    for _ in 0..10 {
        shop.anyone().post("/auth/api/token/", wrong.clone()).await.is(401);
    }
    let right = json!({ "email": ada.email, "password": PASSWORD });
    for body in [wrong, right.clone(), json!({ "email": "ADA@example.com", "password": PASSWORD })] {
        let answer = shop.anyone().post("/auth/api/token/", body).await.is(429);
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=900).contains(&wait), "{answer}");
        let detail = answer.text("detail");
        assert!(detail.starts_with("Request was throttled. Expected available in "), "{answer}");
        assert!(detail.ends_with(" seconds.") || detail.ends_with(" second."), "{answer}");
    }
    // An address that the client names itself is not believed.
    let call = shop.anyone().call(reqwest::Method::POST, "/auth/api/token/").json(&right);
    call.header("x-forwarded-for", "203.0.113.9").header("forwarded", "for=203.0.113.9").send().await.is(429);

    shop.anyone().signed_in_as(&bea.email, PASSWORD).await;
    ada.get("/auth/api/profile/").await.is(200);
    ada.post("/auth/api/token/refresh/", json!({ "refresh": ada.refresh })).await.is(200);
}

#[tokio::test]
async fn the_profile_is_its_owners_to_change() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    for answer in [
        shop.anyone().get("/auth/api/profile/").await,
        shop.anyone().patch("/auth/api/profile/", json!({ "first_name": "Eve" })).await,
        shop.anyone().put("/auth/api/profile/", json!({ "first_name": "Eve" })).await,
    ] {
        let answer = answer.is(401).has_detail("Authentication credentials were not provided.");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"api\"");
    }

    let answer =
        ada.patch("/auth/api/profile/", json!({ "first_name": "  Ada  ", "phone": "1" })).await.is(200);
    assert_eq!(answer["first_name"], "Ada", "blanks at the ends go\n{answer}");
    assert_eq!((&answer["phone"], &answer["last_name"]), (&json!("1"), &json!("")), "{answer}");

    let profile = json!({ "bio": "I count 💡", "preferences": { "theme": "dark", "sizes": [1, 2.5, null] } });
    let answer = ada.patch("/auth/api/profile/", json!({ "profile": profile })).await.is(200);
    assert_eq!(answer["profile"]["bio"], profile["bio"], "{answer}");
    assert_eq!(answer["profile"]["preferences"], profile["preferences"], "{answer}");
    assert_eq!(answer["first_name"], "Ada", "{answer}");
    let answer = ada.patch("/auth/api/profile/", json!({ "profile": { "bio": "" } })).await.is(200);
    assert_eq!(answer["profile"]["bio"], "", "{answer}");
    assert_eq!(answer["profile"]["preferences"], profile["preferences"], "a PATCH keeps the rest\n{answer}");

    let whole = json!({
        "email": ada.email, "username": "ada", "first_name": "Augusta", "last_name": "King", "phone": "2",
        "address": "Ockham Park", "date_of_birth": "1815-12-10",
        "profile": { "bio": "Countess", "preferences": { "theme": "light" } },
        "is_admin": true, "id": 999, "date_joined": "2001-01-01T00:00:00Z",
    });
    let before = ada.get("/auth/api/profile/").await.is(200);
    let answer = ada.put("/auth/api/profile/", whole.clone()).await.is(200);
    for field in ["email", "username", "first_name", "last_name", "phone", "address", "date_of_birth"] {
        assert_eq!(answer[field], whole[field], "{answer}");
    }
    for field in ["id", "is_admin", "date_joined"] {
        assert_eq!(answer[field], before[field], "read-only fields stay\n{answer}");
    }
    assert_eq!(answer["profile"]["bio"], "Countess", "{answer}");
    assert_eq!(answer["profile"]["preferences"], json!({ "theme": "light" }), "{answer}");
    assert_eq!(ada.get("/auth/api/profile/").await.is(200).json, answer.json);
    ada.patch("/auth/api/profile/", json!({ "is_admin": true })).await.is(200);
    ada.get("/auth/api/users/").await.is(403);
}

#[tokio::test]
async fn a_bad_profile_changes_nothing() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    shop.register("bea").await;
    let before = ada.get("/auth/api/profile/").await.is(200);
    for (field, value) in [
        ("date_of_birth", json!("1815-13-01")),
        ("date_of_birth", json!(18_151_210)),
        ("first_name", json!(null)),
        ("first_name", json!(["Ada"])),
        ("first_name", json!("x".repeat(10_000))),
        ("phone", json!("0\u{0}0")),
        ("address", json!({ "street": "St James's Square" })),
        ("profile", json!("text")),
        ("profile", json!(["list"])),
        ("profile", json!({ "preferences": "dark" })),
        ("profile", json!({ "preferences": ["dark"] })),
        ("profile", json!({ "preferences": null })),
        ("profile", json!({ "preferences": { "long": "x".repeat(8_200) } })),
        ("profile", json!({ "bio": 7.5e300, "preferences": 7 })),
        ("profile", json!({ "bio": "a\u{0}b" })),
    ] {
        let mut body = json!({ "last_name": "Changed" });
        body[field] = value;
        let answer = ada.patch("/auth/api/profile/", body).await.is(400).refused_properly();
        assert!(!answer[field].is_null(), "{field} should be named\n{answer}");
    }
    assert_eq!(ada.get("/auth/api/profile/").await.is(200).json, before.json);

    // Whether these two can be changed at all, the contract leaves open; that they stay unique, it does not.
    for (field, taken) in [("email", "BEA@example.com"), ("username", "Bea")] {
        let answer = ada.patch("/auth/api/profile/", json!({ field: taken })).await;
        if answer.status != 200 {
            answer.refuses(field);
        }
        assert_eq!(ada.get("/auth/api/profile/").await.is(200)[field], before[field]);
    }
}

#[tokio::test]
async fn a_new_password_ends_the_old_sessions() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let elsewhere = shop.anyone().signed_in_as(&ada.email, PASSWORD).await;
    let change = |current: &str, new: &str, again: &str| {
        let body = json!({ "current_password": current, "password": new, "password_confirm": again });
        let ada = ada.clone();
        async move { ada.post("/auth/api/password/", body).await }
    };
    let new = "Papaya-Drum-77";
    shop.anyone().post("/auth/api/password/", json!({})).await.is(401);
    let missing = ada.post("/auth/api/password/", json!({})).await.refuses("current_password");
    assert_eq!(missing.refused_fields(), ["current_password", "password", "password_confirm"], "{missing}");
    change("Wrong-Kite-42", new, new).await.refuses("current_password");
    change(PASSWORD, "12345678", "12345678").await.refuses("password");
    change(PASSWORD, new, "Papaya-Drum-78").await.is(400).refused_properly();
    shop.anyone().signed_in_as(&ada.email, PASSWORD).await;

    change(PASSWORD, new, new).await.is(204);
    for dead in [&ada.refresh, &elsewhere.refresh] {
        shop.anyone().post("/auth/api/token/refresh/", json!({ "refresh": dead })).await.is(401);
    }
    let old = json!({ "email": ada.email, "password": PASSWORD });
    shop.anyone().post("/auth/api/token/", old).await.is(401);
    let again = shop.anyone().signed_in_as(&ada.email, new).await;
    shop.anyone().post("/auth/api/token/refresh/", json!({ "refresh": again.refresh })).await.is(200);
}

#[tokio::test]
async fn everyone_sees_their_own_orders_newest_first() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").price("3.00").create().await;
    let mut own = Vec::new();
    for quantity in [2, 1, 3] {
        own.push(ada.buy(&lamp, quantity).await.id());
    }
    bea.buy(&lamp, 1).await;
    admin.set_status(own[0], "shipped").await.is(200);

    let ids = |wanted: &[usize]| wanted.iter().map(|&at| own[at].to_string()).collect::<Vec<_>>();
    let get = async |query: &str| ada.get(&format!("/auth/api/orders/{query}")).await;
    assert_eq!(get("").await.is(200).column("id"), ids(&[2, 1, 0]));
    assert_eq!(get("?status=shipped").await.is(200).column("id"), ids(&[0]));
    assert_eq!(get("?status=pending&ordering=created_at").await.is(200).column("id"), ids(&[1, 2]));
    assert_eq!(get("?ordering=-total_price").await.is(200).column("id"), ids(&[2, 0, 1]));
    assert_eq!(get("?page_size=2&page=2").await.is(200).column("id"), ids(&[0]));
    get("?status=lost").await.refuses("status");
    get("?ordering=colour").await.refuses("ordering");
    get("?page=9").await.is(404).has_detail("Invalid page.");
    shop.anyone().get("/auth/api/orders/").await.is(401);
    // Here an admin is a customer like any other.
    assert_eq!(admin.get("/auth/api/orders/").await.is(200).count(), 0);
}
