//! Two nodes, which are two caches over one database and one Redis, without their actors.
//!
//! They need a Redis server, `SOUK_TEST_REDIS_URL`; without it they say so and pass.

use tokio::sync::oneshot;

use super::*;
use crate::StoreError;
use crate::cache::{Cache, Key};
use crate::ledger::{self, Done, NewProduct, ProductChange, Work};
use crate::model::{CategoryId, Money, Product, ProductId};
use crate::search::{ProductFilter, ProductQuery, SearchWords};
use crate::testing::TestDb;
use crate::{catalogue, identity};

fn server() -> Option<String> {
    let url = std::env::var("SOUK_TEST_REDIS_URL").ok();
    if url.is_none() {
        eprintln!("not run: SOUK_TEST_REDIS_URL is not set");
    }
    url
}

/// A node without its actors: the test says when it writes and when it hears.
struct Node {
    cache: Cache,
    redis: Redis,
    link: Link,
}

impl Node {
    async fn start(url: &str, test: &TestDb) -> Self {
        let redis = Redis::new(url, &identity::of(&test.db).await.unwrap()).unwrap();
        // As a shop does that does not meet it at once: the machine may be busy.
        let mut attempts = 0;
        let link = loop {
            attempts += 1;
            match redis.connect().await {
                Err(RedisError::Away(_)) if attempts < 20 => {}
                met => break met.unwrap(),
            }
        };
        let cache = Cache::over(1 << 20, Some(redis.clone()));
        Self { cache, redis, link }
    }

    /// Sends what there is to tell.
    async fn post(&self) {
        self.redis.send(&self.redis.current().unwrap()).await.unwrap();
    }

    /// Hears the next news and forgets what they say.
    async fn hear(&mut self) -> News {
        loop {
            match self.link.next().await.expect("a connection") {
                Heard::News(news) => {
                    self.cache.forget_here(&news.forget);
                    return news;
                }
                Heard::Everything | Heard::Silence => self.cache.forget_everything_here(),
            }
        }
    }

    async fn hits(&self, read: impl AsyncFnOnce(&Cache)) -> u64 {
        let before = self.redis.counts().hits;
        read(&self.cache).await;
        self.redis.counts().hits - before
    }
}

/// A shop with one product, and two nodes of it.
struct Pair {
    test: TestDb,
    category: CategoryId,
    product: ProductId,
    a: Node,
    b: Node,
}

impl Pair {
    async fn start() -> Option<Self> {
        let url = server()?;
        let test = TestDb::create().await;
        let category = test.category("Lights").await;
        let new = NewProduct {
            name: "Lamp".to_owned(),
            description: "It shines: \"quotes\", \n lines and ünïcode.".to_owned(),
            price: Money(1999),
            stock: 5,
            category_id: category,
            sku: None,
            featured: true,
            is_active: true,
            image: None,
        };
        let work = [Work::Create(Box::new(new))];
        let batch = ledger::commit(&test.db, uuid::Uuid::new_v4(), &work).await.unwrap();
        let Ok(Done::Product(made)) = &batch.outcomes[0] else { panic!("no product") };
        let product = made.id;
        let (a, b) = (Node::start(&url, &test).await, Node::start(&url, &test).await);
        Some(Self { test, category, product, a, b })
    }

    /// Changes the price as a ledger would: commit, forget.
    async fn write(&self, price: i64, at: &Node) {
        let change = ProductChange { price: Some(Money(price)), ..ProductChange::default() };
        let work = [Work::Change(self.product, Box::new(change), ledger::Seen::default())];
        let batch = ledger::commit(&self.test.db, uuid::Uuid::new_v4(), &work).await.unwrap();
        at.cache.forget(&batch.forget);
    }

    async fn price(&self, at: &Node) -> i64 {
        at.cache.product(&self.test.db, self.product).await.unwrap().unwrap().price.0
    }

    fn list(&self) -> ProductQuery {
        let filter =
            ProductFilter { category: Some(self.category), in_stock: Some(true), ..ProductFilter::default() };
        ProductQuery { filter, limit: 10, ..ProductQuery::default() }
    }

    /// Node b reads the row, and is held up before it can store it: what it will give, when it has read, and its leave
    /// to go on.
    fn slow_read(
        &self,
    ) -> (impl Future<Output = Result<Option<Product>, StoreError>>, oneshot::Receiver<()>, oneshot::Sender<()>)
    {
        let (tell_read, has_read) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let slow = self.b.redis.through(Place::product(self.product), async {
            let row = catalogue::product(&self.test.db, self.product).await?;
            tell_read.send(()).unwrap();
            released.await.unwrap();
            Ok(row)
        });
        (slow, has_read, release)
    }

    async fn keys(&self) -> Vec<String> {
        let connection = self.a.redis.current().unwrap();
        let keys: Vec<String> =
            connection.commands.custom(fred::cmd!("KEYS"), vec![self.a.redis.key("*")]).await.unwrap();
        keys
    }
}

