//! What is done with a batch: one transaction, its outcome known or found out, then memory (levels, caches), the answers,
//! and the events to the sessions, in this order.
//!
//! A batch that was certainly rolled back is answered with a refusal; if the fault lies in one of its works, each is done
//! alone, so that only that one is refused. If a commit's outcome is unknown it is looked up until the database says,
//! while the callers hear that nobody knows.

use std::slice;
use std::time::Duration;

use ractor::ActorProcessingErr;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use souk_store::changes::Author;
use souk_store::ledger::{self, Batch, CommitError, Work};
use souk_store::redis::News;
use souk_store::{StoreError, TRACES, chain};

use super::{Answer, LedgerActor, Submission};
use crate::Refused;

/// How long a commit without an answer is looked for before the ledger gives up, and what is cached with it.
const SETTLE_WITHIN: Duration = Duration::from_mins(5);
/// How long it waits before it looks again.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

impl LedgerActor {
    /// Commits a batch and answers it. Gives whether there was something to do, and a database that did it.
    ///
    /// # Errors
    /// If nobody knows what became of it.
    pub(super) async fn commit(&self, submissions: Vec<Submission>) -> Result<bool, ActorProcessingErr> {
        // Work that nobody waits for any more is not done.
        let waiting = submissions.into_iter().filter(|submission| !submission.answer.reply.is_closed());
        let mut works = Vec::new();
        let mut authors = Vec::new();
        let mut spans = Vec::new();
        let mut answers = Vec::new();
        for submission in waiting {
            works.push(submission.work);
            authors.push(submission.by);
            spans.push(submission.span);
            answers.push(submission.answer);
        }
        if works.is_empty() {
            return Ok(false);
        }
        let mut outcome = self.commit_together(&works, &authors, &spans).await;
        if let Err(Lost::Aborted(error)) = &outcome
            && error.is_conflict()
        {
            tracing::warn!(error = chain(error), batch.works = works.len(), "a batch is tried again");
            outcome = self.commit_together(&works, &authors, &spans).await;
        }
        match outcome {
            Ok(batch) => self.publish(batch, answers),
            Err(Lost::Aborted(error @ StoreError::Unavailable(_))) => {
                tracing::warn!(error = chain(&error), batch.works = works.len(), "a batch was refused");
                answers.into_iter().for_each(|answer| answer.give(Err(Refused::Unavailable)));
                return Ok(false);
            }
            Err(Lost::Aborted(error)) => {
                tracing::error!(error = chain(&error), batch.works = works.len(), "a batch was rolled back");
                self.commit_apart(works, &authors, &spans, answers).await?;
            }
            Err(Lost::Unknown) => return Err(nobody_knows(answers)),
        }
        Ok(true)
    }

    /// One work of the batch is at fault: each is done alone, so that only that one is refused. Even a lone one is tried
    /// again: what another node stored just then, the same SKU for one, is seen now, and refused for what it is.
    async fn commit_apart(
        &self,
        works: Vec<Work>,
        authors: &[Option<Author>],
        spans: &[Span],
        answers: Vec<Answer>,
    ) -> Result<(), ActorProcessingErr> {
        let mut is_away = false;
        for (((work, by), span), answer) in works.into_iter().zip(authors).zip(spans).zip(answers) {
            if is_away {
                answer.give(Err(Refused::Unavailable));
                continue;
            }
            if answer.reply.is_closed() {
                continue;
            }
            let outcome = self
                .commit_together(slice::from_ref(&work), slice::from_ref(by), slice::from_ref(span))
                .await;
            match outcome {
                Ok(batch) => self.publish(batch, vec![answer]),
                Err(Lost::Aborted(StoreError::Unavailable(_))) => {
                    is_away = true;
                    answer.give(Err(Refused::Unavailable));
                }
                Err(Lost::Aborted(error)) => {
                    let kind = work.kind();
                    span.in_scope(|| {
                        tracing::error!(error = chain(&error), work.kind = kind, "a work cannot be done");
                    });
                    answer.give(Err(Refused::Fault));
                }
                Err(Lost::Unknown) => return Err(nobody_knows(vec![answer])),
            }
        }
        Ok(())
    }

