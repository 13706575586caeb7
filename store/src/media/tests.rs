//! What becomes of a file's row while products, categories and users name it and stop to.

use super::*;
use crate::accounts::{self, AccountChange};
use crate::catalogue::{CategoryChange, NewCategory, change_category, create_category, delete_category};
use crate::ledger::{Done, NewProduct, ProductChange, Seen, Work, commit};
use crate::model::{CategoryId, Money, Product, ProductId};
use crate::testing::TestDb;

/// Pending, used or dropped; nothing if there is no such row.
async fn state(test: &TestDb, name: &str) -> String {
    let row: Option<(String,)> = read!(&test.db, pool => {
        sqlx::query_as("select state from media_files where name = $1").bind(name).fetch_optional(pool).await
    })
    .unwrap();
    row.map(|row| row.0).unwrap_or_default()
}

/// Files that wait to be used.
async fn files<const N: usize>(test: &TestDb, names: [&str; N]) {
    for name in names {
        begin(&test.db, name).await.unwrap();
    }
}

fn image(name: &str) -> Option<Option<String>> {
    Some(Some(name.to_owned()))
}

async fn category(test: &TestDb, image: Option<&str>) -> CategoryId {
    let new = NewCategory {
        name: "Lights".to_owned(),
        description: String::new(),
        is_active: true,
        image: image.map(str::to_owned),
    };
    create_category(&test.db, &new, None).await.unwrap().unwrap().id
}

async fn work(test: &TestDb, work: Work) -> Option<Product> {
    let mut batch = commit(&test.db, uuid::Uuid::new_v4(), &[work]).await.unwrap();
    match batch.outcomes.pop() {
        Some(Ok(Done::Product(product))) => Some(*product),
        Some(Ok(Done::Deleted)) => None,
        other => panic!("{other:?}"),
    }
}

async fn change(test: &TestDb, id: ProductId, change: ProductChange) -> Option<Product> {
    work(test, Work::Change(id, Box::new(change), Seen::default())).await
}

fn lamp(category_id: CategoryId, image: &str) -> Work {
    Work::Create(Box::new(NewProduct {
        name: "Lamp".to_owned(),
        description: String::new(),
        price: Money(1999),
        stock: 3,
        category_id,
        sku: None,
        featured: false,
        is_active: true,
        image: Some(image.to_owned()),
    }))
}

#[tokio::test]
async fn a_file_is_used_as_long_as_a_product_names_it() {
    let test = TestDb::create().await;
    files(&test, ["a", "b", "c"]).await;
    let lights = category(&test, None).await;
    let product = work(&test, lamp(lights, "a")).await.unwrap();
    assert_eq!(product.image.as_deref(), Some("a"));
    assert_eq!(state(&test, "a").await, "used");
    // Another change leaves it, and whoever gives it up does not get it.
    change(&test, product.id, ProductChange { name: Some("Lantern".to_owned()), ..ProductChange::default() })
        .await;
    abandon(&test.db, "a").await.unwrap();
    assert_eq!(state(&test, "a").await, "used");
    change(&test, product.id, ProductChange { image: image("b"), ..ProductChange::default() }).await;
    assert_eq!(state(&test, "a").await, "dropped");
    assert_eq!(state(&test, "b").await, "used");
    let cleared =
        change(&test, product.id, ProductChange { image: Some(None), ..ProductChange::default() }).await;
    assert_eq!(cleared.unwrap().image, None);
    assert_eq!(state(&test, "b").await, "dropped");
    change(&test, product.id, ProductChange { image: image("c"), ..ProductChange::default() }).await;
    work(&test, Work::Delete(product.id, None)).await;
    assert_eq!(state(&test, "c").await, "dropped");
    let mut names = sweepable(&test.db).await.unwrap();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    forget(&test.db, "a").await.unwrap();
    assert_eq!(state(&test, "a").await, "");
}

#[tokio::test]
async fn categories_and_users_hold_their_files_as_well() {
    let test = TestDb::create().await;
    files(&test, ["a", "b", "c", "d"]).await;
    let lights = category(&test, Some("a")).await;
    let replaced = CategoryChange { image: image("b"), ..CategoryChange::default() };
    let found = change_category(&test.db, lights, &replaced, None, None).await.unwrap().unwrap();
    assert_eq!(found.image.as_deref(), Some("b"));
    change_category(&test.db, lights, &CategoryChange::default(), None, None).await.unwrap().unwrap();
    assert_eq!(state(&test, "a").await, "dropped");
    assert_eq!(state(&test, "b").await, "used");
    delete_category(&test.db, lights, None).await.unwrap().unwrap();
    assert_eq!(state(&test, "b").await, "dropped");

    let user = test.user().await;
    for (avatar, old) in [(image("c"), None), (image("d"), Some("c")), (Some(None), Some("d"))] {
        let change = AccountChange { avatar: avatar.clone(), ..AccountChange::default() };
        let found = accounts::change(&test.db, user, &change).await.unwrap().unwrap().unwrap();
        assert_eq!(Some(found.avatar), avatar);
        if let Some(old) = old {
            assert_eq!(state(&test, old).await, "dropped");
        }
    }
}

#[tokio::test]
async fn what_does_not_wait_to_be_used_cannot_be_named() {
    let test = TestDb::create().await;
    files(&test, ["gone", "taken"]).await;
    abandon(&test.db, "gone").await.unwrap();
    let lights = category(&test, Some("taken")).await;
    for name in ["gone", "taken", "never"] {
        let batch = commit(&test.db, uuid::Uuid::new_v4(), &[lamp(lights, name)]).await;
        assert!(batch.is_err(), "{name}: {batch:?}");
    }
    assert_eq!(state(&test, "gone").await, "dropped");
    assert_eq!(state(&test, "taken").await, "used");
}

#[tokio::test]
async fn what_waits_too_long_is_given_up_and_nothing_else() {
    let test = TestDb::create().await;
    files(&test, ["old", "new", "used"]).await;
    category(&test, Some("used")).await;
    let long_ago = Timestamp::now().plus_seconds(-PENDING_LIFE_SECONDS - 1);
    transaction!(&test.db, tx => {
        let age = "update media_files set created_at = $1 where name <> 'new'";
        sqlx::query(age).bind(long_ago).execute(tx).await?;
        Ok(())
    })
    .unwrap();
    assert_eq!(sweepable(&test.db).await.unwrap(), ["old"]);
    assert_eq!(state(&test, "new").await, "pending");
    // What was not removed yet is not forgotten by mistake.
    forget(&test.db, "used").await.unwrap();
    assert_eq!(state(&test, "used").await, "used");
}
