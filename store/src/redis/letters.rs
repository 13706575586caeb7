//! What nodes write to each other, and the box in which it is gathered until it is sent. Ids and numbers only: nothing
//! of a person stands in a letter.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::cache::Key;
use crate::model::{EventId, Level, ProductId, UserId};

/// What one node tells the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// What caches must forget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forget: Vec<Key>,
    /// Levels that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<(ProductId, Level)>,
    /// Carts that changed, by their users, and the versions of their rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carts: Vec<(UserId, i64)>,
    /// Users who have new events, and the number of the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<(UserId, EventId)>,
}

impl News {
    /// That these keys must be forgotten.
    #[must_use]
    pub fn forget(keys: &[Key]) -> Self {
        Self { forget: keys.to_vec(), ..Self::default() }
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.forget.is_empty() && self.levels.is_empty() && self.carts.is_empty() && self.events.is_empty()
    }
}

/// One message of a connection. Its letters are numbered without a gap, so that whoever misses one knows.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    /// The connection that it comes from.
    pub(super) from: u64,
    pub(super) number: u64,
    pub(super) says: Says,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Says {
    /// A connection begins, in the place of another one of the same node.
    Hello {
        after: u64,
    },
    /// Nothing, but that it lives.
    Beat,
    News(News),
    /// Nobody knows what was not told: forget everything.
    Everything,
    Goodbye,
}

/// What waits to be told. What is told of the same thing twice is told once.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The connection that will take it; without one nothing is gathered, since the next one makes everybody forget
    /// everything.
    pub(super) taker: Option<u64>,
    forget: HashSet<Key>,
    levels: HashMap<ProductId, Level>,
    carts: HashMap<UserId, i64>,
    events: HashMap<UserId, EventId>,
}

impl Outbox {
    pub(super) fn open_for(taker: Option<u64>) -> Self {
        Self { taker, ..Self::default() }
    }

    /// Says whether somebody will take it.
    pub(super) fn put(&mut self, news: &News) -> bool {
        if self.taker.is_none() {
            return false;
        }
        self.forget.extend(news.forget.iter().copied());
        for (product, level) in &news.levels {
            let known = self.levels.entry(*product).or_insert(*level);
            if known.version < level.version {
                *known = *level;
            }
        }
        for (user, version) in &news.carts {
            let known = self.carts.entry(*user).or_insert(*version);
            *known = (*known).max(*version);
        }
        for (user, event) in &news.events {
            let known = self.events.entry(*user).or_insert(*event);
            *known = (*known).max(*event);
        }
        true
    }

    pub(super) fn forgets_nothing(&self) -> bool {
        self.forget.is_empty()
    }

    pub(super) fn take(&mut self) -> News {
        News {
            forget: self.forget.drain().collect(),
            levels: self.levels.drain().collect(),
            carts: self.carts.drain().collect(),
            events: self.events.drain().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_read_as_it_was_written() {
        let news = News {
            forget: vec![Key::Catalogue, Key::Product(ProductId(7)), Key::User(UserId(8))],
            levels: vec![(ProductId(7), Level { stock: 3, version: 9 })],
            carts: vec![(UserId(8), 4)],
            events: vec![(UserId(8), EventId(2))],
        };
        for says in [
            Says::Hello { after: u64::MAX },
            Says::Beat,
            Says::News(news),
            Says::News(News::default()),
            Says::Everything,
            Says::Goodbye,
        ] {
            let letter = Letter { from: u64::MAX, number: 1, says };
            let text = serde_json::to_string(&letter).unwrap();
            assert_eq!(serde_json::from_str::<Letter>(&text).unwrap(), letter, "{text}");
        }
    }

    #[test]
    fn of_many_changes_of_the_same_thing_the_newest_is_told() {
        let mut outbox = Outbox::open_for(Some(1));
        for version in [5, 7, 6] {
            let news = News {
                forget: vec![Key::Availability],
                levels: vec![(ProductId(7), Level { stock: 10 - version, version })],
                carts: vec![(UserId(8), version)],
                events: vec![(UserId(8), EventId(version))],
            };
            assert!(outbox.put(&news));
        }
        let expected = News {
            forget: vec![Key::Availability],
            levels: vec![(ProductId(7), Level { stock: 3, version: 7 })],
            carts: vec![(UserId(8), 7)],
            events: vec![(UserId(8), EventId(7))],
        };
        assert_eq!(outbox.take(), expected);
        assert!(outbox.take().is_empty());
    }

    #[test]
    fn nothing_is_gathered_for_nobody() {
        let mut outbox = Outbox::default();
        assert!(!outbox.put(&News::forget(&[Key::Catalogue])));
        assert!(outbox.take().is_empty());
    }
}