    /// One transaction, its outcome known or found out.
    async fn commit_together(
        &self,
        works: &[Work],
        authors: &[Option<Author>],
        spans: &[Span],
    ) -> Result<Batch, Lost> {
        self.settled(works, authors).instrument(span_of(spans)).await
    }

    async fn settled(&self, works: &[Work], authors: &[Option<Author>]) -> Result<Batch, Lost> {
        let id = Uuid::new_v4();
        let began = Instant::now();
        let outcome = ledger::commit_by(&self.db, id, works, authors).await;
        self.counters.count_transaction(began.elapsed());
        match outcome {
            Ok(batch) => {
                self.counters.count_batch(works.len());
                Ok(batch)
            }
            Err(CommitError::Aborted(error)) => Err(Lost::Aborted(error)),
            Err(CommitError::Unknown(batch, error)) => {
                tracing::warn!(error = chain(&error), batch.id = %id, "a commit was not answered");
                // Nothing that it touches is committed meanwhile. Callers run into their deadlines, and hear that
                // nobody knows; but what is cached stays true, and can be read while the database is away.
                let until = Instant::now() + SETTLE_WITHIN;
                loop {
                    match ledger::settle(&self.db, id).await {
                        Ok(true) => return Ok(*batch),
                        Ok(false) => return Err(Lost::Aborted(certain(error))),
                        Err(StoreError::Unavailable(_) | StoreError::Uncertain(_))
                            if Instant::now() < until =>
                        {
                            tokio::time::sleep(SETTLE_PAUSE).await;
                        }
                        Err(_) => return Err(Lost::Unknown),
                    }
                }
            }
        }
    }

    /// It is on disk: memory first, then the answers, then everybody else.
    fn publish(&self, batch: Batch, answers: Vec<Answer>) {
        let news = News {
            forget: batch.forget,
            levels: batch.levels,
            events: batch.events.iter().map(|event| (event.user_id, event.id)).collect(),
            carts: Vec::new(),
        };
        self.invalidator.tell(&news);
        self.levels.set(&news.levels, &news.forget);
        for (outcome, answer) in batch.outcomes.into_iter().zip(answers) {
            answer.give(outcome.map_err(Refused::Books));
        }
        if !batch.events.is_empty() {
            self.sessions.tell(batch.events);
        }
    }

    pub(super) async fn prune(&self) {
        if let Err(error) = ledger::prune(&self.db).await {
            tracing::warn!(error = chain(&error), "old rows could not be deleted");
        }
    }
}

/// The span of a batch. Of one work it is that work's; of several a child of the first one's, linked to the others, or none
/// at all while spans are not exported: what is logged then is of no one request.
fn span_of(spans: &[Span]) -> Span {
    let (first, others) = match spans {
        [] => return Span::none(),
        [one] => return one.clone(),
        [first, others @ ..] => (first, others),
    };
    let batch = tracing::debug_span!(target: TRACES, parent: first, "batch", batch.works = spans.len());
    if !batch.is_disabled() {
        for other in others {
            batch.follows_from(other);
        }
    }
    batch
}

/// Why a batch did not come to stand.
enum Lost {
    /// It was rolled back.
    Aborted(StoreError),
    /// It stands or not.
    Unknown,
}

/// The loss of a connection, now that it is known that nothing was stored.
fn certain(error: StoreError) -> StoreError {
    match error {
        StoreError::Uncertain(source) => StoreError::Unavailable(source),
        error => error,
    }
}

fn nobody_knows(answers: Vec<Answer>) -> ActorProcessingErr {
    let works = answers.len();
    answers.into_iter().for_each(|answer| answer.give(Err(Refused::Uncertain)));
    format!("the outcome of a batch of {works} is unknown").into()
}