#[tokio::test]
async fn what_one_node_loaded_the_other_has_and_it_is_the_same() {
    let Some(pair) = Pair::start().await else { return };
    let Pair { test, a, b, .. } = &pair;
    let loaded = a.cache.product(&test.db, pair.product).await.unwrap().unwrap();
    let page = a.cache.products(&test.db, &pair.list()).await.unwrap();
    let categories = a.cache.categories(&test.db, true).await.unwrap();
    let hits = b
        .hits(async |cache| {
            assert_eq!(cache.product(&test.db, pair.product).await.unwrap().unwrap(), loaded);
            let again = cache.products(&test.db, &pair.list()).await.unwrap();
            assert_eq!((again.count, again.products), (page.count, page.products));
            assert_eq!(cache.categories(&test.db, true).await.unwrap(), categories);
        })
        .await;
    assert_eq!(hits, 4, "product, count, page and categories came from Redis");
    let row = catalogue::product(&test.db, pair.product).await.unwrap().unwrap();
    assert_eq!(*loaded, row);
}

#[tokio::test]
async fn what_a_slow_reader_loaded_before_a_write_is_served_by_no_node_after_it() {
    let Some(mut pair) = Pair::start().await else { return };
    let (slow, has_read, release) = pair.slow_read();
    let writer = async {
        has_read.await.unwrap();
        pair.write(2500, &pair.a).await;
        assert_eq!(pair.price(&pair.a).await, 2500, "at once on the node of the write, before Redis knows");
        pair.a.post().await;
        // The right value is there before the wrong one is stored over it.
        pair.a.cache.forget_everything_here();
        assert_eq!(pair.price(&pair.a).await, 2500);
        release.send(()).unwrap();
    };
    let (slow, ()) = tokio::join!(slow, writer);
    assert_eq!(slow.unwrap().unwrap().price, Money(1999), "it began before the write");

    // The old value stands in Redis now, and nobody takes it: neither the writer nor the other, nor a third.
    pair.a.cache.forget_everything_here();
    assert_eq!(pair.price(&pair.a).await, 2500);
    pair.b.hear().await;
    assert_eq!(pair.price(&pair.b).await, 2500);
    let third = Node::start(&server().unwrap(), &pair.test).await;
    assert_eq!(pair.price(&third).await, 2500);
}

#[tokio::test]
async fn a_node_that_found_the_old_value_in_redis_forgets_it_with_the_news() {
    let Some(mut pair) = Pair::start().await else { return };
    assert_eq!(pair.price(&pair.a).await, 1999);
    pair.write(2500, &pair.a).await;
    // The news is not out yet.
    assert_eq!(pair.price(&pair.b).await, 1999);
    assert_eq!(pair.price(&pair.a).await, 2500, "at once on the node of the write");
    pair.a.post().await;
    assert!(pair.b.hear().await.forget.contains(&Key::Product(pair.product)));
    assert_eq!(pair.price(&pair.b).await, 2500);
}

#[tokio::test]
async fn what_could_not_be_told_is_not_believed_when_redis_is_back() {
    let Some(pair) = Pair::start().await else { return };
    assert_eq!(pair.price(&pair.a).await, 1999);
    // Node a loses its connection and writes: the old value stands in Redis under stamps that nobody renews.
    pair.a.redis.lose(pair.a.redis.current().unwrap().id);
    pair.write(2500, &pair.a).await;
    assert_eq!(pair.price(&pair.a).await, 2500);
    let _link = pair.a.redis.connect().await.unwrap();
    pair.a.cache.forget_everything_here();
    pair.b.cache.forget_everything_here();
    assert_eq!((pair.price(&pair.a).await, pair.price(&pair.b).await), (2500, 2500));
}

#[tokio::test]
async fn an_emptied_redis_begins_again_and_takes_no_value_of_before() {
    let Some(pair) = Pair::start().await else { return };
    let (slow, has_read, release) = pair.slow_read();
    let writer = async {
        has_read.await.unwrap();
        pair.write(2500, &pair.a).await;
        pair.a.post().await;
        // Only this shop's keys, since the tests share a server.
        let connection = pair.a.redis.current().unwrap();
        let () = connection.commands.del(pair.keys().await).await.unwrap();
        release.send(()).unwrap();
    };
    let (slow, ()) = tokio::join!(slow, writer);
    assert_eq!(slow.unwrap().unwrap().price, Money(1999));
    // The first who looks begins an epoch, the second stores, the third finds.
    for node in [&pair.a, &pair.b, &pair.a, &pair.b] {
        node.cache.forget_everything_here();
        assert_eq!(pair.price(node).await, 2500);
    }
    assert!(pair.a.redis.counts().hits + pair.b.redis.counts().hits >= 1);
}

