//! The notifications of a user: what was told, from which number on, and how far it was read.
//!
//! Events are written by the ledger, in the transaction of the change that they tell of; this file reads them and
//! keeps the read mark. A user's events are numbered 1, 2, 3, … without a gap, so that a reader who knows the number
//! of the last event it saw knows whether it missed one. Number 0 stands for "before the first".

use crate::db::{Db, StoreError, read, statements, transaction};
use crate::model::{Event, EventId, UserId};

statements! {
    INBOX: "select last_event_id, read_up_to from inboxes where user_id = $1";
    /// In rising order; ends where the limit does.
    AFTER: "select user_id, id, kind, order_id, status, previous_status, total, created_at from events \
            where user_id = $1 and id > $2 order by id limit $3";
    /// Newest first, within bounds that take the place of an offset: numbers without gaps can be counted.
    BETWEEN: "select user_id, id, kind, order_id, status, previous_status, total, created_at from events \
              where user_id = $1 and id > $2 and id <= $3 order by id desc";
    /// Not backwards, and not beyond the last event.
    MARK_READ: "update inboxes set read_up_to = case when $2 < last_event_id then $2 else last_event_id end \
                where user_id = $1 and read_up_to < $2 and read_up_to < last_event_id";
}

/// How many events a user has had, and how far they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Inbox {
    /// The number of the newest event; 0 if there was none yet.
    pub last_event_id: EventId,
    /// Events up to this number count as read.
    pub read_up_to: EventId,
}

/// Some of a user's events, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventList {
    /// Those asked for.
    pub events: Vec<Event>,
    /// How many there are in all.
    pub count: i64,
    /// Events up to this number count as read.
    pub read_up_to: EventId,
}

/// The state of a user's inbox; that of a user without events if there is no such user.
///
/// # Errors
/// [`StoreError::Unavailable`] if the database does not answer.
pub async fn inbox(db: &Db, user: UserId) -> Result<Inbox, StoreError> {
    let found: Option<Inbox> =
        read!(db, pool => sqlx::query_as(INBOX.on(db)).bind(user).fetch_optional(pool).await)?;
    Ok(found.unwrap_or(Inbox { last_event_id: EventId(0), read_up_to: EventId(0) }))
}

/// The number of a user's newest event; 0 if there is none.
///
/// # Errors
/// As [`inbox`].
pub async fn last_event_id(db: &Db, user: UserId) -> Result<EventId, StoreError> {
    Ok(inbox(db, user).await?.last_event_id)
}

/// At most `limit` events that follow event number `after`, in rising order without a gap.
///
/// # Errors
/// As [`inbox`].
pub async fn after(db: &Db, user: UserId, after: EventId, limit: u32) -> Result<Vec<Event>, StoreError> {
    Ok(read!(db, pool => {
        sqlx::query_as(AFTER.on(db)).bind(user).bind(after).bind(i64::from(limit)).fetch_all(pool).await
    })?)
}

/// At most `limit` of a user's events, newest first, without the `offset` newest; with `unread` only those behind the
/// read mark, or only those up to it.
///
/// # Errors
/// As [`inbox`].
pub async fn list(
    db: &Db,
    user: UserId,
    unread: Option<bool>,
    limit: i64,
    offset: i64,
) -> Result<EventList, StoreError> {
    let Inbox { last_event_id, read_up_to } = inbox(db, user).await?;
    let (floor, ceiling) = match unread {
        None => (0, last_event_id.0),
        Some(true) => (read_up_to.0, last_event_id.0),
        Some(false) => (0, read_up_to.0),
    };
    let top = ceiling.saturating_sub(offset);
    let bottom = top.saturating_sub(limit).max(floor);
    let events = if top > bottom {
        read!(db, pool => {
            sqlx::query_as(BETWEEN.on(db)).bind(user).bind(bottom).bind(top).fetch_all(pool).await
        })?
    } else {
        Vec::new()
    };
    Ok(EventList { events, count: ceiling - floor, read_up_to })
}

