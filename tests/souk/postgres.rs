//! Starting on Postgres: from one URL or from `DB_` settings, several nodes at once, and what is said when it cannot be.
//! These tests do nothing when the run is not about Postgres.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::harness::{PASSWORD, Place, Ran, Shop};

/// Starts, which must fail with one line that says this and shows no secret.
async fn refuses(settings: &[(&str, &str)], reason: &str) {
    let shop = Shop::closed(settings);
    for command in ["serve", "migrate", "audit"] {
        let ran = shop.souk(&[command]).await.fails();
        is_one_line(&ran, reason);
    }
}

fn is_one_line(ran: &Ran, reason: &str) {
    let said: Vec<&str> = ran.err.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(said.len() == 1 && said[0].contains(reason), "one line with {reason:?}\n{}", ran.all());
    assert!(!ran.all().contains("hunter2"), "a secret is printed\n{}", ran.all());
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_in_a_line() {
    let Some(place) = Place::of_server() else { return };
    let (user, password, host, port) =
        (place.user.as_str(), place.password.as_str(), place.host.as_str(), place.port.as_str());
    let url = |user: &str, password: &str, at: &str, name: &str| {
        format!("postgres://{user}:{password}@{at}/{name}")
    };
    let at = format!("{host}:{port}");
    refuses(&[("DATABASE_URL", &url(user, "hunter2", &at, "postgres"))], "with this password").await;
    refuses(&[("DATABASE_URL", &url("nobody", "hunter2", &at, "postgres"))], "no user \"nobody\"").await;
    refuses(&[("DATABASE_URL", &url(user, password, &at, "nowhere"))], "create database \"nowhere\"").await;
    refuses(&[("DATABASE_URL", &url(user, "hunter2", "127.0.0.1:1", "x"))], "127.0.0.1:1 cannot be reached")
        .await;
    refuses(&[("DATABASE_URL", &url(user, "hunter2", "no-host.invalid", "x"))], "no-host.invalid:5432").await;
    let mut parts = [
        ("DB_NAME", "nowhere"),
        ("DB_USER", user),
        ("DB_PASSWORD", "hunter2"),
        ("DB_HOST", host),
        ("DB_PORT", port),
    ];
    let closed = |parts: &[(&str, &str)]| Shop::closed(parts).without("DATABASE_URL");
    is_one_line(&closed(&parts).souk(&["serve"]).await.fails(), "DB_PASSWORD");
    parts[2].1 = password;
    is_one_line(&closed(&parts).souk(&["serve"]).await.fails(), "no database \"nowhere\"");
    is_one_line(&closed(&parts[1..]).souk(&["serve"]).await.fails(), "DB_NAME");
}

#[tokio::test]
async fn the_parts_of_the_url_may_be_given_one_by_one() {
    let Some(place) = Place::of_server() else { return };
    let shop = Shop::closed(&[]);
    shop.souk(&["migrate"]).await.succeeds();
    let name = shop.database_name().to_owned();
    let mut same = Shop::closed(&[
        ("DB_NAME", name.as_str()),
        ("DB_USER", &place.user),
        ("DB_PASSWORD", &place.password),
        ("DB_HOST", &place.host),
        ("DB_PORT", &place.port),
    ])
    .without("DATABASE_URL");
    same.open().await;
    same.register("ada").await;
    drop(same);
    let mut first = shop;
    first.open().await;
    first.anyone().signed_in_as("ada@example.com", PASSWORD).await;
}

#[tokio::test]
async fn a_key_must_be_given_and_be_long() {
    if Place::of_server().is_none() {
        return;
    }
    let shop = Shop::closed(&[]).without("SECRET_KEY");
    is_one_line(&shop.souk(&["serve"]).await.fails(), "SECRET_KEY: required with Postgres");
    let shop = Shop::closed(&[("SECRET_KEY", "hunter2-hunter2-hunter2")]);
    is_one_line(&shop.souk(&["serve"]).await.fails(), "SECRET_KEY");
    let demo = Shop::closed(&[]).souk(&["serve", "--demo"]).await.fails();
    is_one_line(&demo, "--demo is for the embedded database");
}

#[tokio::test]
async fn four_servers_start_at_once_on_an_empty_database() {
    if Place::of_server().is_none() {
        return;
    }
    let first = Arc::new(Shop::closed(&[]));
    first.make_database().await;
    let mut starts = JoinSet::new();
    for _ in 0..4 {
        let first = Arc::clone(&first);
        starts.spawn(async move {
            let mut node = Shop::beside(&first);
            node.open().await;
            node
        });
    }
    let nodes = starts.join_all().await;
    let ada = nodes[0].register("ada").await;
    for node in &nodes {
        node.anyone().bearing(&ada.access).get("/auth/api/profile/").await.is(200);
    }
    first.audit().await;
}
