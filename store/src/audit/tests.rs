//! Each rule must hold of what the ledger writes, and notice when somebody else wrote.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::*;
use crate::ledger::{
    self, Done, IdempotencyKey, NewProduct, Outcome, PlaceOrder, StepOrder, StockMove, Work,
};
use crate::model::{Money, OrderId, OrderStatus, ProductId, UserId};
use crate::testing::TestDb;

/// Writes past all rules, those of the schema included.
async fn tamper(db: &Db, text: &str) {
    let text = AssertSqlSafe(text.to_owned());
    match db {
        Db::Sqlite(pools) => {
            let mut writer = pools.writer.acquire().await.unwrap();
            sqlx::query("pragma ignore_check_constraints = on").execute(&mut *writer).await.unwrap();
            sqlx::query(text).execute(&mut *writer).await.unwrap();
        }
        Db::Postgres(pool) => {
            for constraint in [
                "alter table products drop constraint if exists products_stock_check",
                "alter table stock_movements drop constraint if exists stock_movements_level_check",
            ] {
                sqlx::query(constraint).execute(pool).await.unwrap();
            }
            sqlx::query(text).execute(pool).await.unwrap();
        }
    }
}

async fn one(db: &Db, work: Work) -> Outcome {
    ledger::commit(db, Uuid::new_v4(), &[work]).await.unwrap().outcomes.pop().unwrap()
}

async fn order(test: &TestDb, user: UserId, lines: &[(ProductId, i64)]) -> OrderId {
    let cart = test.fill_cart(user, lines).await;
    let work = Work::Place(PlaceOrder {
        user_id: user,
        cart_id: cart.id,
        cart_version: cart.version,
        lines: lines.to_vec(),
        shipping_address: String::new(),
        phone: String::new(),
        notes: String::new(),
        key: Some(IdempotencyKey { key: format!("{}-{}", user.0, cart.version), fingerprint: [7; 32] }),
    });
    match one(&test.db, work).await {
        Ok(Done::Placed(order)) => order.id,
        other => panic!("{other:?}"),
    }
}

async fn step(db: &Db, order_id: OrderId, to: OrderStatus) {
    one(db, Work::Step(StepOrder { order_id, to, owner: None })).await.unwrap();
}

/// Two buyers, four products and four orders: 1 delivered, 2 cancelled, 3 pending; 4 pending, with an item of a
/// product that is no more. Product 1 has movements of every kind.
async fn shop() -> TestDb {
    let test = TestDb::create().await;
    let db = &test.db;
    let category_id = test.category("Lamps").await;
    let users = [test.user().await, test.user().await];
    for stock in [10, 20, 0, 5] {
        let new = NewProduct {
            name: "Lamp".to_owned(),
            description: String::new(),
            price: Money(1999),
            stock,
            category_id,
            sku: None,
            featured: false,
            is_active: true,
            image: None,
        };
        one(db, Work::Create(Box::new(new))).await.unwrap();
    }
    let product = ProductId;
    one(db, Work::Move(product(1), StockMove::Change(-2))).await.unwrap();
    one(db, Work::Move(product(1), StockMove::Set { stock: 12, was: 8 })).await.unwrap();
    let delivered = order(&test, users[0], &[(product(1), 3), (product(2), 1)]).await;
    let cancelled = order(&test, users[0], &[(product(1), 2), (product(2), 2)]).await;
    order(&test, users[1], &[(product(2), 4)]).await;
    order(&test, users[1], &[(product(1), 1), (product(4), 5)]).await;
    step(db, delivered, OrderStatus::Shipped).await;
    step(db, delivered, OrderStatus::Delivered).await;
    step(db, cancelled, OrderStatus::Cancelled).await;
    one(db, Work::Delete(product(4), None)).await.unwrap();
    test
}

#[tokio::test]
async fn what_the_ledger_writes_keeps_every_rule() {
    let test = shop().await;
    let checks = audit(&test.db).await.unwrap();
    assert_eq!(checks.len(), RULES.len());
    for check in &checks {
        assert_eq!((check.violations, check.examples.len()), (0, 0), "{check:?}");
        assert!(check.rows > 0, "{check:?}");
    }
}

