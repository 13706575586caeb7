//! The watcher: notices that something was written of which nobody told this node, and has everything forgotten.
//!
//! That is `souk seed` or `souk createsuperuser` beside a running server, an operator with a shell on the SQLite file, or a
//! node that has lost its Redis while this one has not; without it, what they wrote would be missing from cached answers
//! for up to an hour. Nobody calls it. Once a second it asks for a number that changes with it; if the database does
//! not answer, it asks again a second later.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use souk_store::cache::Key;
use souk_store::{Db, chain, identity};

use crate::cart::Carts;
use crate::invalidation::Invalidator;
use crate::keeper::{Child, Seat};
use crate::session::Sessions;

/// How old the news may be.
const PAUSE: Duration = Duration::from_secs(1);

/// What they may have changed: nobody can say.
const CHANGED: [Key; 4] = [Key::Categories, Key::Catalogue, Key::Availability, Key::Users];

#[derive(Clone)]
pub(crate) struct Watcher {
    db: Db,
    invalidator: Invalidator,
    carts: Carts,
    sessions: Sessions,
}

pub(crate) enum Message {
    Look,
}

impl Watcher {
    pub(crate) fn child(db: &Db, invalidator: &Invalidator, carts: &Carts, sessions: &Sessions) -> Child {
        let watcher = Self {
            db: db.clone(),
            invalidator: invalidator.clone(),
            carts: carts.clone(),
            sessions: sessions.clone(),
        };
        Child::new("watcher", &Seat::empty(), move || (watcher.clone(), ()))
    }

    fn forget(&self) {
        self.invalidator.forget(&CHANGED);
        self.carts.forget_all();
        self.sessions.look_again();
    }
}

impl Actor for Watcher {
    type Msg = Message;
    /// The number when it last looked.
    type State = i64;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Message>, (): ()) -> Result<i64, ActorProcessingErr> {
        let seen = identity::untold_changes(&self.db).await?;
        // Something may have come in while nobody looked.
        self.forget();
        myself.send_after(PAUSE, || Message::Look);
        Ok(seen)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        seen: &mut i64,
    ) -> Result<(), ActorProcessingErr> {
        let Message::Look = message;
        match identity::untold_changes(&self.db).await {
            Ok(now) if now != *seen => {
                *seen = now;
                self.forget();
                tracing::debug!("something was written that nobody told of");
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
