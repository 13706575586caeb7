//! The threads on which uploads are decoded: few, with a bounded queue. When it is full the caller gets [`Busy`] at once.
//!
//! An image may take some hundred megabytes while it is worked on, so no more than one a thread is. Whoever does not wait
//! any more is skipped; a decoder that panics has found no image.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::Upload;
use super::picture::{NotAnImage, Picture};

/// How many wait at most.
const QUEUE: usize = 16;

/// Too many images wait already, or the service is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

#[derive(Debug)]
struct Job {
    upload: Upload,
    reply: oneshot::Sender<Result<Picture, NotAnImage>>,
}

#[derive(Debug)]
pub(super) struct Studio {
    queue: Mutex<Option<SyncSender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Studio {
    /// Starts the threads: two on a machine with four cores or more, otherwise one.
    pub(super) fn start() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (queue, jobs) = sync_channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let threads = (0..(cores / 2).clamp(1, 2)).map(|_| {
            let jobs = jobs.clone();
            let thread = std::thread::Builder::new().name("images".to_owned());
            thread.spawn(move || work(&jobs)).expect("a thread for images")
        });
        Self { queue: Mutex::new(Some(queue)), threads: Mutex::new(threads.collect()) }
    }

    /// What becomes of an upload.
    pub(super) async fn develop(&self, upload: Upload) -> Result<Result<Picture, NotAnImage>, Busy> {
        let (reply, answer) = oneshot::channel();
        {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.as_ref().ok_or(Busy)?.try_send(Job { upload, reply }).map_err(|_| Busy)?;
        }
        // Without an answer the decoder panicked.
        Ok(answer.await.unwrap_or(Err(NotAnImage)))
    }

    /// Takes nothing more, does what is queued, and ends the threads.
    pub(super) async fn close(&self) {
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
fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting, so that of idle threads one waits for a job and the others for the lock.
        let Ok(Job { upload, reply }) = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv() else {
            return;
        };
        if reply.is_closed() {
            continue;
        }
        match std::panic::catch_unwind(AssertUnwindSafe(|| Picture::of(&upload.bytes))) {
            // The room that the upload takes is free only after it was let go.
            Ok(picture) => drop(reply.send(picture)),
            Err(_) => tracing::error!("decoding an image panicked"),
        }
    }
}
