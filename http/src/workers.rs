//! Threads of their own for what takes long and is computed: few, with a bounded queue. When it is full the caller gets
//! [`Busy`] at once.
//!
//! A thread keeps some memory between jobs, which it gives back when there is nothing to do for a while. Whoever does not
//! wait any more is skipped; a job that panics has no answer, and the thread goes on.

use std::num::NonZero;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a thread keeps its memory when there is nothing to do.
const MEMORY_KEPT: Duration = Duration::from_secs(10);

/// Too many jobs wait already, or the service is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// How many there are, and how many jobs wait for them at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) threads: usize,
    pub(crate) queue: usize,
}

impl Size {
    /// Two threads on a machine with four cores or more, otherwise one.
    pub(crate) fn for_this_machine(queue: usize) -> Self {
        Self { threads: (cores() / 2).clamp(1, 2), queue }
    }
}

/// How many cores this machine has for us; one if it does not tell.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

type Job<Memory> = Box<dyn FnOnce(&mut Memory) + Send>;

/// Threads that do one kind of work.
#[derive(Debug)]
pub(crate) struct Workers<Memory> {
    queue: Mutex<Option<SyncSender<Job<Memory>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<Memory: Default + 'static> Workers<Memory> {
    /// Starts the threads, which bear this name. Panics if the system gives none.
    pub(crate) fn start(name: &'static str, size: Size) -> Self {
        let (queue, jobs) = sync_channel(size.queue);
        let jobs = Arc::new(Mutex::new(jobs));
        let threads = (0..size.threads).map(|_| {
            let jobs = Arc::clone(&jobs);
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || work(name, &jobs)).expect("the system gives a thread")
        });
        Self { queue: Mutex::new(Some(queue)), threads: Mutex::new(threads.collect()) }
    }

    /// What this job comes to, done by a thread with its memory; nothing if it panics.
    pub(crate) async fn give<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<Option<T>, Busy> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move |memory: &mut Memory| {
            if !reply.is_closed() {
                drop(reply.send(job(memory)));
            }
        });
        {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.as_ref().ok_or(Busy)?.try_send(job).map_err(|_| Busy)?;
        }
        Ok(answer.await.ok())
    }

    /// Takes nothing more, does what is queued, and ends the threads.
    pub(crate) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let join = || {
            for thread in threads {
                drop(thread.join());
            }
        };
        drop(tokio::task::spawn_blocking(join).await);
    }
}

/// The life of a thread: until the queue is closed and empty.
fn work<Memory: Default>(name: &'static str, jobs: &Mutex<Receiver<Job<Memory>>>) {
    let mut memory = Memory::default();
    loop {
        // The lock is held while waiting, so that of idle threads one waits for a job and the others for the lock.
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(MEMORY_KEPT);
        match next {
            Ok(job) => {
                if std::panic::catch_unwind(AssertUnwindSafe(|| job(&mut memory))).is_err() {
                    tracing::error!(thread.name = name, "a job panicked");
                }
            }
            Err(RecvTimeoutError::Timeout) => memory = Memory::default(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_has_no_answer_and_the_next_one_has() {
        let workers = Workers::<u8>::start("test", Size { threads: 1, queue: 1 });
        let panics = workers.give(|memory| {
            *memory = 7;
            assert_ne!(*memory, 7, "as it is meant to");
        });
        assert_eq!(panics.await, Ok(None));
        assert_eq!(workers.give(|memory| *memory).await, Ok(Some(7)));
        workers.close().await;
        assert_eq!(workers.give(|memory| *memory).await, Err(Busy));
    }
}
