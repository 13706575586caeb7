//! Unique names, logins that rotate and die, and the last admin.

use super::*;
use crate::testing::TestDb;

fn account(name: &str) -> NewAccount {
    NewAccount {
        email: format!("{name}@Example.com"),
        username: name.to_owned(),
        password_hash: "hash".to_owned(),
        ..NewAccount::default()
    }
}

async fn made(db: &Db, new: &NewAccount) -> User {
    create(db, new).await.unwrap().unwrap()
}

async fn admin(db: &Db, name: &str) -> UserId {
    made(db, &NewAccount { is_admin: true, ..account(name) }).await.id
}

fn first_token(user: UserId) -> RefreshToken {
    RefreshToken { user, family: Uuid::new_v4(), id: Uuid::new_v4() }
}

#[tokio::test]
async fn names_are_unique_without_regard_to_case() {
    let test = TestDb::create().await;
    let db = &test.db;
    let anna = made(db, &account("Änna")).await;
    let other = NewAccount { username: "other".to_owned(), ..account("änna") };
    assert_eq!(create(db, &other).await.unwrap(), Err(Taken { email: true, username: false }));
    let other = NewAccount { email: "other@example.com".to_owned(), ..account("ÄNNA") };
    assert_eq!(create(db, &other).await.unwrap(), Err(Taken { email: false, username: true }));
    assert_eq!(taken(db, "ÄNNA@EXAMPLE.COM", "x", Some(anna.id)).await.unwrap(), Taken::default());
    let found = find_by_email(db, "äNNA@example.COM").await.unwrap().unwrap();
    assert_eq!((found.user, found.password_hash.as_str()), (anna, "hash"));
}

#[tokio::test]
async fn of_two_who_register_one_email_at_once_one_wins() {
    let test = TestDb::create().await;
    let (a, b) = (account("anna"), account("ANNA"));
    let (a, b) = tokio::join!(create(&test.db, &a), create(&test.db, &b));
    assert_eq!([a.unwrap().is_ok(), b.unwrap().is_ok()].iter().filter(|won| **won).count(), 1);
}

#[tokio::test]
async fn a_login_that_meets_a_new_password_or_a_deactivation_does_not_outlive_it() {
    let test = TestDb::create().await;
    let (db, now) = (&test.db, Timestamp::now());
    for (name, change) in [("anna", "password_hash = 'new'"), ("bert", "is_active = false")] {
        let id = made(db, &account(name)).await.id;
        let before = format!("update users set {change} where id = {id}");
        let after = format!("update refresh_families set revoked_at = now() where user_id = {id}");
        let login = log_in(db, first_token(id), "hash", now.plus_seconds(60), now);
        if let Some(begun) = test.while_another_writes(before, login, after).await {
            assert!(!begun.unwrap(), "{change}");
        }
    }
}

#[tokio::test]
async fn a_change_touches_what_it_names_and_nothing_else() {
    let test = TestDb::create().await;
    let db = &test.db;
    let birth = NaiveDate::from_ymd_opt(1990, 5, 17);
    let anna = made(db, &NewAccount { date_of_birth: birth, ..account("anna") }).await;
    made(db, &account("bert")).await;
    let some = |text: &str| Some(text.to_owned());
    let first = AccountChange { phone: some("123"), bio: some("likes maps"), ..AccountChange::default() };
    let changed = change(db, anna.id, &first).await.unwrap().unwrap().unwrap();
    assert_eq!(changed, User { phone: "123".to_owned(), bio: "likes maps".to_owned(), ..anna.clone() });
    let second = AccountChange { date_of_birth: Some(None), phone: some(""), ..AccountChange::default() };
    let changed = change(db, anna.id, &second).await.unwrap().unwrap().unwrap();
    assert_eq!((changed.date_of_birth, changed.phone.as_str()), (None, ""));
    // Her own name in another case is hers; another's is not.
    let own = AccountChange { username: some("ANNA"), ..AccountChange::default() };
    assert_eq!(change(db, anna.id, &own).await.unwrap().unwrap().unwrap().username, "ANNA");
    let his = AccountChange { username: some("Bert"), ..AccountChange::default() };
    let expected = Err(Taken { email: false, username: true });
    assert_eq!(change(db, anna.id, &his).await.unwrap(), expected);
    assert_eq!(change(db, UserId(99), &first).await.unwrap(), Ok(None));
}

#[tokio::test]
async fn a_refresh_token_is_used_once_and_a_used_one_kills_its_family() {
    let test = TestDb::create().await;
    let (db, now) = (&test.db, Timestamp::now());
    let user = made(db, &account("anna")).await.id;
    let (first, later) = (first_token(user), now.plus_seconds(60));
    assert!(log_in(db, first, "hash", later, now).await.unwrap());
    assert_eq!(find(db, user).await.unwrap().unwrap().last_login, Some(now));
    assert!(is_current(db, first).await.unwrap());
    let second = RefreshToken { id: Uuid::new_v4(), ..first };
    assert!(rotate(db, first, second.id, later).await.unwrap().is_some());
    assert!(!is_current(db, first).await.unwrap());
    assert!(is_current(db, second).await.unwrap());
    assert!(rotate(db, first, Uuid::new_v4(), later).await.unwrap().is_none());
    assert!(!is_current(db, second).await.unwrap(), "the thief or the owner: both must log in again");
    assert!(rotate(db, second, Uuid::new_v4(), later).await.unwrap().is_none());
}

