//! What the actors promise, said by their handles over a database of their own: no HTTP.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use souk_store::cache::{Cache, Key};
use souk_store::ledger::{Done, IdempotencyKey, NewProduct, Refusal, StockMove};
use souk_store::model::{CategoryId, Money, OrderId, OrderStatus, Product, ProductId, Timestamp, UserId};
use souk_store::sample::SampleCategory;
use souk_store::testing::{TestDb, connect};
use souk_store::{audit, carts, orders, sample};

use crate::{Checkout, Handles, Refused, SocketLimits, Tree};

struct Shop {
    test: TestDb,
    tree: Option<Tree>,
    handles: Handles,
    category: CategoryId,
}

impl Shop {
    async fn open() -> Self {
        let test = TestDb::create().await;
        let category = test.category("Lamps").await;
        let tree = Tree::start(&test.db, &Cache::new(1 << 20), SocketLimits::default()).await.unwrap();
        let handles = tree.handles().clone();
        Self { test, tree: Some(tree), handles, category }
    }

    async fn product(&self, stock: i64) -> Product {
        let new = NewProduct {
            name: "Lamp".to_owned(),
            description: String::new(),
            price: Money(1999),
            stock,
            category_id: self.category,
            sku: None,
            featured: false,
            is_active: true,
            image: None,
        };
        self.handles.ledger.create_product(new).await.unwrap()
    }

    async fn buyer(&self, product: ProductId, quantity: i64) -> UserId {
        let user = self.test.user().await;
        self.handles.carts.add(user, product, quantity, i64::MAX).await.unwrap();
        user
    }

    async fn level(&self, product: ProductId) -> i64 {
        let unchanged = self.handles.ledger.move_stock(product, StockMove::Change(0)).await.unwrap();
        unchanged.stock
    }

    async fn close(mut self) {
        if let Some(tree) = self.tree.take() {
            tree.drain(Duration::from_secs(5)).await;
        }
        self.test.db.close().await;
    }
}