#[tokio::test]
async fn what_visitors_type_makes_no_keys_and_accounts_make_none_either() {
    let Some(pair) = Pair::start().await else { return };
    let user = pair.test.user().await;
    pair.a.cache.user(&pair.test.db, user).await.unwrap().unwrap();
    pair.a.cache.products(&pair.test.db, &pair.list()).await.unwrap();
    let before = pair.keys().await.len();
    for number in 0..200 {
        let mut query = pair.list();
        query.filter.words = SearchWords::new(&format!("anna{number}@example.com"));
        pair.a.cache.products(&pair.test.db, &query).await.unwrap();
        let mut query = pair.list();
        query.filter.price_min = Some(Money(number));
        pair.a.cache.products(&pair.test.db, &query).await.unwrap();
        pair.a.cache.product(&pair.test.db, ProductId(1_000_000 + number)).await.unwrap();
    }
    let keys = pair.keys().await;
    assert_eq!(keys.len(), before, "{keys:?}");
    assert!(keys.iter().all(|key| !key.contains('@') && !key.contains("user")), "{keys:?}");
}

#[tokio::test]
async fn a_missing_letter_ends_the_connection() {
    let Some(mut pair) = Pair::start().await else { return };
    pair.a.redis.tell(&News::forget(&[Key::Catalogue]));
    pair.a.post().await;
    pair.b.hear().await;
    // One that was numbered and never sent.
    pair.a.redis.current().unwrap().written.fetch_add(1, Ordering::Relaxed);
    pair.a.redis.tell(&News::forget(&[Key::Catalogue]));
    pair.a.post().await;
    assert_eq!(pair.b.link.next().await, None);
    assert!(!pair.b.redis.is_connected());
}

#[tokio::test]
async fn a_ticket_is_taken_once_and_the_oldest_of_too_many_goes() {
    let Some(pair) = Pair::start().await else { return };
    let (a, b) = (&pair.a.redis, &pair.b.redis);
    let user = crate::model::UserId(7);
    for name in ["first", "second", "third"] {
        a.keep_ticket(name, (user, 99, 3), Duration::from_mins(1), 2).await.unwrap();
    }
    assert_eq!(b.take_ticket("first").await.unwrap(), None);
    assert_eq!(b.take_ticket("third").await.unwrap(), Some((user, 99, 3)));
    assert_eq!(a.take_ticket("third").await.unwrap(), None);
    assert_eq!(a.take_ticket("second").await.unwrap(), Some((user, 99, 3)));
}

#[tokio::test]
async fn failures_are_counted_for_all_nodes_since_the_last_success() {
    let Some(pair) = Pair::start().await else { return };
    let (a, b) = (&pair.a.redis, &pair.b.redis);
    let failure = |time, number| Try { time, number, succeeded: false };
    let note = async |tries: &[Try]| {
        assert_eq!(a.note_tries("anna", tries, 3, Duration::from_mins(1)).await, a.door());
    };
    let last = async |newer| b.failure("anna", newer).await.expect("it answers");
    assert_eq!(last(0).await, None);
    note(&[failure(11, 7)]).await;
    note(&[failure(13, 7), failure(12, 9)]).await;
    note(&[failure(12, 9)]).await;
    assert_eq!((last(0).await, last(1).await, last(2).await), (Some(13), Some(12), Some(11)));
    assert_eq!(last(3).await, None);
    note(&[failure(14, 1)]).await;
    assert_eq!((last(2).await, last(3).await), (Some(12), None), "only the last ones are kept");
    note(&[Try { time: 20, number: 2, succeeded: true }]).await;
    assert_eq!(last(0).await, None);
    note(&[failure(19, 3), failure(21, 3)]).await;
    assert_eq!(
        (last(0).await, last(1).await),
        (Some(21), None),
        "what came before it counts no more, heard of late"
    );
}

#[test]
fn an_url_is_one_or_is_refused_without_being_shown() {
    for good in ["redis://h", "redis://h:6380", "redis://h/3", "redis://u:p@h:1/2", "redis://:p@[::1]:6379/0"]
    {
        assert!(Redis::new(good, "x").is_ok(), "{good}");
    }
    for bad in [
        "",
        "redis://",
        "h:6379",
        "rediss://h",
        "redis://u:hush@h/db",
        "redis://h:x",
        "redis://h/1?x=y",
        "redis-cluster://h",
    ] {
        let error = Redis::new(bad, "x").unwrap_err().to_string();
        assert!(!error.contains("hush") && error.starts_with("must be redis://"), "{bad}: {error}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_nobody_let_in() {
    let nobody = Redis::new("redis://127.0.0.1:1/0", "x").unwrap();
    assert!(matches!(nobody.check().await, Err(RedisError::Away(_))));
    assert!(matches!(nobody.connect().await, Err(RedisError::Away(_))));
    assert!(!nobody.is_connected());
    let Some(url) = server() else { return };
    Redis::new(&url, "x").unwrap().check().await.unwrap();
    let address = url.strip_prefix("redis://").unwrap().split('/').next().unwrap();
    for refused in [format!("redis://{address}/200"), format!("redis://nobody:hush@{address}/0")] {
        let error = Redis::new(&refused, "x").unwrap().check().await.unwrap_err();
        assert!(matches!(error, RedisError::Refused(_)), "{error:?}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