#[tokio::test]
async fn of_eight_refreshes_at_once_one_wins() {
    let test = TestDb::create().await;
    let (db, now) = (&test.db, Timestamp::now());
    let token = first_token(made(db, &account("anna")).await.id);
    log_in(db, token, "hash", now.plus_seconds(60), now).await.unwrap();
    let tries = (0..8).map(|_| rotate(db, token, Uuid::new_v4(), now.plus_seconds(60)));
    let mut won = 0;
    for outcome in futures_of(tries).await {
        won += usize::from(outcome.unwrap().is_some());
    }
    assert_eq!(won, 1);
}

/// Drives several futures at once on this task.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test]
async fn whoever_is_switched_off_loses_every_login() {
    let test = TestDb::create().await;
    let (db, now) = (&test.db, Timestamp::now());
    admin(db, "root").await;
    let token = first_token(made(db, &account("anna")).await.id);
    log_in(db, token, "hash", now.plus_seconds(60), now).await.unwrap();
    let Switched::Done(user) = switch(db, token.user, Some(false), None, None).await.unwrap() else {
        panic!("not done")
    };
    assert!(!user.is_active);
    assert!(!is_current(db, token).await.unwrap());
    assert!(!log_in(db, first_token(token.user), "hash", now.plus_seconds(60), now).await.unwrap());
    switch(db, token.user, Some(true), None, None).await.unwrap();
    assert!(
        rotate(db, token, Uuid::new_v4(), now.plus_seconds(60)).await.unwrap().is_none(),
        "dead stays dead"
    );
}

#[tokio::test]
async fn the_last_active_admin_stays_one() {
    let test = TestDb::create().await;
    let db = &test.db;
    let (root, other) = (admin(db, "root").await, admin(db, "other").await);
    let (a, b) =
        tokio::join!(switch(db, root, None, Some(false), None), switch(db, other, Some(false), None, None));
    let refused = [a.unwrap(), b.unwrap()].iter().filter(|outcome| **outcome == Switched::LastAdmin).count();
    assert_eq!(refused, 1, "two who demote each other cannot both win");
    assert_eq!(switch(db, UserId(99), Some(false), None, None).await.unwrap(), Switched::NotThere);
}

#[tokio::test]
async fn a_new_password_ends_every_login_and_running_out_removes_the_row() {
    let test = TestDb::create().await;
    let (db, now) = (&test.db, Timestamp::now());
    let token = first_token(made(db, &account("anna")).await.id);
    log_in(db, token, "hash", now.plus_seconds(60), now).await.unwrap();
    set_password(db, token.user, "another", None).await.unwrap();
    assert!(!is_current(db, token).await.unwrap());
    assert_eq!(password_hash(db, token.user).await.unwrap().as_deref(), Some("another"));
    let next = first_token(token.user);
    let (expiry, later) = (now.plus_seconds(120), now.plus_seconds(61));
    assert!(!log_in(db, next, "hash", expiry, later).await.unwrap(), "compared with the old one");
    assert!(log_in(db, next, "another", expiry, later).await.unwrap());
    assert!(!revoke(db, token).await.unwrap());
    assert!(revoke(db, next).await.unwrap());
    let rows: (i64,) =
        read!(db, pool => sqlx::query_as("select count(*) from refresh_families").fetch_one(pool).await)
            .unwrap();
    assert_eq!(rows.0, 1);
}

#[tokio::test]
async fn a_login_that_is_renewed_just_as_it_runs_out_is_kept() {
    let test = TestDb::create().await;
    let (db, now) = (&test.db, Timestamp::now());
    let token = first_token(made(db, &account("anna")).await.id);
    let other = first_token(made(db, &account("bert")).await.id);
    log_in(db, token, "hash", now.plus_seconds(60), now).await.unwrap();
    let renew = format!(
        "update refresh_families set expires_at = now() + interval '1 day' where id = '{}'",
        token.family
    );
    let login = log_in(db, other, "hash", now.plus_seconds(121), now.plus_seconds(61));
    if let Some(begun) = test.while_another_writes(renew, login, "select 1".to_owned()).await {
        assert!(begun.unwrap());
        assert!(is_current(db, token).await.unwrap());
    }
}

#[tokio::test]
async fn users_are_found_by_every_word_of_a_search() {
    let test = TestDb::create().await;
    let db = &test.db;
    admin(db, "root").await;
    for (name, first, last) in [("anna", "Anna", "Berg"), ("bert", "Bert", "Anders"), ("c_d", "", "")] {
        let new = NewAccount { first_name: first.to_owned(), last_name: last.to_owned(), ..account(name) };
        made(db, &new).await;
    }
    let search = async |text: &str| {
        let filter = UserFilter { search: Some(text.to_owned()), ..UserFilter::default() };
        let (users, count) = list(db, &filter, 10, 0).await.unwrap();
        assert_eq!(i64::try_from(users.len()).unwrap(), count);
        users.into_iter().map(|user| user.username).collect::<Vec<_>>()
    };
    assert_eq!(search("AN").await, ["anna", "bert"]);
    assert_eq!(search(" an  BERG ").await, ["anna"]);
    assert_eq!(search("_").await, ["c_d"]);
    assert_eq!(search("%").await, Vec::<String>::new());
    assert_eq!(search("").await.len(), 4);
    let admins = UserFilter { is_admin: Some(true), ..UserFilter::default() };
    let (users, count) = list(db, &admins, 10, 0).await.unwrap();
    assert_eq!((users[0].username.as_str(), count), ("root", 1));
    let (page, count) = list(db, &UserFilter::default(), 2, 3).await.unwrap();
    assert_eq!((page.len(), count), (1, 4));
}
