//! The command line and the settings: help, settings that are no good, admins, sample data, audits, and the
//! demo.

use tokio::task::JoinSet;

use crate::harness::{PASSWORD, Shop, claims_of};

const SETTINGS: [&str; 13] = [
    "HOST",
    "PORT",
    "DATABASE_URL",
    "REDIS_URL",
    "SECRET_KEY",
    "DEBUG",
    "ACCESS_TOKEN_MINUTES",
    "REFRESH_TOKEN_DAYS",
    "CORS_ALLOWED_ORIGINS",
    "MEDIA_ROOT",
    "TLS_CERT",
    "TLS_KEY",
    "RATE_LIMIT",
];

#[tokio::test]
async fn help_names_every_command_and_setting() {
    let shop = Shop::closed(&[]);
    let help = shop.souk(&["--help"]).await.succeeds().out;
    for command in ["serve", "migrate", "createsuperuser", "seed", "openapi", "audit"] {
        assert!(help.contains(command), "{command} is not in the help:\n{help}");
    }
    let help = shop.souk(&["serve", "--help"]).await.succeeds().out;
    for setting in SETTINGS {
        assert!(help.contains(setting), "{setting} is not in the help:\n{help}");
    }
    assert!(help.contains("127.0.0.1") && help.contains("8000"), "the defaults are not in the help:\n{help}");
    assert!(!help.contains(crate::harness::SECRET_KEY), "a secret is printed:\n{help}");
    for command in ["migrate", "createsuperuser", "seed", "openapi", "audit"] {
        shop.souk(&[command, "--help"]).await.succeeds();
    }
    shop.souk(&["--version"]).await.succeeds();
    shop.souk(&["sell-everything"]).await.fails();
    shop.souk(&["serve", "--sing"]).await.fails();
}

#[tokio::test]
async fn a_bad_setting_ends_the_start_with_one_line() {
    for (setting, value) in [
        ("PORT", "many"),
        ("PORT", "70000"),
        ("PORT", "-1"),
        ("DATABASE_URL", "mysql://localhost/souk"),
        ("DATABASE_URL", "nonsense"),
        ("SECRET_KEY", "hunter2-hunter2"),
        ("DEBUG", "perhaps"),
        ("ACCESS_TOKEN_MINUTES", "an hour"),
        ("ACCESS_TOKEN_MINUTES", "0"),
        ("ACCESS_TOKEN_MINUTES", "-5"),
        ("REFRESH_TOKEN_DAYS", "7.5"),
        ("REFRESH_TOKEN_DAYS", "0"),
        ("RATE_LIMIT", "lots"),
        ("REDIS_URL", "http://localhost"),
        ("CORS_ALLOWED_ORIGINS", "no origin at all"),
    ] {
        let shop = Shop::closed(&[(setting, value)]);
        let ran = shop.souk(&["serve"]).await.fails();
        let said: Vec<&str> = ran.err.lines().filter(|line| !line.trim().is_empty()).collect();
        assert!(said.len() == 1, "{setting}={value}: one line is enough\n{}", ran.all());
        assert!(said[0].contains(setting), "{setting}={value} is not named\n{}", ran.all());
        assert!(!ran.all().contains("hunter2"), "a secret is printed\n{}", ran.all());
    }
    let shop = Shop::closed(&[("DEBUG", "false")]).without("SECRET_KEY");
    let ran = shop.souk(&["serve"]).await.fails();
    assert!(ran.err.contains("SECRET_KEY"), "{}", ran.all());
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let shop = Shop::start().await;
    let port = shop.url().rsplit(':').next().expect("a port").to_owned();
    let second = Shop::closed(&[("PORT", &port)]);
    let ran = second.souk(&["serve"]).await.fails();
    assert!(ran.err.contains("PORT") || ran.err.contains(&port), "{}", ran.all());
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_told() {
    let shop = Shop::closed(&[("DATABASE_URL", "sqlite:///proc/nowhere/souk.db")]);
    for command in ["serve", "migrate", "audit"] {
        shop.souk(&[command]).await.fails();
    }
    let shop = Shop::embedded(&[]);
    std::fs::write(shop.path().join("souk.db"), "this is no database, but a longer text. ".repeat(500))
        .unwrap();
    for command in ["serve", "migrate", "audit"] {
        shop.souk(&[command]).await.fails();
    }
}

#[tokio::test]
async fn an_env_file_gives_settings_and_the_environment_overrules_it() {
    let mut shop = Shop::closed(&[]);
    std::fs::write(shop.path().join(".env"), "ACCESS_TOKEN_MINUTES=5\nSECRET_KEY=short\n# a comment\n")
        .unwrap();
    shop.open().await;
    let ada = shop.register("ada").await;
    let claims = claims_of(&ada.access);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300, "{claims}");
    std::fs::write(shop.path().join(".env"), "ACCESS_TOKEN_MINUTES=soon\n").unwrap();
    let ran = shop.souk(&["serve"]).await.fails();
    assert!(ran.err.contains("ACCESS_TOKEN_MINUTES"), "{}", ran.all());
}

