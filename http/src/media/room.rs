//! The room in memory that uploads have together while they are read and wait. Nobody has more than a quarter of it, so
//! that one who holds all that is his leaves the others theirs. A share goes back when it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use souk_store::model::UserId;

use crate::error::ApiError;

/// How many bytes all may take.
const ALL: usize = 64 * 1024 * 1024;
/// How many one user may.
const OF_ONE: usize = ALL / 4;

#[derive(Debug, Default)]
pub(super) struct Room(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Only those who have some.
    by: HashMap<UserId, usize>,
}

/// The share of one upload.
#[derive(Debug)]
pub(crate) struct Share {
    room: Arc<Room>,
    user: UserId,
    bytes: usize,
}

impl Room {
    /// A share that is empty yet.
    pub(super) fn share(self: &Arc<Self>, user: UserId) -> Share {
        Share { room: Arc::clone(self), user, bytes: 0 }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Makes it so large; 503 if there is no room for that.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        let more = bytes.saturating_sub(self.bytes);
        let mut taken = self.room.taken();
        let own = taken.by.get(&self.user).copied().unwrap_or_default();
        if taken.all + more > ALL || own + more > OF_ONE {
            return Err(ApiError::over_capacity());
        }
        taken.all += more;
        taken.by.insert(self.user, own + more);
        drop(taken);
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all -= self.bytes;
        if let Some(own) = taken.by.get_mut(&self.user) {
            *own -= self.bytes;
            if *own == 0 {
                taken.by.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_a_quarter_and_all_of_it_comes_back() {
        let room = Arc::new(Room::default());
        let of = |user| room.share(UserId(user));
        let mut shares: Vec<Share> = (1..=4).map(of).collect();
        for share in &mut shares {
            share.grow_to(1).unwrap();
            share.grow_to(OF_ONE).unwrap();
            share.grow_to(OF_ONE + 1).unwrap_err();
        }
        of(5).grow_to(1).unwrap_err();
        let mut second = of(1);
        second.grow_to(1).unwrap_err();
        drop(shares.remove(0));
        second.grow_to(OF_ONE).unwrap();
        drop((second, shares));
        assert_eq!(room.taken().all, 0);
        assert!(room.taken().by.is_empty());
    }
}
