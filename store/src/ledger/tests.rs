//! What the books promise, said with the store alone: no actor, no HTTP.

use std::sync::{Arc, Mutex};

use super::*;
use crate::bulk::Bulk;
use crate::carts::{self, CartEdit};
use crate::db::{read, transaction};
use crate::model::{Cart, EventId, MovementKind};
use crate::orders;
use crate::testing::TestDb;

pub(super) struct Shop {
    pub(super) test: TestDb,
    category: CategoryId,
}

impl Shop {
    pub(super) async fn open() -> Self {
        let test = TestDb::create().await;
        let category = test.category("Lamps").await;
        Self { test, category }
    }

    pub(super) async fn one(&self, work: Work) -> Outcome {
        commit(&self.test.db, Uuid::new_v4(), &[work]).await.unwrap().outcomes.pop().unwrap()
    }

    pub(super) fn lamp(&self, stock: i64) -> NewProduct {
        NewProduct {
            name: "Lamp".to_owned(),
            description: String::new(),
            price: Money(1999),
            stock,
            category_id: self.category,
            sku: None,
            featured: false,
            is_active: true,
            image: None,
        }
    }

    pub(super) async fn product(&self, stock: i64) -> Product {
        match self.one(Work::Create(Box::new(self.lamp(stock)))).await {
            Ok(Done::Product(product)) => *product,
            other => panic!("{other:?}"),
        }
    }

    async fn cart(&self, lines: &[(ProductId, i64)]) -> (UserId, Cart) {
        let user = self.test.user().await;
        (user, self.fill(user, lines).await)
    }

    async fn fill(&self, user: UserId, lines: &[(ProductId, i64)]) -> Cart {
        self.test.fill_cart(user, lines).await
    }

    async fn buyer(&self, product: ProductId, quantity: i64) -> PlaceOrder {
        let (user, cart) = self.cart(&[(product, quantity)]).await;
        order_of(user, &cart)
    }

    pub(super) async fn level(&self, product: ProductId) -> (i64, i64, i64) {
        read!(&self.test.db, pool => {
            sqlx::query_as(
                "select stock, version, (select cast(coalesce(sum(change), 0) as bigint) from stock_movements where product_id = $1) \
                 from products where id = $1",
            )
            .bind(product)
            .fetch_one(pool)
            .await
        })
        .unwrap()
    }
}

fn order_of(user_id: UserId, cart: &Cart) -> PlaceOrder {
    PlaceOrder {
        user_id,
        cart_id: cart.id,
        cart_version: cart.version,
        lines: cart.lines.iter().map(|line| (line.product_id, line.quantity)).collect(),
        shipping_address: "1 Quay".to_owned(),
        phone: String::new(),
        notes: String::new(),
        key: None,
    }
}

