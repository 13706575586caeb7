//! Whatever happens to what is told, a socket delivers every event once and in order.

use std::collections::BTreeSet;

use tokio::task::JoinHandle;
use tokio::time::{advance, pause, resume, timeout};

use souk_store::testing::TestDb;

use super::*;
use crate::keeper::{Instruction, Keeper};

/// A database and the sessions over it, under a keeper of their own.
struct House {
    test: TestDb,
    sessions: Sessions,
    keeper: ActorRef<Instruction>,
    ends: JoinHandle<()>,
}

impl House {
    async fn open() -> Self {
        Self::with(SocketLimits::default()).await
    }

    async fn with(limits: SocketLimits) -> Self {
        let test = TestDb::create().await;
        let sessions = Sessions::new(test.db.clone(), limits);
        let (keeper, ends) = Actor::spawn(None, Keeper, vec![sessions.child()]).await.unwrap();
        Self { test, sessions, keeper, ends }
    }

    async fn attach(&self, user: UserId, from: Option<i64>) -> Attached {
        self.sessions.attach(user, user, from.map(EventId)).await.unwrap()
    }

    /// Stores `count` events and tells them.
    async fn happen(&self, user: UserId, count: i64) {
        self.sessions.tell(self.test.events(user, count).await);
    }

    fn session(&self, user: UserId) -> ActorRef<Message> {
        self.sessions.0.registry.get(&user).unwrap().clone()
    }

    /// Waits until nobody is connected any longer, and for the end of all actors.
    async fn close(self) {
        until(|| self.sessions.counts().sockets == 0 && self.sessions.counts().sessions == 0).await;
        ask(Some(self.keeper.clone()), Duration::from_secs(5), Instruction::LetEnd).await.unwrap();
        self.keeper.stop(None);
        timeout(Duration::from_secs(10), self.ends).await.unwrap().unwrap();
    }
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.expect("it comes about");
}

async fn next(socket: &mut Attached) -> Delivery {
    timeout(Duration::from_secs(20), socket.next()).await.expect("something is delivered")
}

async fn expect_events(socket: &mut Attached, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        match next(socket).await {
            Delivery::Event(event) => assert_eq!(event.id, EventId(number)),
            other => panic!("before {number}: {other:?}"),
        }
    }
}

/// Drives a socket until it is live.
async fn go_live(socket: &mut Attached) {
    let driving = async {
        while !socket.is_live() {
            assert!(timeout(Duration::from_millis(1), socket.next()).await.is_err());
        }
    };
    timeout(Duration::from_secs(10), driving).await.expect("it goes live");
}

#[tokio::test]
async fn without_a_number_a_socket_gets_what_comes_from_now_on() {
    let house = House::open().await;
    let (user, other) = (house.test.user().await, house.test.user().await);
    house.happen(user, 3).await;
    let mut socket = house.attach(user, None).await;
    assert_eq!(socket.last_event_id(), EventId(3));
    house.happen(other, 5).await;
    house.happen(user, 2).await;
    expect_events(&mut socket, 4..=5).await;
    house.happen(user, 1).await;
    expect_events(&mut socket, [6]).await;
    drop(socket);
    house.close().await;
}

#[tokio::test]
async fn with_a_number_a_socket_gets_all_that_follows_it_over_many_pages_and_then_live() {
    let house = House::open().await;
    let user = house.test.user().await;
    house.happen(user, 250).await;
    for (from, first) in [(0, 1), (1, 2), (49, 50), (150, 151), (249, 250), (250, 251), (9999, 251)] {
        let mut socket = house.attach(user, Some(from)).await;
        assert_eq!(socket.last_event_id(), EventId(250));
        expect_events(&mut socket, first..=250).await;
    }
    let mut socket = house.attach(user, Some(100)).await;
    expect_events(&mut socket, 101..=180).await;
    house.happen(user, 30).await;
    expect_events(&mut socket, 181..=280).await;
    house.happen(user, 1).await;
    expect_events(&mut socket, [281]).await;
    drop(socket);
    house.close().await;
}

#[tokio::test]
async fn what_is_told_twice_late_or_out_of_order_arrives_once_and_in_order() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut socket = house.attach(user, None).await;
    go_live(&mut socket).await;
    let events = house.test.events(user, 6).await;
    for order in [vec![0, 0], vec![2, 1, 1, 0], vec![3, 2, 3], vec![5, 5, 0, 4]] {
        house.sessions.tell(order.iter().map(|index| events[*index].clone()).collect());
    }
    expect_events(&mut socket, 1..=6).await;
    house.happen(user, 1).await;
    expect_events(&mut socket, [7]).await;
    drop(socket);
    house.close().await;
}