#[tokio::test]
async fn a_key_of_its_own_is_made_once_and_kept() {
    let mut shop = Shop::embedded(&[]).without("SECRET_KEY");
    shop.open().await;
    let ada = shop.register("ada").await;
    shop.restart().await;
    ada.get("/auth/api/profile/").await.is(200);
    let mut other = Shop::embedded(&[]).without("SECRET_KEY");
    other.open().await;
    other.register("ada").await;
    other.anyone().bearing(&ada.access).get("/auth/api/profile/").await.is(401);
}

#[tokio::test]
async fn without_settings_the_database_lies_in_data() {
    let mut shop = Shop::embedded(&[]).without("DATABASE_URL").without("SECRET_KEY");
    shop.open().await;
    shop.register("ada").await;
    assert!(shop.path().join("data/souk.db").is_file());
    shop.audit().await;
}

#[tokio::test]
async fn many_may_migrate_at_once_and_again() {
    let mut shop = Shop::closed(&[]);
    let mut migrations = JoinSet::new();
    let shared = std::sync::Arc::new(shop);
    for _ in 0..4 {
        let shop = std::sync::Arc::clone(&shared);
        migrations.spawn(async move { shop.souk(&["migrate"]).await });
    }
    for ran in migrations.join_all().await {
        ran.succeeds();
    }
    shop = std::sync::Arc::into_inner(shared).expect("the only owner");
    shop.souk(&["migrate"]).await.succeeds();
    shop.audit().await;
    shop.open().await;
    shop.souk(&["migrate"]).await.succeeds();
    shop.anyone().get("/readyz").await.is(200);
}

#[tokio::test]
async fn admins_are_made_on_the_command_line() {
    let mut shop = Shop::closed(&[]);
    // Before the first start there is no database yet.
    let make = ["createsuperuser", "--noinput", "--email", "boss@example.com", "--username", "boss"];
    shop.souk_with(&make, &[("SOUK_SUPERUSER_PASSWORD", PASSWORD)]).await.succeeds();
    shop.open().await;
    let boss = shop.anyone().signed_in_as("boss@example.com", PASSWORD).await;
    assert_eq!(boss.get("/auth/api/profile/").await.is(200)["is_admin"], true);
    boss.get("/auth/api/users/").await.is(200);

    let missing = shop.souk(&make).await.fails();
    assert!(missing.err.contains("SOUK_SUPERUSER_PASSWORD"), "{}", missing.all());
    let attempts: [(&[&str], &str, &str); 6] = [
        (&["--email", "boss@example.com", "--username", "other"], PASSWORD, "email"),
        (&["--email", "other@example.com", "--username", "BOSS"], PASSWORD, "username"),
        (&["--email", "no address", "--username", "other"], PASSWORD, "email"),
        (&["--email", "other@example.com", "--username", "a b"], PASSWORD, "username"),
        (&["--email", "other@example.com", "--username", "other"], "12345678", "assword"),
        (&["--username", "other"], PASSWORD, "email"),
    ];
    for (arguments, password, blamed) in attempts {
        let arguments = [&["createsuperuser", "--noinput"], arguments].concat();
        let ran = shop.souk_with(&arguments, &[("SOUK_SUPERUSER_PASSWORD", password)]).await.fails();
        assert!(ran.err.contains(blamed), "{blamed} should be named\n{}", ran.all());
        assert!(!ran.all().contains(password), "a password is printed\n{}", ran.all());
    }
    assert_eq!(boss.get("/auth/api/users/").await.is(200).count(), 1);
}

