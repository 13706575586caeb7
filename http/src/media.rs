//! Uploaded images: reading them out of a form, keeping them, serving them below `/media/` (contract: Catalogue).
//!
//! A handler takes an image through four steps, each with its own refusal:
//!
//! ```text
//! let mut fields = extract::form(req, api, caller).await?;          // 413, 415, 400: the body, read with a limit
//! let image = api.media.read(&mut fields, "image").await?;          // a message about the field, or 503: decoded
//! fields.finish()?;                                                 // 400, every bad field at once
//! let done = api.media.keep(image, |name| write(name)).await?;      // 503: on disk, then named by the row
//! ```
//!
//! A file is on disk before a row names it, and removed after none does; which files there are the store knows
//! (`souk_store::media`). So a crash or a full disk leaves nothing behind that is not found again: a task removes what nobody
//! names, soon after a change and every few minutes.
//!
//! Memory is bounded: uploads share 64 MiB while they are read and wait, of which nobody has more than a quarter. An image
//! may take some hundred megabytes while it is worked on, so they are decoded on threads of their own, of which each has
//! one at a time.

mod files;
mod picture;
mod room;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use salvo::fs::NamedFile;
use salvo::http::{HeaderValue, StatusCode, header};
use salvo::{Depot, Request, Response, Router};
use souk_store::model::UserId;
use souk_store::{Db, StoreError, chain, media};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::files::Files;
use self::picture::{NotAnImage, Picture};
use self::room::{Room, Share};
use crate::error::ApiError;
use crate::extract::api;
use crate::fields::Fields;
use crate::metrics::{Decoded, Outcomes};
use crate::route::route;
use crate::workers::{Busy, Size, Workers};

pub(crate) use self::files::small;

/// The largest file.
pub(crate) const MAX_FILE: usize = 5 * 1024 * 1024;

/// How many wait to be decoded at most.
pub(crate) const QUEUE: usize = 16;

/// What was uploaded is no image that is taken.
const NOT_AN_IMAGE: &str =
    "Upload a valid image. The file you uploaded was either not an image or a corrupted image.";

/// How long a file stays that nothing names any more: other nodes may still say its name for a moment.
const GRACE: Duration = Duration::from_secs(2);
/// How often files are looked for that a crash left, here or on another node.
const SWEEP_EVERY: Duration = Duration::from_mins(5);

/// Smaller files are read at once, larger ones in pieces.
const READ_AT_ONCE: u64 = 256 * 1024;

/// The routes of this file.
pub(crate) fn routes() -> Router {
    Router::with_path("media/{folder}/{file}").get(route!(serve(req, depot, res)))
}

/// Makes the folder of images if it is not there, and tries whether files can be written into it.
///
/// # Errors
/// What the system says.
pub fn prepare(root: &Path) -> std::io::Result<()> {
    files::prepare(root)
}

/// The content of a file as it was sent, with its share of the room.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) bytes: Bytes,
    pub(crate) _room: Arc<Share>,
}

/// What a body says about an image: nothing, that there shall be none, or a new one.
pub(crate) type Change = Option<Option<Picture>>;

/// By this handle images are read, kept and let go.
#[derive(Debug)]
pub(crate) struct Media {
    db: Db,
    files: Files,
    decoders: Workers<()>,
    room: Arc<Room>,
    sweep: Arc<Notify>,
    sweeper: Mutex<Option<JoinHandle<()>>>,
    uploads: Outcomes<Decoded>,
}