#[tokio::test]
async fn what_was_never_told_arrives_with_the_next_event() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut socket = house.attach(user, None).await;
    go_live(&mut socket).await;
    house.test.events(user, 300).await;
    house.happen(user, 1).await;
    expect_events(&mut socket, 1..=301).await;
    drop(socket);
    house.close().await;
}

#[tokio::test]
async fn what_was_never_told_arrives_within_a_minute_or_so() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut socket = house.attach(user, None).await;
    go_live(&mut socket).await;
    house.test.events(user, 2).await;
    pause();
    advance(Duration::from_secs(61)).await;
    resume();
    expect_events(&mut socket, 1..=2).await;
    go_live(&mut socket).await;
    house.happen(user, 1).await;
    expect_events(&mut socket, [3]).await;
    drop(socket);
    house.close().await;
}

#[tokio::test]
async fn an_event_between_the_last_read_and_going_live_sends_the_socket_back_to_the_rows() {
    let house = House::open().await;
    let user = house.test.user().await;
    let told = house.test.events(user, 2).await;
    let mut link = house.sessions.join(user, user).await.unwrap();
    // The socket has read up to 1; number 2 is told before its wish to go live arrives.
    house.sessions.tell(told[1..].to_vec());
    link.session.cast(Message::GoLive(link.socket, EventId(1))).unwrap();
    assert!(matches!(link.queue.recv().await, Some(Push::Behind)));
    link.session.cast(Message::GoLive(link.socket, EventId(2))).unwrap();
    assert!(matches!(link.queue.recv().await, Some(Push::Live)));
    // And one that is told only after the socket has read it.
    house.sessions.tell(told);
    house.happen(user, 1).await;
    assert!(matches!(link.queue.recv().await, Some(Push::Event(event)) if event.id == EventId(3)));
    drop(link);
    house.close().await;
}

#[tokio::test]
async fn a_socket_that_joins_with_a_higher_number_does_not_hide_a_gap_from_the_others() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut first = house.attach(user, None).await;
    go_live(&mut first).await;
    let told = house.test.events(user, 2).await;
    // It has read both before the session heard of either.
    let mut second = house.attach(user, None).await;
    go_live(&mut second).await;
    house.sessions.tell(told);
    house.happen(user, 1).await;
    expect_events(&mut first, 1..=3).await;
    expect_events(&mut second, [3]).await;
    drop((first, second));
    house.close().await;
}

#[tokio::test]
async fn all_sockets_of_a_user_get_every_event_and_a_slow_one_holds_up_nobody() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut quick = house.attach(user, None).await;
    let mut slow = house.attach(user, None).await;
    go_live(&mut quick).await;
    go_live(&mut slow).await;
    for batch in 0..4 {
        house.happen(user, 100).await;
        expect_events(&mut quick, batch * 100 + 1..=batch * 100 + 100).await;
    }
    until(|| house.sessions.counts().too_slow == 1).await;
    assert_eq!(next(&mut slow).await, Delivery::Ended(Ended::TooSlow));
    assert_eq!(next(&mut slow).await, Delivery::Ended(Ended::TooSlow));
    let mut resumed = house.attach(user, Some(7)).await;
    expect_events(&mut resumed, 8..=400).await;
    drop((quick, slow, resumed));
    house.close().await;
}

#[tokio::test]
async fn no_event_waits_in_a_queue_while_a_socket_reads_from_the_database() {
    let house = House::open().await;
    let user = house.test.user().await;
    house.happen(user, 300).await;
    let mut socket = house.attach(user, Some(0)).await;
    expect_events(&mut socket, 1..=10).await;
    house.happen(user, 500).await;
    expect_events(&mut socket, 11..=800).await;
    assert_eq!(house.sessions.counts().too_slow, 0);
    drop(socket);
    house.close().await;
}

#[tokio::test]
async fn there_are_as_many_sockets_as_there_may_be_and_a_place_that_is_left_is_free() {
    let house = House::with(SocketLimits { total: 5, per_user: 3 }).await;
    let (user, other) = (house.test.user().await, house.test.user().await);
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(house.attach(user, None).await);
    }
    assert_eq!(house.sessions.attach(user, user, None).await.err(), Some(Refused::Busy));
    let others = [house.attach(other, None).await, house.attach(other, None).await];
    assert_eq!(house.sessions.attach(other, other, None).await.err(), Some(Refused::Busy));
    let counts = house.sessions.counts();
    assert_eq!((counts.sockets, counts.sessions, counts.opened), (5, 2, 5));
    assert_eq!(house.sessions.users().into_iter().collect::<BTreeSet<_>>(), [user, other].into());
    drop(others);
    sockets.pop();
    sockets.push(house.attach(user, None).await);
    assert_eq!(house.sessions.attach(user, user, None).await.err(), Some(Refused::Busy));
    drop(sockets);
    house.close().await;
}