fn order_id(done: Result<Done, Refused>) -> OrderId {
    match done {
        Ok(Done::Placed(order)) => order.id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_buyers_of_twenty_units_get_exactly_twenty() {
    let shop = Shop::open().await;
    let lamp = shop.product(20).await.id;
    let mut buyers = Vec::new();
    for _ in 0..64 {
        buyers.push(shop.buyer(lamp, 1).await);
    }
    let mut checkouts = JoinSet::new();
    for buyer in buyers {
        let carts = shop.handles.carts.clone();
        checkouts.spawn(async move { carts.check_out(buyer, Checkout::default()).await });
    }
    let (mut sold, mut refused) = (0, 0);
    for outcome in checkouts.join_all().await {
        match outcome {
            Ok(Done::Placed(_)) => sold += 1,
            Err(Refused::Books(Refusal::OutOfStock(_))) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((sold, refused, shop.level(lamp).await), (20, 44, 0));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_does_not_wait_for_a_batch_that_waits_for_another_product() {
    let shop = Shop::open().await;
    let (lamp, chair) = (shop.product(5).await.id, shop.product(5).await.id);
    let (first, second) = (shop.buyer(lamp, 1).await, shop.buyer(chair, 1).await);
    let lock = format!("select 1 from products where id = {lamp} for update");
    if let Some(mut another) = shop.test.another_who_did(lock).await {
        let carts = shop.handles.carts.clone();
        let held_up = JoinSet::from_iter([async move { carts.check_out(first, Checkout::default()).await }]);
        another.is_waited_for().await;
        order_id(shop.handles.carts.check_out(second, Checkout::default()).await);
        another.commit().await;
        held_up.join_all().await.into_iter().for_each(|order| {
            order_id(order);
        });
        assert_eq!((shop.level(lamp).await, shop.level(chair).await), (4, 4));
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_checkouts_of_one_cart_at_once_make_one_order() {
    let shop = Shop::open().await;
    let lamp = shop.product(100).await.id;
    let buyer = shop.buyer(lamp, 2).await;
    let mut checkouts = JoinSet::new();
    for _ in 0..30 {
        let carts = shop.handles.carts.clone();
        checkouts.spawn(async move { carts.check_out(buyer, Checkout::default()).await });
    }
    let outcomes = checkouts.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Done::Placed(_)))).count(), 1);
    let empty = |outcome: &Result<Done, Refused>| matches!(outcome, Err(Refused::Books(Refusal::CartEmpty)));
    assert_eq!(outcomes.iter().filter(|outcome| empty(outcome)).count(), 29);
    assert_eq!(shop.level(lamp).await, 98);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_adds_add_up_even_while_idle_carts_are_let_go_all_the_time() {
    let shop = Shop::open().await;
    let lamp = shop.product(1_000).await.id;
    let user = shop.test.user().await;
    let mut adds = JoinSet::new();
    for _ in 0..100 {
        let carts = shop.handles.carts.clone();
        adds.spawn(async move { carts.add(user, lamp, 1, 1_000).await.map(drop) });
    }
    while let Some(added) = adds.join_next().await {
        added.unwrap().unwrap();
        shop.handles.carts.sweep(Duration::ZERO);
    }
    let cart = carts::load(&shop.test.db, user).await.unwrap();
    assert_eq!(cart.lines.iter().map(|line| line.quantity).collect::<Vec<_>>(), [100]);
    assert_eq!(shop.handles.carts.look(user).await.unwrap(), cart);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_panics_is_started_again_and_its_callers_are_told() {
    let shop = Shop::open().await;
    let lamp = shop.product(5).await.id;
    for _ in 0..50 {
        shop.handles.ledger.panic();
        let outcome = shop.handles.ledger.move_stock(lamp, StockMove::Change(1)).await;
        assert!(matches!(outcome, Ok(_) | Err(Refused::Uncertain | Refused::Unavailable)), "{outcome:?}");
    }
    let buyer = loop {
        match shop.handles.ledger.move_stock(lamp, StockMove::Change(0)).await {
            Ok(_) => break shop.buyer(lamp, 1).await,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    order_id(shop.handles.carts.check_out(buyer, Checkout::default()).await);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_that_panics_is_loaded_again_with_all_that_was_in_it() {
    let shop = Shop::open().await;
    let lamp = shop.product(5).await.id;
    let buyer = shop.buyer(lamp, 2).await;
    let before = shop.handles.carts.look(buyer).await.unwrap();
    for _ in 0..20 {
        shop.handles.carts.panic(buyer);
        // The one behind it may go down with it; the next finds a new cart.
        drop(shop.handles.carts.look(buyer).await);
    }
    let after = loop {
        if let Ok(cart) = shop.handles.carts.look(buyer).await {
            break cart;
        }
    };
    assert_eq!(after, before);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actors_that_panic_by_the_hundred_lose_no_order_that_was_acknowledged() {
    const BUYERS: usize = 8;
    const STOCK: i64 = 100_000;
    let shop = Shop::open().await;
    let lamp = shop.product(STOCK).await.id;
    let calm = Arc::new(AtomicBool::new(false));
    let mut buying = JoinSet::new();
    let mut buyers = Vec::new();
    for _ in 0..BUYERS {
        let buyer = shop.test.user().await;
        buyers.push(buyer);
        let (carts, calm) = (shop.handles.carts.clone(), Arc::clone(&calm));
        buying.spawn(async move {
            let mut placed = Vec::new();
            loop {
                // Read first: what is bought after it met no panic.
                let was_calm = calm.load(Ordering::Acquire);
                drop(carts.add(buyer, lamp, 1, STOCK).await);
                match carts.check_out(buyer, Checkout::default()).await {
                    Ok(Done::Placed(order)) if was_calm => break [placed, vec![order.id]].concat(),
                    Ok(Done::Placed(order)) => placed.push(order.id),
                    // An order whose answer was lost has emptied the cart.
                    Err(Refused::Unavailable | Refused::Uncertain | Refused::Books(Refusal::CartEmpty)) => {
                        tokio::task::yield_now().await
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
    }
    // The ledger is started again with growing pauses, so it gets the smaller share of them.
    for round in 0..400 {
        shop.handles.carts.panic(buyers[round % BUYERS]);
        if round % 50 == 0 {
            shop.handles.ledger.panic();
        }
        drop(shop.handles.carts.look(buyers[(round + 1) % BUYERS]).await);
    }
    calm.store(true, Ordering::Release);
    let placed = tokio::time::timeout(Duration::from_secs(60), buying.join_all()).await;
    let placed: Vec<OrderId> = placed.expect("the shop sells again").concat();
    let failures: BTreeMap<_, _> = shop.handles.failures().into_iter().collect();
    assert!(failures["cart"] >= 100 && failures["stock ledger"] >= 1, "{failures:?}");
    assert_eq!(placed.iter().collect::<HashSet<_>>().len(), placed.len(), "no order is two");
    for order in &placed {
        assert!(orders::find(&shop.test.db, *order).await.unwrap().is_some(), "{order} is gone");
    }
    let sold = STOCK - shop.level(lamp).await;
    assert!(sold >= i64::try_from(placed.len()).unwrap(), "{sold} sold, {} acknowledged", placed.len());
    for check in audit::audit(&shop.test.db).await.unwrap() {
        assert_eq!(check.violations, 0, "{}", check.rule);
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_ledger_answers_busy_at_once_and_a_drained_one_refuses() {
    let shop = Shop::open().await;
    let lamp = shop.product(5).await.id;
    let all = shop.handles.ledger.take_all_admissions().await;
    assert_eq!(shop.handles.ledger.move_stock(lamp, StockMove::Change(1)).await, Err(Refused::Busy));
    drop(all);
    assert_eq!(shop.level(lamp).await, 5);
    let handles = shop.handles.clone();
    shop.close().await;
    assert_eq!(handles.ledger.move_stock(lamp, StockMove::Change(1)).await, Err(Refused::Unavailable));
}

#[tokio::test]
async fn what_is_queued_when_the_shop_closes_is_done_and_answered() {
    let mut shop = Shop::open().await;
    let lamp = shop.product(1_000).await.id;
    let mut moves = JoinSet::new();
    for _ in 0..200 {
        let ledger = shop.handles.ledger.clone();
        moves.spawn(async move { ledger.move_stock(lamp, StockMove::Change(-1)).await.map(drop) });
    }
    // On this one thread each task runs until its message is sent, and the ledger has answered none yet.
    tokio::task::yield_now().await;
    shop.tree.take().unwrap().drain(Duration::from_secs(5)).await;
    let done = moves.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!(done, 200);
    let reopened = Tree::start(&shop.test.db, &Cache::new(1 << 20), SocketLimits::default()).await.unwrap();
    shop.handles = reopened.handles().clone();
    shop.tree = Some(reopened);
    assert_eq!(shop.level(lamp).await, 800);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_at_once_makes_one_order_and_the_rest_hear_of_it() {
    let shop = Shop::open().await;
    let lamp = shop.product(10).await.id;
    let buyer = shop.buyer(lamp, 1).await;
    let key = Some(IdempotencyKey { key: "k".to_owned(), fingerprint: [0; 32] });
    let mut checkouts = JoinSet::new();
    for _ in 0..10 {
        let (carts, key) = (shop.handles.carts.clone(), key.clone());
        checkouts.spawn(async move { carts.check_out(buyer, Checkout { key, ..Checkout::default() }).await });
    }
    let (mut placed, mut replayed) = (Vec::new(), 0);
    for outcome in checkouts.join_all().await {
        match outcome {
            Ok(Done::Placed(order)) => placed.push(order.id),
            Ok(Done::Replayed(_)) => replayed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((placed.len(), replayed, shop.level(lamp).await), (1, 9, 9));
    shop.handles.ledger.step_order(placed[0], OrderStatus::Cancelled, Some(buyer)).await.unwrap();
    assert_eq!(shop.level(lamp).await, 10);
    assert_eq!(orders::find(&shop.test.db, placed[0]).await.unwrap().unwrap().status, OrderStatus::Cancelled);
    shop.close().await;
}

#[tokio::test]
async fn what_another_process_writes_is_not_hidden_by_the_cache() {
    let test = TestDb::create().await;
    let cache = Cache::new(1 << 20);
    let tree = Tree::start(&test.db, &cache, SocketLimits::default()).await.unwrap();
    let before = cache.generation(Key::Catalogue);
    let other = connect(test.url()).await.unwrap();
    let category =
        SampleCategory { name: "Rugs".to_owned(), description: String::new(), created_at: Timestamp::now() };
    sample::add_categories(&other, &[category]).await.unwrap();
    if other.written_by_others().await.unwrap().is_some() {
        let noticed = async {
            while cache.generation(Key::Catalogue) == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), noticed).await.expect("it is noticed");
    }
    tree.drain(Duration::from_secs(5)).await;
}