fn placed(outcome: &Outcome) -> &Order {
    match outcome {
        Ok(Done::Placed(order)) => order,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_statement_over_rows_is_understood_by_the_engine() {
    use sqlx::{Executor, SqlStr};
    let test = TestDb::create().await;
    let all: &[&[&Bulk]] = &[
        lock::BULKS,
        write::BULKS,
        products::BULKS,
        orders::BULKS,
        crate::catalogue::BULKS,
        crate::changes::BULKS,
        crate::sample::BULKS,
        crate::testing::load::BULKS,
    ];
    for bulk in all.iter().copied().flatten() {
        for rows in [1, 2] {
            let text: &'static str = match &test.db {
                Db::Sqlite(_) => bulk.sqlite_text(rows).leak(),
                Db::Postgres(_) => bulk.postgres_text(1).leak(),
            };
            let outcome = read!(&test.db, pool => pool.prepare(SqlStr::from_static(text)).await.map(drop));
            assert!(outcome.is_ok(), "{}: {outcome:?}", bulk.text);
        }
    }
}

/// Counts the statements that sqlx says it ran on this thread, which on Postgres are the round trips.
#[derive(Clone, Default)]
pub(super) struct Statements(pub(super) Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Statements {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn on_postgres_a_batch_takes_the_same_few_statements_whatever_its_size() {
    let shop = Shop::open().await;
    if !matches!(shop.test.db, Db::Postgres(_)) {
        return;
    }
    let (lamp, shade) = (shop.product(10_000).await, shop.product(10_000).await);
    // Orders with keys and of two lines, steps of orders, and edits of carts: all that shoppers and their orders ask for.
    let run = async |size: usize| {
        let mut works = Vec::new();
        let mut steps = Vec::new();
        for _ in 0..size {
            let before = shop.buyer(lamp.id, 1).await;
            steps.push(Work::Place(before));
            let (user, cart) = shop.cart(&[(lamp.id, 2), (shade.id, 1)]).await;
            let key = IdempotencyKey { key: format!("of {user}"), fingerprint: [7; 32] };
            works.push(Work::Place(PlaceOrder { key: Some(key), ..order_of(user, &cart) }));
            let (_, cart) = shop.cart(&[(lamp.id, 1)]).await;
            let edit = CartEdit::Put(shade.id, 3);
            works.push(Work::EditCart(EditCart { cart_id: cart.id, cart_version: cart.version, edit }));
        }
        for placed_before in commit(&shop.test.db, Uuid::new_v4(), &steps).await.unwrap().outcomes {
            works.push(Work::Step(StepOrder {
                order_id: placed(&placed_before).id,
                to: OrderStatus::Cancelled,
                owner: None,
            }));
        }
        let statements = Statements::default();
        let counting = tracing::subscriber::set_default(statements.clone());
        let batch = commit(&shop.test.db, Uuid::new_v4(), &works).await.unwrap();
        drop(counting);
        assert!(batch.outcomes.iter().all(Result::is_ok), "{:?}", batch.outcomes);
        assert_eq!(batch.outcomes.len(), 3 * size);
        statements.0.lock().unwrap().clone()
    };
    let few = run(1).await;
    assert!((4..=7).contains(&few.len()), "{few:#?}");
    for size in [10, 100] {
        assert_eq!(run(size).await.len(), few.len());
    }
}

#[tokio::test]
async fn on_postgres_a_batch_is_planned_anew_for_tables_that_have_grown() {
    let shop = Shop::open().await;
    if !matches!(shop.test.db, Db::Postgres(_)) {
        return;
    }
    let lamp = shop.product(100).await;
    let plans_anew = async || {
        let statements = Statements::default();
        let counting = tracing::subscriber::set_default(statements.clone());
        shop.one(Work::Move(lamp.id, StockMove::Change(1))).await.unwrap();
        drop(counting);
        statements.0.lock().unwrap().iter().any(|statement| statement.contains("discard plans"))
    };
    assert!(!plans_anew().await);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    tokio::time::resume();
    assert!(plans_anew().await);
    assert!(!plans_anew().await);
}

/// On Postgres triggers see to it, on SQLite foreign keys.
#[tokio::test]
async fn what_others_name_is_not_deleted_and_what_is_deleted_leaves_nothing_behind() {
    let shop = Shop::open().await;
    let db = &shop.test.db;
    let lamp = shop.product(5).await;
    let buyer = shop.buyer(lamp.id, 1).await;
    let (customer, cart) = (buyer.user_id, buyer.cart_id);
    placed(&shop.one(Work::Place(buyer)).await);
    let delete = async |statement: &'static str, id: i64| transaction!(db, tx => { Ok(sqlx::query(statement).bind(id).execute(tx).await.map(drop)?) });
    let count = async |statement: &'static str| {
        let (rows,): (i64,) = read!(db, pool => sqlx::query_as(statement).fetch_one(pool).await).unwrap();
        rows
    };
    let refused = delete("delete from users where id = $1", customer.0).await;
    assert!(matches!(refused, Err(StoreError::Fault(_))), "{refused:?}");
    delete("delete from products where id = $1", lamp.id.0).await.unwrap();
    assert_eq!(count("select count(*) from stock_movements").await, 0);
    assert_eq!(count("select count(*) from order_items").await, 1, "an order keeps its own copy");
    delete("delete from orders where user_id = $1", customer.0).await.unwrap();
    assert_eq!(count("select count(*) from order_items").await, 0);
    assert_eq!(count("select count(*) from events").await + count("select count(*) from inboxes").await, 2);
    delete("delete from users where id = $1", customer.0).await.unwrap();
    for statement in [
        "select count(*) from events",
        "select count(*) from inboxes",
        "select count(*) from idempotency_keys",
        "select count(*) from carts",
    ] {
        assert_eq!(count(statement).await, 0, "{statement}, cart {cart}");
    }
}

#[tokio::test]
async fn a_key_that_ran_out_and_is_just_used_again_is_not_pruned() {
    let shop = Shop::open().await;
    let user = shop.test.user().await;
    let key = IdempotencyKey { key: "again".to_owned(), fingerprint: [1; 32] };
    let cart = shop.fill(user, &[]).await;
    let first = PlaceOrder { key: Some(key.clone()), ..order_of(user, &cart) };
    assert_eq!(shop.one(Work::Place(first)).await.map(|_| ()), Err(Refusal::CartEmpty));
    transaction!(&shop.test.db, tx => {
        let now = Timestamp::now();
        Ok(sqlx::query("update idempotency_keys set expires_at = $1").bind(now).execute(tx).await.map(drop)?)
    })
    .unwrap();
    let again = "update idempotency_keys set expires_at = now() + interval '1 day'".to_owned();
    let pruning = prune(&shop.test.db);
    if let Some(pruned) = shop.test.while_another_writes(again, pruning, "select 1".to_owned()).await {
        pruned.unwrap();
        assert!(first_answer(&shop.test.db, user, &key).await.unwrap().is_some(), "the promise holds");
    }
}

#[tokio::test]
async fn a_line_and_the_deletion_of_its_product_do_not_wait_for_each_other() {
    let shop = Shop::open().await;
    let lamp = shop.product(5).await;
    let (user, cart) = shop.cart(&[]).await;
    let put = Work::EditCart(EditCart {
        cart_id: cart.id,
        cart_version: cart.version,
        edit: CartEdit::Put(lamp.id, 1),
    });
    // Another node deletes it, and its carts' lines with it, while this one is about to put a line.
    let delete = format!("delete from products where id = {}", lamp.id);
    let putting = Box::pin(shop.one(put));
    if let Some(outcome) = shop.test.while_another_writes(delete, putting, "select 1".to_owned()).await {
        assert_eq!(outcome.map(|_| ()), Err(Refusal::ProductNotFound), "of {user}");
    }
}

#[tokio::test]
async fn a_batch_sells_no_more_than_there_is_in_arrival_order() {
    let shop = Shop::open().await;
    let lamp = shop.product(5).await;
    let mut works = Vec::new();
    for quantity in [2, 2, 2, 1, 1] {
        works.push(Work::Place(shop.buyer(lamp.id, quantity).await));
    }
    let batch = commit(&shop.test.db, Uuid::new_v4(), &works).await.unwrap();
    let short =
        |requested| Err(Refusal::OutOfStock(vec![Shortfall { product: lamp.id.0, requested, available: 1 }]));
    assert_eq!(placed(&batch.outcomes[0]).total, Money(3998));
    placed(&batch.outcomes[1]);
    assert_eq!(batch.outcomes[2].clone().map(|_| ()), short(2));
    placed(&batch.outcomes[3]);
    assert!(matches!(batch.outcomes[4], Err(Refusal::OutOfStock(_))));
    let (stock, version, sum) = shop.level(lamp.id).await;
    assert_eq!((stock, sum), (0, 0));
    assert_eq!(batch.levels, vec![(lamp.id, Level { stock, version })]);
    assert!(
        batch.forget.contains(&Key::Availability),
        "the last one is gone: lists of what is in stock change"
    );
}

#[tokio::test]
async fn a_placed_order_is_read_back_as_it_was_answered_and_its_cart_is_empty() {
    let shop = Shop::open().await;
    let (lamp, desk) = (shop.product(5).await, shop.product(5).await);
    let (user, cart) = shop.cart(&[(desk.id, 1), (lamp.id, 2)]).await;
    let outcome = shop.one(Work::Place(order_of(user, &cart))).await;
    let order = placed(&outcome);
    assert_eq!(orders::find(&shop.test.db, order.id).await.unwrap().as_ref(), Some(order));
    let after = carts::load(&shop.test.db, user).await.unwrap();
    assert_eq!((after.lines.len(), after.version), (0, cart.version + 1));
}

#[tokio::test]
async fn a_cart_that_changed_since_places_nothing_and_one_cart_makes_one_order() {
    let shop = Shop::open().await;
    let lamp = shop.product(5).await;
    let (user, cart) = shop.cart(&[(lamp.id, 1)]).await;
    let order = order_of(user, &cart);
    let works = [Work::Place(order.clone()), Work::Place(order.clone())];
    let batch = commit(&shop.test.db, Uuid::new_v4(), &works).await.unwrap();
    placed(&batch.outcomes[0]);
    assert_eq!(batch.outcomes[1].clone().map(|_| ()), Err(Refusal::CartMoved));
    assert_eq!(shop.one(Work::Place(order)).await.map(|_| ()), Err(Refusal::CartMoved));
    assert_eq!(shop.level(lamp.id).await.0, 4);
}

#[tokio::test]
async fn carts_of_many_are_edited_in_one_batch_each_by_its_version() {
    let shop = Shop::open().await;
    let (lamp, desk) = (shop.product(5).await, shop.product(5).await);
    let (ada, ada_cart) = shop.cart(&[(lamp.id, 1), (desk.id, 1)]).await;
    let (bob, bob_cart) = shop.cart(&[(lamp.id, 1)]).await;
    let (cyd, cyd_cart) = shop.cart(&[(lamp.id, 1)]).await;
    let (dan, dan_cart) = shop.cart(&[(lamp.id, 1)]).await;
    let edit =
        |cart: &Cart, edit| Work::EditCart(EditCart { cart_id: cart.id, cart_version: cart.version, edit });
    let works = [
        edit(&ada_cart, CartEdit::Remove(ada_cart.lines[0].id)),
        edit(&bob_cart, CartEdit::Clear),
        edit(&cyd_cart, CartEdit::Put(lamp.id, 3)),
        edit(&cyd_cart, CartEdit::Put(lamp.id, 4)),
        edit(&dan_cart, CartEdit::Put(ProductId(999), 1)),
    ];
    let batch = commit(&shop.test.db, Uuid::new_v4(), &works).await.unwrap();
    let refusals: Vec<_> = batch.outcomes.iter().map(|outcome| outcome.as_ref().err().cloned()).collect();
    assert_eq!(refusals, [None, None, None, Some(Refusal::CartMoved), Some(Refusal::ProductNotFound)]);
    let quantities = async |user| {
        let cart = carts::load(&shop.test.db, user).await.unwrap();
        (cart.version, cart.lines.iter().map(|line| line.quantity).collect::<Vec<_>>())
    };
    assert_eq!(quantities(ada).await, (ada_cart.version + 1, vec![1]));
    assert_eq!(quantities(bob).await, (bob_cart.version + 1, vec![]));
    assert_eq!(quantities(cyd).await, (cyd_cart.version + 1, vec![3]));
    assert_eq!(quantities(dan).await, (dan_cart.version, vec![1]));
}

#[tokio::test]
async fn a_key_gives_the_first_answer_again_whatever_it_was() {
    let shop = Shop::open().await;
    let lamp = shop.product(3).await;
    let key = |key: &str, body| Some(IdempotencyKey { key: key.to_owned(), fingerprint: [body; 32] });
    let (user, cart) = shop.cart(&[(lamp.id, 2)]).await;
    let first = shop.one(Work::Place(PlaceOrder { key: key("a", 1), ..order_of(user, &cart) })).await;
    let first = placed(&first).id;

    let empty = shop.fill(user, &[]).await;
    let again = PlaceOrder { key: key("a", 1), ..order_of(user, &empty) };
    assert!(
        matches!(shop.one(Work::Place(again.clone())).await, Ok(Done::Replayed(FirstAnswer::Order(id))) if id == first)
    );
    let other_body = PlaceOrder { key: key("a", 2), ..again };
    assert_eq!(shop.one(Work::Place(other_body)).await.map(|_| ()), Err(Refusal::KeyReused));

    let refilled = shop.fill(user, &[(lamp.id, 2)]).await;
    let refused = PlaceOrder { key: key("b", 1), ..order_of(user, &refilled) };
    let missing = vec![Shortfall { product: lamp.id.0, requested: 2, available: 1 }];
    let answer = shop.one(Work::Place(refused.clone())).await;
    assert_eq!(answer.map(|_| ()), Err(Refusal::OutOfStock(missing.clone())));
    shop.one(Work::Move(lamp.id, StockMove::Change(5))).await.unwrap();
    let stored = first_answer(&shop.test.db, user, refused.key.as_ref().unwrap()).await.unwrap();
    assert_eq!(stored, Some(Ok(FirstAnswer::OutOfStock(missing.clone()))));
    assert!(
        matches!(shop.one(Work::Place(refused)).await, Ok(Done::Replayed(FirstAnswer::OutOfStock(m))) if m == missing)
    );

    let fresh = PlaceOrder { key: key("c", 1), ..order_of(user, &refilled) };
    placed(&shop.one(Work::Place(fresh)).await);
}

#[tokio::test]
async fn a_key_past_its_day_is_free_again() {
    let shop = Shop::open().await;
    let lamp = shop.product(3).await;
    let key = Some(IdempotencyKey { key: "a".to_owned(), fingerprint: [1; 32] });
    let (user, cart) = shop.cart(&[(lamp.id, 1)]).await;
    placed(&shop.one(Work::Place(PlaceOrder { key: key.clone(), ..order_of(user, &cart) })).await);
    transaction!(&shop.test.db, tx => {
        sqlx::query("update idempotency_keys set expires_at = $1").bind(Timestamp::now()).execute(tx).await?;
        Ok(())
    })
    .unwrap();
    let refilled = shop.fill(user, &[(lamp.id, 1)]).await;
    placed(&shop.one(Work::Place(PlaceOrder { key, ..order_of(user, &refilled) })).await);
}

#[tokio::test]
async fn cancelling_puts_stock_back_once_and_each_step_is_told_once() {
    let shop = Shop::open().await;
    let lamp = shop.product(3).await;
    let buyer = shop.buyer(lamp.id, 3).await;
    let user = buyer.user_id;
    let first = commit(&shop.test.db, Uuid::new_v4(), &[Work::Place(buyer)]).await.unwrap();
    let order = placed(&first.outcomes[0]).id;
    assert_eq!(first.events.len(), 1);
    assert_eq!(first.events[0].id, EventId(1));

    let cancel = |owner| Work::Step(StepOrder { order_id: order, to: OrderStatus::Cancelled, owner });
    let stranger = shop.test.user().await;
    assert_eq!(shop.one(cancel(Some(stranger))).await.map(|_| ()), Err(Refusal::OrderNotFound));
    let works = [cancel(Some(user)), cancel(None), cancel(None)];
    let second = commit(&shop.test.db, Uuid::new_v4(), &works).await.unwrap();
    assert!(second.outcomes.iter().all(Result::is_ok));
    assert_eq!(second.events.len(), 1);
    assert_eq!(
        (second.events[0].id, second.events[0].previous_status),
        (EventId(2), Some(OrderStatus::Pending))
    );
    assert!(second.forget.contains(&Key::Availability));
    assert_eq!(shop.level(lamp.id).await.0, 3);

    let ship = Work::Step(StepOrder { order_id: order, to: OrderStatus::Shipped, owner: None });
    let wrong = WrongStep { from: OrderStatus::Cancelled, to: OrderStatus::Shipped };
    assert_eq!(shop.one(ship).await.map(|_| ()), Err(Refusal::WrongStep(wrong)));
    let order = orders::find(&shop.test.db, order).await.unwrap().unwrap();
    let history: Vec<_> = order.history.iter().map(|change| change.status).collect();
    assert_eq!(history, [OrderStatus::Pending, OrderStatus::Cancelled]);
}

#[tokio::test]
async fn a_description_changed_while_the_last_unit_sells_does_not_bring_it_back() {
    let shop = Shop::open().await;
    let lamp = shop.product(1).await;
    let buyer = shop.buyer(lamp.id, 1).await;
    let change = ProductChange { description: Some("Bright".to_owned()), ..ProductChange::default() };
    let works = [
        Work::Place(buyer),
        Work::Change(lamp.id, Box::new(change.clone()), Seen::default()),
        Work::Change(lamp.id, Box::new(change), Seen::version(Some(99))),
    ];
    let batch = commit(&shop.test.db, Uuid::new_v4(), &works).await.unwrap();
    placed(&batch.outcomes[0]);
    assert!(batch.outcomes[1].is_ok());
    assert_eq!(batch.outcomes[2].clone().map(|_| ()), Err(Refusal::ProductChanged));
    let (stock, _, sum) = shop.level(lamp.id).await;
    assert_eq!((stock, sum), (0, 0));
}

#[tokio::test]
async fn stock_is_moved_and_set_only_as_the_admin_saw_it() {
    let shop = Shop::open().await;
    let lamp = shop.product(20).await;
    let level = |outcome: Outcome| match outcome {
        Ok(Done::Product(product)) => Ok(product.stock),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal),
    };
    assert_eq!(level(shop.one(Work::Move(lamp.id, StockMove::Change(-3))).await), Ok(17));
    assert_eq!(
        level(shop.one(Work::Move(lamp.id, StockMove::Set { stock: 5, was: 20 })).await),
        Err(Refusal::StockIs(17))
    );
    assert_eq!(level(shop.one(Work::Move(lamp.id, StockMove::Set { stock: 5, was: 17 })).await), Ok(5));
    assert_eq!(level(shop.one(Work::Move(lamp.id, StockMove::Change(-6))).await), Err(Refusal::StockIs(5)));
    assert_eq!(
        level(shop.one(Work::Move(lamp.id, StockMove::Change(i64::MAX))).await),
        Err(Refusal::StockIs(5))
    );
    let set = ProductChange { stock: Some(9), ..ProductChange::default() };
    assert_eq!(level(shop.one(Work::Change(lamp.id, Box::new(set), Seen::default())).await), Ok(9));
    let kinds: Vec<(MovementKind, i64)> = read!(&shop.test.db, pool => {
        sqlx::query_as("select kind, level from stock_movements order by id").fetch_all(pool).await
    })
    .unwrap();
    let expected = [
        (MovementKind::Initial, 20),
        (MovementKind::Change, 17),
        (MovementKind::Set, 5),
        (MovementKind::Set, 9),
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn a_sku_is_made_from_the_id_and_a_taken_one_is_refused_alone() {
    let shop = Shop::open().await;
    let lamp = shop.product(0).await;
    assert_eq!(lamp.sku, format!("SKU-{:06}", lamp.id.0));
    let next = format!("SKU-{:06}", lamp.id.0 + 2);
    let squatter = NewProduct { sku: Some(next.clone()), ..shop.lamp(1) };
    let works = [
        Work::Create(Box::new(squatter.clone())),
        Work::Create(Box::new(shop.lamp(1))),
        Work::Create(Box::new(squatter)),
    ];
    let batch = commit(&shop.test.db, Uuid::new_v4(), &works).await.unwrap();
    let skus: Vec<_> = batch
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(Done::Product(product)) => Ok(product.sku.clone()),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.clone()),
        })
        .collect();
    assert_eq!(skus, [Ok(next.clone()), Ok(format!("{next}-1")), Err(Refusal::SkuTaken)]);
    let take = ProductChange { sku: Some(next), ..ProductChange::default() };
    assert_eq!(
        shop.one(Work::Change(lamp.id, Box::new(take), Seen::default())).await.map(|_| ()),
        Err(Refusal::SkuTaken)
    );
}

