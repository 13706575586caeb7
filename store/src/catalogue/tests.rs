use super::*;
use crate::cache::{Cache, Key};
use crate::ledger::{NewProduct, Work, commit};
use crate::model::Money;
use crate::search::{ProductFilter, ProductQuery, SearchWords};
use crate::testing::TestDb;

fn named(name: &str) -> NewCategory {
    NewCategory { name: name.to_owned(), description: String::new(), is_active: true, image: None }
}

fn renamed(name: &str) -> CategoryChange {
    CategoryChange { name: Some(name.to_owned()), ..CategoryChange::default() }
}

async fn product(test: &TestDb, name: &str, category_id: CategoryId, is_active: bool) -> ProductId {
    let new = NewProduct {
        name: name.to_owned(),
        description: "Glows.".to_owned(),
        price: Money(1999),
        stock: 3,
        category_id,
        sku: None,
        featured: false,
        is_active,
        image: None,
    };
    let work = Work::Create(Box::new(new));
    let mut batch = commit(&test.db, uuid::Uuid::new_v4(), &[work]).await.unwrap();
    match batch.outcomes.pop() {
        Some(Ok(crate::ledger::Done::Product(product))) => product.id,
        other => panic!("{other:?}"),
    }
}

async fn found(cache: &Cache, test: &TestDb, words: &str) -> i64 {
    let filter = ProductFilter { words: SearchWords::new(words), ..ProductFilter::default() };
    let query = ProductQuery { filter, limit: 10, ..ProductQuery::default() };
    cache.products(&test.db, &query).await.unwrap().count
}

#[tokio::test]
async fn a_category_has_a_name_of_its_own_in_any_case() {
    let test = TestDb::create().await;
    let lamps = create_category(&test.db, &named("Élan"), None).await.unwrap().unwrap();
    assert_eq!(
        create_category(&test.db, &named("ÉLAN"), None).await.unwrap().unwrap_err(),
        CategoryRefusal::NameTaken
    );
    let rugs = create_category(&test.db, &named("Rugs"), None).await.unwrap().unwrap();
    let change = async |id, change| change_category(&test.db, id, &change, None, None).await.unwrap();
    assert_eq!(change(rugs.id, renamed("e\u{301}lan")).await.unwrap_err(), CategoryRefusal::NameTaken);
    assert_eq!(change(lamps.id, renamed("ÉLAN")).await.unwrap().name, "ÉLAN");
    assert_eq!(change(CategoryId(99), renamed("x")).await.unwrap_err(), CategoryRefusal::NotFound);
    let hidden = CategoryChange { is_active: Some(false), ..CategoryChange::default() };
    let hidden = change(rugs.id, hidden).await.unwrap();
    assert_eq!((hidden.name.as_str(), hidden.is_active), ("Rugs", false));
    let names = async |all| {
        categories(&test.db, all).await.unwrap().into_iter().map(|category| category.name).collect::<Vec<_>>()
    };
    assert_eq!(names(true).await, ["Rugs", "ÉLAN"]);
    assert_eq!(names(false).await, ["ÉLAN"]);
}

#[tokio::test]
async fn a_category_counts_what_the_viewer_may_see_and_stays_while_it_has_any() {
    let test = TestDb::create().await;
    let lamps = create_category(&test.db, &named("Lamps"), None).await.unwrap().unwrap().id;
    product(&test, "Lamp", lamps, true).await;
    product(&test, "Old lamp", lamps, false).await;
    let count = async |all| categories(&test.db, all).await.unwrap()[0].product_count;
    assert_eq!((count(true).await, count(false).await), (2, 1));
    assert_eq!(delete_category(&test.db, lamps, None).await.unwrap(), Err(CategoryRefusal::NotEmpty));
    let empty = create_category(&test.db, &named("Empty"), None).await.unwrap().unwrap().id;
    assert_eq!(delete_category(&test.db, empty, None).await.unwrap(), Ok(()));
    assert_eq!(delete_category(&test.db, empty, None).await.unwrap(), Err(CategoryRefusal::NotFound));
}

#[tokio::test]
async fn products_are_found_by_the_name_that_their_category_has_now() {
    let test = TestDb::create().await;
    let cache = Cache::new(1 << 20);
    let bath = create_category(&test.db, &named("Bath"), None).await.unwrap().unwrap().id;
    let lamp = product(&test, "Lamp", bath, true).await;
    assert_eq!((found(&cache, &test, "bath glow").await, found(&cache, &test, "spa").await), (1, 0));
    assert_eq!(cache.product(&test.db, lamp).await.unwrap().unwrap().category_name, "Bath");
    change_category(&test.db, bath, &renamed("Spa"), None, None).await.unwrap().unwrap();
    cache.forget(&[Key::Categories]);
    assert_eq!((found(&cache, &test, "bath").await, found(&cache, &test, "spa LAMP").await), (0, 1));
    assert_eq!(cache.product(&test.db, lamp).await.unwrap().unwrap().category_name, "Spa");
}

#[tokio::test]
async fn movements_come_newest_first_in_parts() {
    let test = TestDb::create().await;
    let lamps = create_category(&test.db, &named("Lamps"), None).await.unwrap().unwrap().id;
    let lamp = product(&test, "Lamp", lamps, true).await;
    for change in [4, -2] {
        let work = Work::Move(lamp, crate::ledger::StockMove::Change(change));
        commit(&test.db, uuid::Uuid::new_v4(), &[work]).await.unwrap();
    }
    let part = async |limit, offset| {
        let (movements, count) = movements(&test.db, lamp, limit, offset).await.unwrap();
        (count, movements.into_iter().map(|one| (one.change, one.level)).collect::<Vec<_>>())
    };
    assert_eq!(part(2, 0).await, (3, vec![(-2, 5), (4, 7)]));
    assert_eq!(part(2, 2).await, (3, vec![(3, 3)]));
    assert_eq!(part(2, 4).await, (3, vec![]));
}