/// Each way to tamper, and the rules that must notice; no other rule may.
const TAMPERING: &[(&str, &[&Statement])] = &[
    ("update products set stock = stock + 1 where id = 1", &[&LEVEL_IS_SUM]),
    ("update products set stock = 4 where id = 3", &[&LEVEL_IS_SUM]),
    ("update products set stock = -1 where id = 3", &[&LEVEL_IS_SUM, &NEVER_NEGATIVE]),
    ("update stock_movements set level = level + 1 where kind = 'set'", &[&LEVEL_FOLLOWS]),
    ("update stock_movements set level = -5 where kind = 'change'", &[&LEVEL_FOLLOWS, &NEVER_NEGATIVE]),
    ("delete from order_items where order_id = 3", &[&HAS_ITEMS, &TOTAL_IS_LINES, &TAKEN_ONCE]),
    ("update orders set total = total - 1 where id = 1", &[&TOTAL_IS_LINES]),
    ("update order_items set price = price + 1 where order_id = 4", &[&TOTAL_IS_LINES]),
    ("update order_items set quantity = 3 where order_id = 3", &[&TOTAL_IS_LINES, &TAKEN_ONCE]),
    ("update stock_movements set order_id = 77 where kind = 'order' and order_id = 3", &[&TAKEN_ONCE]),
    ("update stock_movements set order_id = null where kind = 'order' and order_id = 3", &[&TAKEN_ONCE]),
    (
        "insert into stock_movements (product_id, kind, change, level, order_id, created_at) \
         select product_id, kind, change, 11, order_id, created_at from stock_movements \
         where kind = 'order' and order_id = 3",
        &[&LEVEL_IS_SUM, &TAKEN_ONCE],
    ),
    (
        "delete from stock_movements where kind = 'cancel' and product_id = 2",
        &[&LEVEL_IS_SUM, &RETURNED_ONCE],
    ),
    (
        "insert into stock_movements (product_id, kind, change, level, order_id, created_at) \
         select 3, 'cancel', 4, 4, 3, created_at from stock_movements where id = 1",
        &[&LEVEL_IS_SUM, &RETURNED_ONCE],
    ),
    ("update orders set status = 'cancelled' where id = 3", &[&RETURNED_ONCE, &STATUS_IS_LAST_STEP]),
    ("update orders set status = 'shipped' where id = 1", &[&STATUS_IS_LAST_STEP]),
    (
        "delete from order_steps where order_id = 1 and status = 'shipped'",
        &[&STATUS_IS_LAST_STEP, &STEP_TOLD_ONCE],
    ),
    ("delete from events where user_id = 1 and id = 1", &[&GAPLESS, &ORDER_TOLD_ONCE]),
    ("update events set id = 9 where user_id = 2 and id = 2", &[&GAPLESS]),
    ("update inboxes set last_event_id = last_event_id + 1 where user_id = 1", &[&GAPLESS]),
    ("delete from inboxes where user_id = 2", &[&GAPLESS]),
    ("update inboxes set read_up_to = 99 where user_id = 2", &[&GAPLESS]),
    ("update events set order_id = 1 where user_id = 1 and id = 2", &[&ORDER_TOLD_ONCE]),
    ("update events set order_id = 77 where user_id = 2 and id = 1", &[&ORDER_TOLD_ONCE]),
    ("update events set status = 'cancelled' where status = 'shipped'", &[&STEP_TOLD_ONCE]),
    (
        "insert into order_steps (order_id, status, at) select id, 'shipped', created_at from orders where id = 3",
        &[&STATUS_IS_LAST_STEP, &STEP_TOLD_ONCE],
    ),
    ("update idempotency_keys set order_id = 77 where order_id = 1", &[&KEY_HAS_ANSWER]),
    ("update idempotency_keys set order_id = 3 where order_id = 1", &[&KEY_HAS_ANSWER]),
    ("update idempotency_keys set order_id = null where order_id = 1", &[&KEY_HAS_ANSWER]),
];

#[tokio::test]
async fn every_rule_notices_what_breaks_it_and_nothing_else() {
    let mut noticed = std::collections::BTreeSet::new();
    for (text, expected) in TAMPERING {
        let test = shop().await;
        tamper(&test.db, text).await;
        let broken: Vec<_> =
            audit(&test.db).await.unwrap().into_iter().filter(|check| check.violations > 0).collect();
        let rules: Vec<_> = broken.iter().map(|check| check.rule).collect();
        let wanted: Vec<_> = RULES
            .iter()
            .filter(|(_, _, statement)| expected.iter().any(|wanted| wanted.name == statement.name))
            .map(|(rule, ..)| *rule)
            .collect();
        assert_eq!(rules, wanted, "{text}\n{broken:#?}");
        assert!(broken.iter().all(|check| !check.examples.is_empty()), "{text}\n{broken:#?}");
        noticed.extend(rules);
    }
    assert_eq!(noticed.len(), RULES.len(), "a rule that no tampering breaks is not tested");
}

#[tokio::test]
async fn many_violations_are_counted_and_few_are_shown() {
    let test = shop().await;
    tamper(
        &test.db,
        "insert into orders (user_id, status, total, created_at, updated_at) \
         select o.user_id, 'pending', 0, o.created_at, o.updated_at from orders o cross join \
         (with recursive n (i) as (select 1 union all select i + 1 from n where i < 12) select i from n) n \
         where o.id = 1",
    )
    .await;
    let checks = audit(&test.db).await.unwrap();
    let check = checks.iter().find(|check| check.rule == "no order is without items").unwrap();
    assert_eq!((check.rows, check.violations, check.examples.len()), (16, 12, 5));
}
