//! What admins do to many products at once.

use uuid::Uuid;

use crate::db::Db;
use crate::ledger::tests::{Shop, Statements};
use crate::ledger::{Done, NewProduct, Outcome, ProductChange, Refusal, Seen, StockMove, Work, commit};
use crate::model::{CategoryId, Money, Product, ProductId};

fn price(cents: i64) -> ProductChange {
    ProductChange { price: Some(Money(cents)), ..ProductChange::default() }
}

fn product(outcome: Outcome) -> Product {
    match outcome {
        Ok(Done::Product(product)) => *product,
        other => panic!("{other:?}"),
    }
}

/// The statements that these works take on this thread.
async fn statements(shop: &Shop, works: &[Work]) -> usize {
    let statements = Statements::default();
    let counting = tracing::subscriber::set_default(statements.clone());
    let batch = commit(&shop.test.db, Uuid::new_v4(), works).await.unwrap();
    drop(counting);
    assert!(batch.outcomes.iter().all(Result::is_ok), "{:?}", batch.outcomes);
    statements.0.lock().unwrap().len()
}

#[tokio::test]
async fn on_postgres_many_changes_of_products_take_as_many_statements_as_one() {
    let shop = Shop::open().await;
    if !matches!(shop.test.db, Db::Postgres(_)) {
        return;
    }
    let mut apart = Vec::new();
    let mut together = Vec::new();
    for size in [1, 20] {
        let mut changes = Vec::new();
        let mut rows = Vec::new();
        for number in 0..size {
            changes.push(Work::Change(shop.product(1).await.id, Box::new(price(500)), Seen::default()));
            changes.push(Work::Move(shop.product(1).await.id, StockMove::Change(3)));
            rows.push(Work::Change(shop.product(1).await.id, Box::new(price(500)), Seen::default()));
            rows.push(Work::Create(Box::new(shop.lamp(2))));
            let sku = Some(format!("ROW-{size}-{number}"));
            rows.push(Work::Create(Box::new(NewProduct { sku, ..shop.lamp(2) })));
        }
        apart.push(statements(&shop, &changes).await);
        together.push(statements(&shop, &[Work::Together(rows)]).await);
    }
    assert_eq!(apart[0], apart[1]);
    assert_eq!(together[0], together[1]);
}

#[tokio::test]
async fn the_rows_of_a_file_are_all_written_or_none_is() {
    let shop = Shop::open().await;
    let (lamp, shade) = (shop.product(5).await, shop.product(5).await);
    let named = |sku: &str| Work::Create(Box::new(NewProduct { sku: Some(sku.to_owned()), ..shop.lamp(7) }));
    let change = |id: ProductId, change: ProductChange, seen: Seen| Work::Change(id, Box::new(change), seen);
    let as_seen = Seen { stock: Some(5), updated_at: Some(shade.updated_at), version: None };
    let level = ProductChange { stock: Some(9), ..ProductChange::default() };
    let good = || {
        vec![
            named("ROW-1"),
            Work::Create(Box::new(shop.lamp(0))),
            change(lamp.id, price(100), Seen::default()),
            change(
                lamp.id,
                ProductChange { name: Some("Brass lamp".to_owned()), ..price(200) },
                Seen::default(),
            ),
            change(shade.id, level.clone(), as_seen),
        ]
    };
    let sold = Seen { stock: Some(4), ..Seen::default() };
    let nowhere = ProductChange { category_id: Some(CategoryId(999_999)), ..ProductChange::default() };
    for (bad, why) in [
        (named("ROW-1"), Refusal::SkuTaken),
        (named(&shade.sku), Refusal::SkuTaken),
        (change(shade.id, price(1), sold), Refusal::StockIs(5)),
        (change(shade.id, price(1), Seen::version(Some(shade.version + 1))), Refusal::ProductChanged),
        (change(ProductId(999_999), price(1), Seen::default()), Refusal::ProductNotFound),
        (change(shade.id, nowhere, Seen::default()), Refusal::CategoryNotFound),
    ] {
        let mut rows = good();
        rows.push(bad);
        assert_eq!(shop.one(Work::Together(rows)).await.unwrap_err(), why);
        assert_eq!(shop.level(shade.id).await, (5, shade.version, 5));
    }
    assert!(matches!(shop.one(Work::Together(good())).await, Ok(Done::Together)));
    let as_it_is = |id| shop.one(Work::Move(id, StockMove::Change(0)));
    let lamp = product(as_it_is(lamp.id).await);
    assert_eq!((lamp.name.as_str(), lamp.price), ("Brass lamp", Money(200)), "the later row counts");
    assert_eq!(shop.level(shade.id).await.0, 9);
}

#[tokio::test]
async fn changes_in_one_batch_are_judged_each_by_itself() {
    let shop = Shop::open().await;
    let (lamp, shade, desk) = (shop.product(5).await, shop.product(5).await, shop.product(5).await);
    let stale = Seen::version(Some(shade.version - 1));
    let works = [
        Work::Change(lamp.id, Box::new(price(100)), Seen::version(Some(lamp.version))),
        Work::Change(shade.id, Box::new(price(100)), stale),
        Work::Change(ProductId(999_999), Box::new(price(100)), Seen::default()),
        // Two works on one product are done one after the other.
        Work::Change(desk.id, Box::new(price(100)), Seen::version(Some(desk.version))),
        Work::Change(desk.id, Box::new(price(200)), Seen::version(Some(desk.version))),
    ];
    let outcomes = commit(&shop.test.db, Uuid::new_v4(), &works).await.unwrap().outcomes;
    let [first, second, third, fourth, fifth] = <[Outcome; 5]>::try_from(outcomes).unwrap();
    assert_eq!(product(first).price, Money(100));
    assert_eq!(second.unwrap_err(), Refusal::ProductChanged);
    assert_eq!(third.unwrap_err(), Refusal::ProductNotFound);
    assert_eq!(product(fourth).price, Money(100));
    assert_eq!(fifth.unwrap_err(), Refusal::ProductChanged);
}
