//! A siege: thousands who dawdle, guess, send bombs and do not read, all at once. Whoever came to shop is served, the server
//! stays small, and afterwards nothing of them is left. `loadtest` has the same with more guessers, for an optimised build.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::dawdlers::{LOGIN, be_silent, dawdle};
use crate::harness::{DEADLINE, Form, PASSWORD, Shop, Shopper, Wire, eventually, within};
use crate::media::send;
use crate::media_attacks::bomb;
use crate::metrics::Reading;

/// How long the good ones shop, and the guessers guess.
const SIEGE: Duration = Duration::from_secs(10);
/// How long an attacker may last.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long those who do not read may: half a minute for what cannot be sent to them; but the server may only have been too
/// slow to fill their pipe, and then they are let go at the third ping, a minute and a half after they came.
const PATIENCE_WITH_THE_DEAF: Duration = Duration::from_secs(120);
/// Wishes of the good ones in a second.
const A_SECOND: usize = 50;
/// Not more: without optimisation, reading a megabyte of JSON fifty times a second is all that two cores can do.
const GUESSERS: usize = 5;
const DAWDLERS: usize = 2_000;
const SILENT: usize = 3_000;
const MEMORY_KIB: u64 = 400 * 1024;

/// How many of these many connections this process can hold, which has the descriptors of both sides to count.
fn as_many_of(connections: usize) -> usize {
    let allowed = rlimit::increase_nofile_limit(rlimit::INFINITY).expect("a limit of open files");
    connections.min(usize::try_from(allowed).unwrap_or(usize::MAX) / 4)
}

/// Connects, not all at the same moment.
async fn connect(shop: &str, door: &Semaphore) -> TcpStream {
    let _turn = door.acquire().await.expect("a door that is never closed");
    timeout(DEADLINE, TcpStream::connect(shop)).await.expect("an open door").expect("an open door")
}

/// An attacker's stay, which the server has to end.
async fn let_go(attack: impl Future<Output = ()>) {
    timeout(PATIENCE, attack).await.expect("an attacker is still there");
}

/// A wrong login a second, each with a password of a megabyte, over one connection, until the siege is over.
async fn guess(mut wire: Wire, number: usize, end: Instant) {
    let login = format!(r#"{{"email":"nobody{number}@example.com","password":"{}"}}"#, "p".repeat(1_000_000));
    let guess = format!("{LOGIN}content-length: {}\r\n\r\n{login}", login.len());
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        ticks.tick().await;
        wire.send(&guess).await;
        let answer = wire.answer().await;
        assert!(
            ["HTTP/1.1 401", "HTTP/1.1 429", "HTTP/1.1 503"].iter().any(|known| answer.starts_with(known)),
            "{answer}"
        );
    }
}

/// Somebody's next wish, asked again a second later if the shop says 503, as it asks of its clients; what went wrong, if it
/// was not fulfilled.
async fn shop_on(customer: Shopper, number: usize, product: String) -> Option<String> {
    let mut seconds = interval(Duration::from_secs(1));
    let mut refusal = None;
    for _ in 0..3 {
        seconds.tick().await;
        let answer = match number % 10 {
            0 => customer.call(Method::GET, "/api/cart/").try_send().await,
            1 => customer.call(Method::GET, "/auth/api/profile/").try_send().await,
            2..6 => customer.call(Method::GET, &product).try_send().await,
            _ => customer.call(Method::GET, "/api/products/?in_stock=true").try_send().await,
        };
        match answer {
            Ok(answer) if answer.status == 200 => return None,
            Ok(answer) if answer.status == 503 => refusal = Some(answer.to_string()),
            Ok(answer) => return Some(answer.to_string()),
            Err(error) => return Some(format!("{error:?}")),
        }
    }
    refusal
}

/// Starts a task for each tick of so many a second.
async fn at_a_rate<F>(mut begin: impl FnMut(usize) -> F) -> JoinSet<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(A_SECOND).unwrap_or(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let count = A_SECOND * usize::try_from(SIEGE.as_secs()).unwrap_or(0);
    for number in 0..count {
        ticks.tick().await;
        tasks.spawn(begin(number));
    }
    tasks
}

#[tokio::test]
async fn a_siege_is_survived_by_everybody_but_the_besiegers() {
    // The embedded one in every run. With Postgres on the same two cores up to a tenth of the wishes is answered 503 for
    // want of a connection in time, in a build without optimisation.
    let mut shop = Shop::embedded(&[]);
    shop.open().await;
    let ann = shop.register("ann").await;
    let bob = shop.register("bob").await;
    let product = shop.product("Lamp").create().await.path();
    let open_files = shop.open_files();
    let (address, door) = (shop.address(), Arc::new(Semaphore::new(64)));

    let mut besiegers = JoinSet::new();
    for number in 0..as_many_of(DAWDLERS) {
        let (address, door) = (address.clone(), door.clone());
        besiegers.spawn(async move { let_go(dawdle(connect(&address, &door).await, number % 2 == 0)).await });
    }
    for _ in 0..as_many_of(SILENT) {
        let (address, door) = (address.clone(), door.clone());
        besiegers.spawn(async move { let_go(be_silent(connect(&address, &door).await)).await });
    }
    let mut deaf = JoinSet::new();
    for _ in 0..5 {
        let mut socket = bob.knock().bearer(&bob.access).open_narrow().await;
        deaf.spawn(async move {
            socket.stuff_the_pipe().await;
            socket
        });
    }
    for _ in 0..20 {
        let (bob, bomb) = (bob.clone(), bomb());
        besiegers.spawn(async move {
            let form = Form::new().file("avatar", &bomb);
            let answer = send(&bob, Method::PATCH, "/auth/api/profile/", form).await;
            assert!(matches!(answer.status, 400 | 503), "{answer}");
        });
    }
    let end = Instant::now() + SIEGE;
    for number in 0..GUESSERS {
        besiegers.spawn(guess(Wire::to(&shop).await, number, end));
    }
    let wishes = at_a_rate(|number| shop_on(ann.clone(), number, product.clone())).await.join_all().await;

    let (all, failed) = (wishes.len(), wishes.into_iter().flatten().collect::<Vec<_>>());
    assert!(failed.len() * 1000 <= all, "{} of {all} wishes failed: {}", failed.len(), failed.join("\n"));
    besiegers.join_all().await;
    let _deaf = deaf.join_all().await;
    within(PATIENCE_WITH_THE_DEAF, "those who do not read are let go", async || {
        Reading::of(&shop).await.sum("souk_sockets", &[]) == 0.0
    })
    .await;
    let (_, most) = shop.memory();
    assert!(most < MEMORY_KIB, "it took {most} KiB");
    // The database may have opened some files of its own meanwhile.
    eventually("nothing of them is left open", async || shop.open_files() < open_files + 30).await;
    shop.anyone().signed_in_as("ann@example.com", PASSWORD).await;
}
