//! The watcher: on the embedded database, notices that another process wrote to the file, and says so to the invalidator.
//!
//! That is `souk seed` or `souk createsuperuser` beside a running server, or an operator with a shell; without it, what
//! they wrote would be missing from cached answers for up to an hour. Nobody calls it. It asks once a second for a
//! number that SQLite keeps for just this; if the database does not answer, it asks again a second later. On Postgres
//! it has nothing to do, since there the nodes tell each other.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use souk_store::cache::Key;
use souk_store::{Db, chain};

use crate::invalidation::Invalidator;
use crate::keeper::{Child, Seat};

/// How old the news may be.
const PAUSE: Duration = Duration::from_secs(1);

/// What they may have changed: nobody can say.
const CHANGED: [Key; 4] = [Key::Categories, Key::Catalogue, Key::Availability, Key::Users];

#[derive(Clone)]
pub(crate) struct Watcher {
    db: Db,
    invalidator: Invalidator,
}

pub(crate) enum Message {
    Look,
}

impl Watcher {
    pub(crate) fn child(db: &Db, invalidator: &Invalidator) -> Child {
        let watcher = Self { db: db.clone(), invalidator: invalidator.clone() };
        Child::new("watcher", &Seat::empty(), move || (watcher.clone(), ()))
    }
}

impl Actor for Watcher {
    type Msg = Message;
    /// The number when it last looked.
    type State = Option<i64>;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Message>, (): ()) -> Result<Option<i64>, ActorProcessingErr> {
        let seen = self.db.written_by_others().await?;
        if seen.is_some() {
            // Something may have come in while nobody looked.
            self.invalidator.forget(&CHANGED);
            myself.send_after(PAUSE, || Message::Look);
        }
        Ok(seen)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        seen: &mut Option<i64>,
    ) -> Result<(), ActorProcessingErr> {
        let Message::Look = message;
        match self.db.written_by_others().await {
            Ok(now) if now != *seen => {
                *seen = now;
                self.invalidator.forget(&CHANGED);
                tracing::debug!("another process wrote to the database");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = chain(&error), "cannot see whether others wrote to the database")
            }
        }
        myself.send_after(PAUSE, || Message::Look);
        Ok(())
    }
}