impl Media {
    /// Over a folder that need not be there yet.
    pub(crate) fn start(db: &Db, root: PathBuf, decoders: Size, uploads: Outcomes<Decoded>) -> Self {
        let (db, files, sweep) = (db.clone(), Files::new(root), Arc::new(Notify::new()));
        let sweeping = sweep_for_ever(db.clone(), files.clone(), sweep.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "`close` ends it; between two files nothing is half done"
        )]
        let sweeper = Mutex::new(Some(tokio::spawn(sweeping)));
        let decoders = Workers::start("images", decoders);
        Self { db, files, decoders, room: Arc::default(), sweep, sweeper, uploads }
    }

    /// Ends what runs besides the requests.
    pub(crate) async fn close(&self) {
        self.decoders.close().await;
        let sweeper = self.sweeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sweeper) = sweeper {
            sweeper.abort();
            drop(sweeper.await);
        }
    }

    /// A share of the room for a file that this user sends.
    pub(crate) fn room_of(&self, user: UserId) -> Share {
        self.room.share(user)
    }

    /// The image in this field, decoded. A message about the field if it is none.
    pub(crate) async fn read(&self, fields: &mut Fields, name: &'static str) -> Result<Change, ApiError> {
        let sent = fields.image(name).nullable();
        self.develop(sent, |message| fields.error(name, message)).await
    }

    /// What was sent as an image, decoded; `refuse` hears what is wrong with it.
    pub(crate) async fn develop(
        &self,
        sent: Option<Option<Upload>>,
        refuse: impl FnOnce(&'static str),
    ) -> Result<Change, ApiError> {
        let Some(Some(upload)) = sent else { return Ok(sent.map(|_| None)) };
        // A decoder that panics has found no image.
        let developed = self.decoders.give(move |()| Picture::of(&upload.bytes)).await;
        let developed = developed.map(|picture| picture.unwrap_or(Err(NotAnImage)));
        self.uploads.count(match &developed {
            Ok(Ok(_)) => Decoded::Image,
            Ok(Err(NotAnImage)) => Decoded::NotAnImage,
            Err(Busy) => Decoded::Busy,
        });
        match developed? {
            Ok(picture) => Ok(Some(Some(picture))),
            Err(NotAnImage) => {
                refuse(NOT_AN_IMAGE);
                Ok(None)
            }
        }
    }

    /// Puts a new image on disk, does the write that names it (or no image any more), and lets go of what is not named
    /// after it: the new file if the write was refused, the old one if it was not.
    ///
    /// The write gets what its row shall say: None, leave it; `Some(None)`, no image.
    pub(crate) async fn keep<T, E, W>(
        &self,
        change: Change,
        write: impl FnOnce(Option<Option<String>>) -> W,
    ) -> Result<T, ApiError>
    where
        W: Future<Output = Result<T, E>>,
        E: Into<ApiError>,
    {
        let name = match change {
            Some(Some(picture)) => Some(Some(self.store(picture).await?)),
            Some(None) => Some(None),
            None => None,
        };
        let outcome = write(name.clone()).await.map_err(Into::into);
        // Whether anything else was done is not certain, and what is not named is found in time.
        let is_refused = outcome.as_ref().is_err_and(|error: &ApiError| error.status().is_client_error());
        if let (true, Some(Some(name))) = (is_refused, &name)
            && let Err(error) = media::abandon(&self.db, name).await
        {
            tracing::debug!(error = chain(&error), "a file is left to be found");
        }
        if name.is_some() {
            self.sweep_soon();
        }
        outcome
    }

    /// Writes the files of an image and gives their name, which nothing names yet.
    async fn store(&self, picture: Picture) -> Result<String, ApiError> {
        let name = files::new_name(picture.extension);
        media::begin(&self.db, &name).await?;
        let (files, file) = (self.files.clone(), name.clone());
        let written = tokio::task::spawn_blocking(move || files.write(&file, &picture)).await;
        let error = match written {
            Ok(Ok(())) => return Ok(name),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error, file.name = name, "an image could not be stored");
        // If this does not work either, it is found when it has waited too long.
        drop(media::abandon(&self.db, &name).await);
        self.sweep_soon();
        Err(ApiError::unavailable("The image could not be stored. Try again later."))
    }

    /// Removes before long what nothing names any more: after whatever deletes a row that may have an image.
    pub(crate) fn sweep_soon(&self) {
        self.sweep.notify_one();
    }
}

/// Removes files that nothing names, soon after somebody said so, and now and then.
async fn sweep_for_ever(db: Db, files: Files, asked: Arc<Notify>) {
    loop {
        if let Err(error) = sweep(&db, &files).await {
            tracing::warn!(error = chain(&error), "unused images could not be looked for");
        }
        if tokio::time::timeout(SWEEP_EVERY, asked.notified()).await.is_ok() {
            tokio::time::sleep(GRACE).await;
        }
    }
}

async fn sweep(db: &Db, files: &Files) -> Result<(), StoreError> {
    loop {
        let names = media::sweepable(db).await?;
        let mut removed = 0;
        for name in &names {
            let (files, file) = (files.clone(), name.clone());
            match tokio::task::spawn_blocking(move || files.remove(&file)).await {
                Ok(Ok(())) => {
                    media::forget(db, name).await?;
                    removed += 1;
                }
                Ok(Err(error)) => tracing::warn!(%error, file.name = name, "an image could not be removed"),
                Err(error) => tracing::warn!(%error, file.name = name, "an image could not be removed"),
            }
        }
        if removed == 0 {
            return Ok(());
        }
    }
}

/// A file never changes under its name, so it may be kept for as long as anybody likes.
async fn serve(req: &mut Request, depot: &mut Depot, res: &mut Response) -> Result<(), ApiError> {
    let part = |name: &str| req.params().get(name).map(String::as_str).unwrap_or_default();
    let name = format!("{}/{}", part("folder"), part("file"));
    let media_type = files::media_type(&name).ok_or_else(ApiError::not_found)?;
    let files = api(depot).media.files.clone();
    let path = tokio::task::spawn_blocking(move || files.path(&name)).await.ok().flatten();
    let file = NamedFile::builder(path.ok_or_else(ApiError::not_found)?)
        .content_type(media_type.parse().map_err(|_| ApiError::internal())?)
        .preload_threshold(READ_AT_ONCE)
        .use_last_modified(false)
        .build()
        .await;
    let Ok(mut file) = file else { return Err(ApiError::not_found()) };
    file.disable_content_disposition();
    // Conditions and ranges are the library's.
    file.send_with_method(req.method(), req.headers(), res).await;
    let status = res.status_code.unwrap_or(StatusCode::OK);
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        let headers = res.headers_mut();
        headers
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    }
    Ok(())
}