#[tokio::test]
async fn sample_data_is_the_same_each_time() {
    let mut catalogues = Vec::new();
    for _ in 0..2 {
        let mut shop = Shop::closed(&[]);
        let seed = ["seed", "--products", "60", "--users", "3", "--tokens", "tokens.txt"];
        shop.souk(&seed).await.succeeds();
        shop.souk(&seed).await.succeeds();
        shop.audit().await;
        shop.open().await;
        let anyone = shop.anyone();
        let list = anyone.get("/api/products/?page_size=100&ordering=name").await.is(200);
        assert_eq!(list.count(), 60, "repeating adds nothing\n{list}");
        let columns =
            ["name", "price", "stock", "sku", "category_name", "description"].map(|name| list.column(name));
        catalogues.push(columns);
        assert!(anyone.get("/api/categories/").await.is(200).count() > 1);

        let tokens = std::fs::read_to_string(shop.path().join("tokens.txt")).unwrap();
        assert_eq!(tokens.lines().count(), 3, "one access token a line");
        for token in tokens.lines() {
            anyone.bearing(token).get("/api/cart/").await.is(200);
        }
        for number in 1..=3 {
            let (email, password) = (format!("user{number}@example.com"), format!("souk-demo-{number}"));
            anyone.signed_in_as(&email, &password).await;
        }
        // Beside the running server, too; and it is seen there before long.
        shop.souk(&["seed", "--products", "70", "--users", "3"]).await.succeeds();
        let admin = shop.admin().await;
        assert_eq!(admin.get("/auth/api/users/?is_admin=false").await.is(200).count(), 3);
        shop.audit().await;
    }
    assert_eq!(catalogues[0], catalogues[1]);
}

#[tokio::test]
async fn the_demo_is_a_shop_with_goods_and_an_admin() {
    let mut shop = Shop::embedded(&[]);
    shop.open_with(&["serve", "--demo"]).await;
    crate::harness::eventually("the admin is printed", async || {
        shop.anyone().get("/healthz").await.is(200);
        shop.log().to_lowercase().contains("password")
    })
    .await;
    let (email, password) = login_in(&shop.log());
    let admin = shop.anyone().signed_in_as(&email, &password).await;
    assert_eq!(admin.get("/auth/api/profile/").await.is(200)["is_admin"], true);
    assert!(shop.anyone().get("/api/products/").await.is(200).count() > 10);
    for link in ["/api/", "/admin/"] {
        assert!(shop.log().contains(&format!("{}{link}", shop.url())), "links\n{}", shop.log());
    }

    // Printed once: the second start has nothing to add.
    let (count, said) = (shop.anyone().get("/api/products/").await.is(200).count(), shop.log().len());
    shop.kill9().await;
    shop.open_with(&["serve", "--demo"]).await;
    assert_eq!(shop.anyone().get("/api/products/").await.is(200).count(), count);
    assert!(!shop.log()[said..].contains(&password), "printed once\n{}", shop.log());
    shop.anyone().signed_in_as(&email, &password).await;
    shop.audit().await;
}

/// The address and the password that the demo prints: the first word with an `@`, and the word after
/// "password".
fn login_in(log: &str) -> (String, String) {
    let words: Vec<&str> = log
        .split_whitespace()
        .flat_map(|word| word.split('='))
        .map(|word| word.trim_matches(|sign: char| "\"'`,:;()".contains(sign)))
        .filter(|word| !word.is_empty())
        .collect();
    let email = words.iter().find(|word| word.contains('@')).expect("an address in the log");
    let at =
        words.iter().rposition(|word| word.eq_ignore_ascii_case("password")).expect("a password in the log");
    ((*email).to_owned(), words[at + 1].to_owned())
}
