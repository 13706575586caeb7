//! What the door keeps for all nodes: tickets that open one WebSocket, and failed tries at a password.
//!
//! The HTTP crate calls this. The keys are digests that it makes, so that neither a ticket nor a name stands in Redis.
//! None means that Redis does not answer: the caller has a memory of its own to fall back on.

use std::time::Duration;

use fred::prelude::{Expiration, KeysInterface, ListInterface, SortedSetsInterface, Value};
use fred::types::sorted_sets::MultipleZaddValues;

use super::Redis;
use crate::model::UserId;

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

    /// Notes failed tries under this digest: for each when it was, in milliseconds, and a number of its own, so that one
    /// that is noted twice counts once. The last `keep` are kept, for `life`.
    pub async fn note_failures(
        &self,
        digest: &str,
        failures: &[(i64, u64)],
        keep: i64,
        life: Duration,
    ) -> Option<()> {
        let connection = self.usable_by(|connection| &connection.door)?;
        let tries = self.tries(digest);
        let noted: MultipleZaddValues =
            failures.iter().map(|(time, number)| (*time as f64, format!("{time} {number:x}"))).collect();
        let pipeline = connection.commands.pipeline();
        let work = async {
            let () = pipeline.zadd(&tries, None, None, false, false, noted).await?;
            let () = pipeline.zremrangebyrank(&tries, 0, -1 - keep).await?;
            let () = pipeline.expire(&tries, i64::try_from(life.as_secs()).unwrap_or(i64::MAX), None).await?;
            pipeline.all::<()>().await
        };
        connection.door.ask(work).await
    }

    /// When the last failure but `newer` was, if there were that many.
    pub async fn failure(&self, digest: &str, newer: i64) -> Option<Option<i64>> {
        let connection = self.usable_by(|connection| &connection.door)?;
        let question =
            connection.commands.zrevrange::<Vec<String>, _>(self.tries(digest), newer, newer, false);
        let noted = connection.door.ask(question).await?;
        Some(noted.first().and_then(|noted| noted.split(' ').next()?.parse().ok()))
    }

    /// Forgets the failures under this digest.
    pub async fn forget_failures(&self, digest: &str) -> Option<()> {
        let connection = self.usable_by(|connection| &connection.door)?;
        connection.door.ask(connection.commands.del(self.tries(digest))).await
    }

    fn ticket(&self, digest: &str) -> String {
        self.key(&format!("ticket:{digest}"))
    }

    fn tries(&self, digest: &str) -> String {
        self.key(&format!("failed-tries:{digest}"))
    }
}
