//! Forms: reading one, and showing it again with what is wrong beside each field.
//!
//! The rules and their wording are those of the API's bodies: [`Form::fields`] gives the same
//! [`Fields`](crate::fields::Fields). What was typed stays as it was typed, so that a form that is refused comes back
//! as its user left it.

use salvo::Request;
use souk_store::model::{Timestamp, UserId};

use crate::Api;
use crate::error::{ApiError, FieldErrors};
use crate::fields::{Fields, Sent};
use crate::media::{self, Upload};
use crate::{extract, form};

/// The largest form without files.
const MAX_FORM: usize = 1024 * 1024;

/// What a form was sent with, or what one begins with.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    values: Vec<(String, String)>,
    files: Vec<(String, Upload)>,
}

impl Form {
    /// Reads the body of a request of somebody who is signed in; without one the form is empty.
    pub(super) async fn read(req: &mut Request, api: &Api, by: UserId) -> Result<Self, ApiError> {
        if !form::is_form(extract::media_type(req)) {
            return Self::read_text(req, MAX_FORM).await;
        }
        let mut read = Self::default();
        for (name, sent) in form::parts(req, &api.media, by).await? {
            match sent {
                Sent::Text(text) => read.values.push((name, with_plain_breaks(text))),
                Sent::File(file) => read.files.push((name, file)),
                Sent::Json(_) => {}
            }
        }
        Ok(read)
    }

    /// Reads a body that can hold no file, of at most so many bytes.
    pub(super) async fn read_text(req: &mut Request, limit: usize) -> Result<Self, ApiError> {
        use salvo::http::Body as _;
        if req.body().is_end_stream() {
            return Ok(Self::default());
        }
        let media_type = extract::media_type(req);
        if !extract::is_type(media_type, "application/x-www-form-urlencoded") {
            return Err(ApiError::unsupported_media_type(&String::from_utf8_lossy(media_type)));
        }
        let body = extract::body(req, limit).await?;
        Ok(Self::parse(&body))
    }

    /// The fields of a body, or of a query.
    pub(super) fn parse(text: &[u8]) -> Self {
        let values = form_urlencoded::parse(text).into_owned();
        Self {
            values: values.map(|(name, text)| (name, with_plain_breaks(text))).collect(),
            files: Vec::new(),
        }
    }

    /// A form as it is shown first.
    pub(super) fn of(values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { values, files: Vec::new() }
    }

    /// A field as it was typed; of several the last, and nothing if it was left out.
    pub(super) fn text(&self, name: &str) -> &str {
        self.values.iter().rev().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Whether a box is ticked.
    pub(super) fn is_ticked(&self, name: &str) -> bool {
        self.values.iter().any(|(known, _)| known == name)
    }

    /// All values of a field that may come several times.
    pub(super) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        self.values.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The fields, for the rules to read.
    pub(super) fn fields(&self) -> Fields {
        let texts = self.values.iter().map(|(name, text)| (name.clone(), Sent::Text(text.clone())));
        let files = self.files.iter().map(|(name, file)| (name.clone(), Sent::File(file.clone())));
        Fields::from_form(texts.chain(files))
    }

    /// The file that was chosen.
    pub(super) fn file(&self, name: &str) -> Option<&Upload> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, file)| file)
    }

    /// The image that the form brings, or that there shall be none any more.
    pub(super) async fn image(&self, api: &Api, fields: &mut Fields) -> Result<media::Change, ApiError> {
        if self.file("image").is_none() {
            return Ok(self.is_ticked("remove_image").then_some(None));
        }
        let image = api.media.read(fields, "image").await?;
        if !fields.refused("image") && !fields.are_good() {
            fields.error("image", "Please choose the file again.");
        }
        Ok(image)
    }

    /// When what the form was filled in from was last changed, as its page said.
    pub(super) fn seen(&self) -> Option<Timestamp> {
        serde_json::from_value(self.text("seen").into()).ok()
    }

    /// What becomes of a form that does not say so.
    pub(super) fn unseen() -> ApiError {
        ApiError::bad_request("The form does not say what it was filled in from.")
    }

    /// The same without its files, which a browser does not choose again by itself.
    pub(super) fn without_files(&self) -> Self {
        Self { values: self.values.clone(), files: Vec::new() }
    }
}

/// Text as it was before the browser made two signs of every line break in it: what nobody touched must not differ.
fn with_plain_breaks(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n") } else { text }
}

/// A form with what is wrong with it: what templates show.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    form: Form,
    errors: FieldErrors,
}

impl Sheet {
    /// A form as it is shown first.
    pub(super) fn of(form: Form) -> Self {
        Self { form, errors: FieldErrors::default() }
    }

    /// A form that is refused.
    pub(super) fn refused(form: Form, errors: FieldErrors) -> Self {
        Self { form, errors }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.form.text(name)
    }

    pub(super) fn is_ticked(&self, name: &str) -> bool {
        self.form.is_ticked(name)
    }

    /// Whether any of these fields is filled in.
    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| !self.text(name).is_empty())
    }

    pub(super) fn errors(&self, name: &str) -> &[String] {
        self.errors.messages(name)
    }

    pub(super) fn is_refused(&self, name: &str) -> bool {
        !self.errors(name).is_empty()
    }

    /// What is wrong with the form as a whole.
    pub(super) fn errors_of_all(&self) -> &[String] {
        self.errors.messages(FieldErrors::NON_FIELD)
    }

    /// Whether anything is wrong.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }
}