#[tokio::test]
async fn a_deactivated_user_loses_every_socket_also_those_on_the_events_of_others() {
    let house = House::open().await;
    let (user, admin) = (house.test.user().await, house.test.user().await);
    let mut own = house.attach(user, None).await;
    let mut of_admin = house.attach(admin, None).await;
    let mut watching = house.sessions.attach(user, admin, None).await.unwrap();
    house.happen(user, 1).await;
    expect_events(&mut watching, [1]).await;
    house.sessions.close_user(admin, Ended::Deactivated);
    assert_eq!(next(&mut watching).await, Delivery::Ended(Ended::Deactivated));
    assert_eq!(next(&mut of_admin).await, Delivery::Ended(Ended::Deactivated));
    expect_events(&mut own, [1]).await;
    house.sessions.close_user(user, Ended::Deactivated);
    assert_eq!(next(&mut own).await, Delivery::Ended(Ended::Deactivated));
    drop((own, of_admin, watching));
    house.close().await;
}

#[tokio::test]
async fn a_socket_on_a_session_that_fails_joins_the_next_and_loses_nothing() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut socket = house.attach(user, None).await;
    let mut idle = house.attach(user, None).await;
    for round in 0..8 {
        go_live(&mut socket).await;
        house.happen(user, 1).await;
        house.session(user).cast(Message::Panic).unwrap();
        house.happen(user, 1).await;
        expect_events(&mut socket, round * 2 + 1..=round * 2 + 2).await;
    }
    expect_events(&mut idle, 1..=16).await;
    drop((socket, idle));
    house.close().await;
}

#[tokio::test]
async fn sockets_outlive_the_keeper_of_sessions() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut socket = house.attach(user, None).await;
    go_live(&mut socket).await;
    let first = house.sessions.0.seat.get().unwrap();
    first.kill();
    house.happen(user, 1).await;
    expect_events(&mut socket, [1]).await;
    until(|| house.sessions.0.seat.get().is_some_and(|now| now.get_id() != first.get_id())).await;
    house.happen(user, 1).await;
    expect_events(&mut socket, [2]).await;
    drop(socket);
    house.close().await;
}

#[tokio::test]
async fn a_session_that_fails_again_and_again_ends_its_sockets() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut socket = house.attach(user, None).await;
    pause();
    let sessions = house.sessions.clone();
    let failing = async {
        loop {
            if let Some(session) = sessions.0.registry.get(&user) {
                drop(session.cast(Message::Panic));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = failing => unreachable!(),
        delivery = socket.next() => assert_eq!(delivery, Delivery::Ended(Ended::Unavailable)),
    }
    resume();
    drop(socket);
    house.close().await;
}

#[tokio::test]
async fn a_database_that_stays_away_refuses_new_sockets_and_ends_those_that_need_it_in_time() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut idle = house.attach(user, None).await;
    let mut live = house.attach(user, None).await;
    go_live(&mut idle).await;
    go_live(&mut live).await;
    let events = house.test.events(user, 2).await;
    house.test.db.close().await;
    // Nothing from here on waits for a thread of the database, so time may run by itself.
    pause();
    assert_eq!(house.sessions.attach(user, user, None).await.err(), Some(Refused::Unavailable));
    let started = tokio::time::Instant::now();
    assert!(timeout(Duration::from_secs(600), idle.next()).await.is_err(), "it has all there is to know of");
    house.sessions.tell(events[1..].to_vec());
    assert_eq!(live.next().await, Delivery::Ended(Ended::Unavailable));
    assert!(started.elapsed() < Duration::from_secs(620));
    resume();
    drop((idle, live));
    house.close().await;
}

#[tokio::test]
async fn a_shutdown_ends_every_socket_and_waits_until_they_have_gone() {
    let house = House::open().await;
    let user = house.test.user().await;
    house.happen(user, 200).await;
    let mut live = house.attach(user, None).await;
    let mut reading = house.attach(user, Some(0)).await;
    go_live(&mut live).await;
    expect_events(&mut reading, 1..=5).await;
    assert_eq!(house.sessions.drain(Duration::from_millis(1)).await, 2);
    assert_eq!(house.sessions.attach(user, user, None).await.err(), Some(Refused::Unavailable));
    assert_eq!(next(&mut live).await, Delivery::Ended(Ended::ShuttingDown));
    assert_eq!(next(&mut reading).await, Delivery::Ended(Ended::ShuttingDown));
    let sessions = house.sessions.clone();
    let (left, ()) = tokio::join!(sessions.drain(Duration::from_secs(10)), async { drop((live, reading)) });
    assert_eq!(left, 0);
    house.close().await;
}

