//! What the door keeps for all nodes: tickets that open one WebSocket, and tries at a password.
//!
//! The HTTP crate calls this. The keys are digests that it makes, so that neither a ticket nor a name stands in Redis.
//! None means that Redis does not answer: the caller has a memory of its own to fall back on.

use std::time::Duration;

use fred::prelude::{Expiration, KeysInterface, ListInterface, SortedSetsInterface, Value};
use fred::types::sorted_sets::MultipleZaddValues;

use super::Redis;
use crate::model::UserId;

/// A try at a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    /// When it was, in milliseconds since 1970.
    pub time: i64,
    /// What tells it from all others of this time: noted twice, it counts once.
    pub number: u32,
    /// It was right: failures before it count no more.
    pub succeeded: bool,
}

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";

impl Try {
    fn member(self) -> String {
        let Self { time, number, succeeded } = self;
        format!("{} {time} {number:x}", if succeeded { SUCCESS } else { FAILURE })
    }
}

impl Redis {
    /// Keeps a ticket under its digest for `life`, and of this user's no more than `most`: the oldest goes. It says whose it
    /// is, and of the token that bought it when it runs out and its generation.
    pub async fn keep_ticket(
        &self,
        digest: &str,
        (user, expires_at, generation): (UserId, i64, i64),
        life: Duration,
        most: i64,
    ) -> Option<()> {
        let connection = self.usable_by(|connection| &connection.door)?;
        let (ticket, of_user) = (self.ticket(digest), self.key(&format!("tickets-of:{user}")));
        let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        let pipeline = connection.commands.pipeline();
        let work = async {
            let value = format!("{user} {expires_at} {generation}");
            let () = pipeline.set(ticket, value, Some(Expiration::EX(seconds)), None, false).await?;
            let () = pipeline.lpush(&of_user, digest).await?;
            let () = pipeline.lrange(&of_user, most, -1).await?;
            let () = pipeline.ltrim(&of_user, 0, most - 1).await?;
            let () = pipeline.expire(&of_user, seconds, None).await?;
            let answers = pipeline.all::<Vec<Value>>().await?;
            let surplus = answers.into_iter().nth(2).unwrap_or(Value::Null).convert::<Vec<String>>()?;
            if surplus.is_empty() {
                return Ok(());
            }
            let surplus: Vec<_> = surplus.iter().map(|digest| self.ticket(digest)).collect();
            connection.commands.del::<(), _>(surplus).await
        };
        connection.door.ask(work).await
    }

    /// Takes the ticket with this digest: what it says. It is gone then.
    pub async fn take_ticket(&self, digest: &str) -> Option<Option<(UserId, i64, i64)>> {
        let connection = self.usable_by(|connection| &connection.door)?;
        let question = connection.commands.getdel::<Option<String>, _>(self.ticket(digest));
        let kept = connection.door.ask(question).await?;
        Some(kept.and_then(|kept| {
            let mut words = kept.split(' ');
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        }))
    }

    /// By which connection the door is asked at the moment, if by any. What another one was told may be forgotten.
    #[must_use]
    pub fn door(&self) -> Option<u64> {
        self.usable_by(|connection| &connection.door).map(|connection| connection.id)
    }

    /// Notes tries under this digest; the last `keep` are kept, for `life`. Gives the [door](Redis::door) that was told.
    pub async fn note_tries(&self, digest: &str, tries: &[Try], keep: i64, life: Duration) -> Option<u64> {
        let connection = self.usable_by(|connection| &connection.door)?;
        let key = self.tries(digest);
        let noted: MultipleZaddValues = tries.iter().map(|it| (it.time as f64, it.member())).collect();
        let pipeline = connection.commands.pipeline();
        let work = async {
            let () = pipeline.zadd(&key, None, None, false, false, noted).await?;
            let () = pipeline.zremrangebyrank(&key, 0, -1 - keep).await?;
            let () = pipeline.expire(&key, i64::try_from(life.as_secs()).unwrap_or(i64::MAX), None).await?;
            pipeline.all::<()>().await
        };
        connection.door.ask(work).await?;
        Some(connection.id)
    }

    /// When the last failure but `newer` was, in milliseconds, if there were that many since the last success.
    pub async fn failure(&self, digest: &str, newer: i64) -> Option<Option<i64>> {
        let connection = self.usable_by(|connection| &connection.door)?;
        let question = connection.commands.zrevrange::<Vec<String>, _>(self.tries(digest), 0, newer, false);
        let last = connection.door.ask(question).await?;
        let Some(oldest) = usize::try_from(newer).ok().and_then(|newer| last.get(newer)) else {
            return Some(None);
        };
        if last.iter().any(|member| member.starts_with(SUCCESS)) {
            return Some(None);
        }
        Some(oldest.split(' ').nth(1).and_then(|time| time.parse().ok()))
    }

    fn ticket(&self, digest: &str) -> String {
        self.key(&format!("ticket:{digest}"))
    }

    fn tries(&self, digest: &str) -> String {
        self.key(&format!("tries-at:{digest}"))
    }
}