/// Marks a user's events up to number `up_to` as read: never backwards, and never beyond the newest.
///
/// # Errors
/// As [`inbox`], and [`StoreError::Uncertain`]; it can be repeated without harm.
pub async fn mark_read(db: &Db, user: UserId, up_to: EventId) -> Result<(), StoreError> {
    // A client may repeat itself as often as it likes without a turn of the one connection that writes.
    let inbox = inbox(db, user).await?;
    if up_to.min(inbox.last_event_id) <= inbox.read_up_to {
        return Ok(());
    }
    transaction!(db, tx => {
        sqlx::query(MARK_READ.on(db)).bind(user).bind(up_to).execute(tx).await?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;

    fn numbers(events: &[Event]) -> Vec<i64> {
        events.iter().map(|event| event.id.0).collect()
    }

    #[tokio::test]
    async fn a_user_without_events_has_an_empty_inbox() {
        let test = TestDb::create().await;
        let user = test.user().await;
        assert_eq!(last_event_id(&test.db, user).await.unwrap(), EventId(0));
        assert_eq!(after(&test.db, user, EventId(0), 10).await.unwrap(), []);
        let list = list(&test.db, user, None, 10, 0).await.unwrap();
        assert_eq!(list, EventList { events: Vec::new(), count: 0, read_up_to: EventId(0) });
        mark_read(&test.db, user, EventId(7)).await.unwrap();
        assert_eq!(inbox(&test.db, user).await.unwrap().read_up_to, EventId(0));
    }

    #[tokio::test]
    async fn events_follow_a_number_in_rising_order_and_stop_at_the_limit() {
        let test = TestDb::create().await;
        let (user, other) = (test.user().await, test.user().await);
        let told = test.events(user, 7).await;
        test.events(other, 2).await;
        assert_eq!(after(&test.db, user, EventId(0), 100).await.unwrap(), told);
        assert_eq!(numbers(&after(&test.db, user, EventId(3), 2).await.unwrap()), [4, 5]);
        assert_eq!(after(&test.db, user, EventId(7), 2).await.unwrap(), []);
        assert_eq!(last_event_id(&test.db, user).await.unwrap(), EventId(7));
        assert_eq!(last_event_id(&test.db, other).await.unwrap(), EventId(2));
    }

    #[tokio::test]
    async fn the_list_is_newest_first_and_paged() {
        let test = TestDb::create().await;
        let user = test.user().await;
        test.events(user, 7).await;
        for (unread, offset, limit, expected, count) in [
            (None, 0, 3, vec![7, 6, 5], 7),
            (None, 3, 3, vec![4, 3, 2], 7),
            (None, 6, 3, vec![1], 7),
            (None, 7, 3, vec![], 7),
            (None, i64::MAX, 3, vec![], 7),
            (Some(true), 0, 3, vec![7, 6, 5], 5),
            (Some(true), 3, 3, vec![4, 3], 5),
            (Some(true), 6, 3, vec![], 5),
            (Some(false), 0, 3, vec![2, 1], 2),
            (Some(false), 1, 3, vec![1], 2),
        ] {
            mark_read(&test.db, user, EventId(2)).await.unwrap();
            let list = list(&test.db, user, unread, limit, offset).await.unwrap();
            assert_eq!((numbers(&list.events), list.count), (expected, count), "{unread:?} {offset}");
            assert_eq!(list.read_up_to, EventId(2));
        }
    }

    #[tokio::test]
    async fn the_read_mark_moves_neither_backwards_nor_beyond_the_newest() {
        let test = TestDb::create().await;
        let user = test.user().await;
        test.events(user, 5).await;
        for (up_to, expected) in [(3, 3), (1, 3), (3, 3), (-1, 3), (i64::MAX, 5), (4, 5)] {
            mark_read(&test.db, user, EventId(up_to)).await.unwrap();
            assert_eq!(inbox(&test.db, user).await.unwrap().read_up_to, EventId(expected), "{up_to}");
        }
        test.events(user, 1).await;
        let inbox = inbox(&test.db, user).await.unwrap();
        assert_eq!(inbox, Inbox { last_event_id: EventId(6), read_up_to: EventId(5) });
    }
}
