//! Forms: reading one, and showing it again with what is wrong beside each field.
//!
//! The rules and their wording are those of the API's bodies: [`Form::fields`] gives the same
//! [`Fields`](crate::fields::Fields). What was typed stays as it was typed, so that a form that is refused comes back
//! as its user left it.

use salvo::Request;
use salvo::http::header;

use crate::error::{ApiError, FieldErrors};
use crate::extract;
use crate::fields::{Fields, Sent};

/// The largest form.
const MAX_FORM: usize = 1024 * 1024;

/// What a form was sent with, or what one begins with.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    values: Vec<(String, String)>,
}

impl Form {
    /// Reads the body of a request; without one the form is empty.
    pub(super) async fn read(req: &mut Request) -> Result<Self, ApiError> {
        use salvo::http::Body as _;
        if req.body().is_end_stream() {
            return Ok(Self::default());
        }
        let media_type = req.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if !essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            return Err(ApiError::unsupported_media_type(&String::from_utf8_lossy(media_type)));
        }
        let body = extract::body(req, MAX_FORM).await?;
        Ok(Self::parse(&body))
    }

    /// The fields of a body, or of a query.
    pub(super) fn parse(text: &[u8]) -> Self {
        Self { values: form_urlencoded::parse(text).into_owned().collect() }
    }

    /// A form as it is shown first.
    pub(super) fn of(values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self { values: values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
    }

    /// A field as it was typed; of several the last, and nothing if it was left out.
    pub(super) fn text(&self, name: &str) -> &str {
        self.values.iter().rev().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// All values of a field that may come several times.
    pub(super) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        self.values.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The fields, for the rules to read.
    pub(super) fn fields(&self) -> Fields {
        let texts = self.values.iter().map(|(name, text)| (name.clone(), Sent::Text(text.clone())));
        Fields::from_form(texts)
    }
}

/// A form with what is wrong with it: what templates show.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    form: Form,
    errors: FieldErrors,
}

impl Sheet {
    /// A form that is refused.
    pub(super) fn refused(form: Form, errors: FieldErrors) -> Self {
        Self { form, errors }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.form.text(name)
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