#[tokio::test]
async fn a_deleted_product_leaves_carts_and_stays_in_orders() {
    let shop = Shop::open().await;
    let (lamp, desk) = (shop.product(5).await, shop.product(5).await);
    let order = shop.one(Work::Place(shop.buyer(lamp.id, 1).await)).await;
    let order = placed(&order).id;
    let (user, cart) = shop.cart(&[(lamp.id, 1), (desk.id, 1)]).await;
    let sale_beside_delete = [Work::Place(shop.buyer(lamp.id, 1).await), Work::Delete(lamp.id, None)];
    let batch = commit(&shop.test.db, Uuid::new_v4(), &sale_beside_delete).await.unwrap();
    assert_eq!(batch.outcomes[0].clone().map(|_| ()), Err(Refusal::CartMoved));
    assert!(matches!(batch.outcomes[1], Ok(Done::Deleted)));
    assert_eq!(shop.one(Work::Place(order_of(user, &cart))).await.map(|_| ()), Err(Refusal::CartMoved));
    let cart = carts::load(&shop.test.db, user).await.unwrap();
    assert_eq!(cart.lines.iter().map(|line| line.product_id).collect::<Vec<_>>(), [desk.id]);
    let order = orders::find(&shop.test.db, order).await.unwrap().unwrap();
    assert_eq!((order.items[0].product_id, order.items[0].product_name.as_str()), (None, "Lamp"));
    let cancel = Work::Step(StepOrder { order_id: order.id, to: OrderStatus::Cancelled, owner: None });
    assert!(shop.one(cancel).await.is_ok(), "of a deleted product nothing goes back");
}