/// A small generator of the test's choices; the same seed, the same choices.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A socket that comes and goes, and once gone comes back with the last number that it saw.
async fn comes_and_goes(sessions: Sessions, user: UserId, seed: u64, last: i64) -> u32 {
    let mut dice = Dice(seed);
    let mut seen = 0;
    let mut visits = 0;
    while seen < last {
        let mut socket = sessions.attach(user, user, Some(EventId(seen))).await.unwrap();
        visits += 1;
        let mut stay = dice.roll(12);
        while stay > 0 && seen < last {
            stay -= 1;
            if dice.roll(4) == 0 {
                // A wait that is given up and begun again.
                let wait = Duration::from_micros(dice.roll(300));
                if let Ok(delivery) = timeout(wait, socket.next()).await {
                    seen = follows(seen, delivery);
                }
            } else {
                seen = follows(seen, next(&mut socket).await);
            }
        }
    }
    visits
}

fn follows(seen: i64, delivery: Delivery) -> i64 {
    match delivery {
        Delivery::Event(event) => {
            assert_eq!(event.id.0, seen + 1, "missed or doubled");
            event.id.0
        }
        Delivery::Ended(Ended::TooSlow) => seen,
        other => panic!("{other:?}"),
    }
}

/// Thousands of joins race the end of sessions, while events are told late, twice, out of order, or never.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sockets_that_come_and_go_miss_nothing_and_double_nothing() {
    const LAST: i64 = 3000;
    let house = House::open().await;
    let user = house.test.user().await;
    let sockets: Vec<_> = (1..=3_u64)
        .map(|seed| comes_and_goes(house.sessions.clone(), user, seed * 0x9e37_79b9, LAST))
        .map(spawn)
        .collect();
    let mut dice = Dice(42);
    let mut waiting: Vec<Event> = Vec::new();
    let mut last = 0;
    while last < LAST {
        let count = 1 + i64::try_from(dice.roll(6)).unwrap();
        let events = house.test.events(user, count.min(LAST - last)).await;
        last = events.last().unwrap().id.0;
        match dice.roll(8) {
            0 => {}
            1 => waiting.extend(events),
            2 => house.sessions.tell(events.into_iter().rev().collect()),
            3 => {
                house.sessions.tell(events.clone());
                house.sessions.tell(std::mem::take(&mut waiting));
                house.sessions.tell(events);
            }
            _ => house.sessions.tell(events),
        }
        if dice.roll(100) == 0 {
            let session = house.sessions.0.registry.get(&user).map(|entry| entry.clone());
            drop(session.map(|session| session.cast(Message::Panic)));
        }
    }
    // What was never told is found with the last one.
    house.happen(user, 1).await;
    let mut visits = 0;
    for socket in sockets {
        visits += timeout(Duration::from_secs(60), socket).await.expect("it sees them all").unwrap();
    }
    assert!(visits > 1000, "only {visits} visits");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joins_race_the_end_of_a_session_thousands_of_times() {
    let house = House::open().await;
    let user = house.test.user().await;
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let sessions = house.sessions.clone();
            spawn(async move {
                for _ in 0..2000 {
                    let link = sessions.join(user, user).await.unwrap();
                    drop(link);
                }
            })
        })
        .collect();
    for visitor in visitors {
        timeout(Duration::from_secs(60), visitor).await.expect("nobody waits for ever").unwrap();
    }
    until(|| house.sessions.counts().sessions == 0).await;
    house.close().await;
}

#[expect(clippy::disallowed_methods, reason = "the test waits for it")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

#[tokio::test]
async fn what_another_node_told_the_number_of_is_read_from_the_rows() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut socket = house.attach(user, None).await;
    let mut second = house.attach(user, None).await;
    go_live(&mut socket).await;
    go_live(&mut second).await;
    house.test.events(user, 3).await;
    house.sessions.heard(user, EventId(3));
    house.sessions.heard(user, EventId(2));
    expect_events(&mut socket, 1..=3).await;
    expect_events(&mut second, 1..=3).await;
    // Told here, and then by another node once more.
    house.happen(user, 1).await;
    house.sessions.heard(user, EventId(4));
    house.happen(user, 1).await;
    expect_events(&mut socket, [4, 5]).await;
    expect_events(&mut second, [4, 5]).await;
    drop((socket, second));
    house.close().await;
}

#[tokio::test]
async fn what_nobody_told_is_found_when_all_look_at_the_rows() {
    let house = House::open().await;
    let user = house.test.user().await;
    let mut socket = house.attach(user, None).await;
    go_live(&mut socket).await;
    for round in 0..20 {
        house.test.events(user, 2).await;
        house.sessions.look_again();
        expect_events(&mut socket, [2 * round + 1, 2 * round + 2]).await;
        // In vain, whatever the socket is about: it is none the worse for it.
        house.sessions.look_again();
    }
    go_live(&mut socket).await;
    house.happen(user, 1).await;
    expect_events(&mut socket, [41]).await;
    drop(socket);
    house.close().await;
}
