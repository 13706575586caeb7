//! Reads `multipart/form-data`: the bodies that may hold an image.
//!
//! The body is read as it comes and held in memory, never on disk, with a limit for it all, for each file, for all text
//! and for the number of parts; it has to arrive within the deadline of every body. Files take their share of the room that
//! all uploads have together, so whoever sends one is known before anything is read; text takes none, since it is little.
//! What breaks a limit is kept no longer; the rest is skipped, or the connection closed.

use std::cell::Cell;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use multra::{Constraints, Field, Multipart, SizeLimit};
use salvo::Request;
use salvo::http::{ReqBody, header};
use souk_store::model::UserId;

use crate::error::ApiError;
use crate::extract::{self, MAX_JSON_BODY};
use crate::fields::{Fields, Sent};
use crate::media::{MAX_FILE, Media, Upload};

/// The largest body: one file with as much text around it as JSON may have.
const MAX_FORM: usize = MAX_FILE + MAX_JSON_BODY;

/// How much of a body that was refused is read all the same, and let go at once: a photo that was not scaled down.
const LONGEST_SKIPPED: u64 = 32 * 1024 * 1024;

/// The most parts, named or not.
const MAX_PARTS: usize = 100;

/// Whether a media type is that of a form with files.
pub(crate) fn is_form(media_type: &[u8]) -> bool {
    extract::is_type(media_type, "multipart/form-data")
}

/// The fields of a body that is such a form.
pub(crate) async fn read(req: &mut Request, media: &Media, by: UserId) -> Result<Fields, ApiError> {
    Ok(Fields::from_form(parts(req, media, by).await?))
}

/// All that such a form was sent with, in its order.
pub(crate) async fn parts(
    req: &mut Request,
    media: &Media,
    by: UserId,
) -> Result<Vec<(String, Sent)>, ApiError> {
    use salvo::http::Body as _;
    let media_type = req.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multra::parse_boundary(media_type.unwrap_or_default()).map_err(ApiError::not_a_form)?;
    // A client that waits to be told to go on can be told no before it sends anything.
    let waits = req.headers().contains_key(header::EXPECT);
    let announced = req.body().size_hint().lower();
    let place = extract::place_of(req);
    let mut body = req.take_body();
    let read = async {
        let read = if announced > MAX_FORM as u64 {
            Err(ApiError::body_too_large(MAX_FORM))
        } else {
            read_parts(&mut body, boundary, media, by).await
        };
        match read {
            Err(error) if waits || !skip_rest(&mut body, announced).await => {
                // What is left of it will not be read, so the connection cannot serve another request.
                Err(error.and_close())
            }
            read => read,
        }
    };
    extract::arrival(&place, read).await
}

/// Reads what is left of a body that was refused, and forgets it: most clients hear an answer only after they have sent
/// everything. False if that is too much.
async fn skip_rest(body: &mut ReqBody, announced: u64) -> bool {
    if announced > LONGEST_SKIPPED {
        return false;
    }
    let mut skipped = 0;
    while let Some(frame) = body.next().await {
        let Ok(frame) = frame else { return false };
        skipped += frame.data_ref().map_or(0, |data| data.len() as u64);
        if skipped > LONGEST_SKIPPED {
            return false;
        }
    }
    true
}

async fn read_parts(
    body: &mut ReqBody,
    boundary: String,
    media: &Media,
    by: UserId,
) -> Result<Vec<(String, Sent)>, ApiError> {
    let body = body.filter_map(async |frame| match frame.map(|frame| frame.into_data()) {
        Ok(Ok(data)) => Some(Ok(data)),
        Ok(Err(_trailers)) => None,
        Err(error) => Some(Err(error)),
    });
    let limits = SizeLimit::new().whole_stream(MAX_FORM as u64).headers(8 * 1024).preamble(1024);
    let constraints = Constraints::new().size_limit(limits).max_fields(MAX_PARTS);
    let mut form = Multipart::try_with_constraints(body, boundary, constraints).map_err(refusal)?;
    let mut parts = Vec::new();
    let text_left = Cell::new(MAX_JSON_BODY);
    while let Some(field) = form.next_field().await.map_err(refusal)? {
        let name = field.name().map(str::to_owned);
        let is_file = field.file_name().map(|file| !file.is_empty());
        let sent = match is_file {
            Some(_) => {
                let mut room = media.room_of(by);
                let too_large = || ApiError::file_too_large(MAX_FILE);
                let bytes = read_part(field, MAX_FILE, too_large, |length| room.grow_to(length)).await?;
                Sent::File(Upload { bytes, _room: Arc::new(room) })
            }
            None => {
                let too_large = || ApiError::body_too_large(MAX_JSON_BODY);
                let bytes = read_part(field, text_left.get(), too_large, |_| Ok(())).await?;
                text_left.set(text_left.get() - bytes.len());
                let text = String::from_utf8(bytes.into())
                    .map_err(|_| ApiError::not_a_form("a text is not UTF-8"))?;
                Sent::Text(text)
            }
        };
        // A file without a name is what a browser sends when none was chosen.
        if let Some(name) = name.filter(|_| is_file != Some(false)) {
            parts.push((name, sent));
        }
    }
    Ok(parts)
}

/// The content of a part; `admit` hears how long it is about to become.
async fn read_part(
    mut field: Field<'_>,
    limit: usize,
    too_large: impl Fn() -> ApiError,
    mut admit: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = field.chunk().await.map_err(refusal)? {
        let length = bytes.len() + piece.len();
        if length > limit {
            return Err(too_large());
        }
        admit(length)?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

fn refusal(error: multra::Error) -> ApiError {
    use multra::Error as E;
    match error {
        E::StreamSizeExceeded { .. } => ApiError::body_too_large(MAX_FORM),
        E::StreamReadFailed(error) => {
            tracing::debug!(error = error.to_string(), "a request body could not be read");
            ApiError::bad_request("The request body could not be read.")
        }
        error => ApiError::not_a_form(error),
    }
}