#[tokio::test]
async fn whether_a_batch_stands_is_found_out_and_stays_so() {
    let shop = Shop::open().await;
    let lamp = shop.product(1).await;
    let id = Uuid::new_v4();
    commit(&shop.test.db, id, &[Work::Move(lamp.id, StockMove::Change(1))]).await.unwrap();
    let never = Uuid::new_v4();
    // However often it is asked: the first answer may have been lost.
    for _ in 0..2 {
        assert!(settle(&shop.test.db, id).await.unwrap());
        assert!(!settle(&shop.test.db, never).await.unwrap());
    }
    let late = commit(&shop.test.db, never, &[Work::Move(lamp.id, StockMove::Change(1))]).await;
    assert!(matches!(late, Err(CommitError::Aborted(_))), "a batch that was called lost can never be stored");
    assert_eq!(shop.level(lamp.id).await.0, 2);
}

#[tokio::test]
async fn of_works_that_go_together_none_is_done_over_a_level_that_has_moved() {
    let shop = Shop::open().await;
    let (lamp, other) = (shop.product(10).await, shop.product(10).await);
    let set = |product: &Product, stock, was| {
        let change =
            ProductChange { stock: Some(stock), price: Some(Money(500)), ..ProductChange::default() };
        let seen = Seen { stock: Some(was), updated_at: Some(product.updated_at), version: None };
        Work::Change(product.id, Box::new(change), seen)
    };
    let buyer = shop.buyer(lamp.id, 3).await;
    shop.one(Work::Place(buyer)).await.unwrap();
    let both = |was| Work::Together(vec![set(&other, 20, 10), set(&lamp, 30, was)]);
    assert_eq!(shop.one(both(10)).await.unwrap_err(), Refusal::StockIs(7));
    assert_eq!((shop.level(other.id).await.0, shop.level(lamp.id).await.0), (10, 7));
    shop.one(both(7)).await.unwrap();
    assert_eq!((shop.level(other.id).await.0, shop.level(lamp.id).await.0), (20, 30));
}
