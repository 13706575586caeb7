//! Reads the fields of a body and gathers every bad one, in the wording of Django REST Framework.
//!
//! A handler makes [`Fields`] from the body, asks for each field by name and type, and calls [`Fields::finish`], which
//! is the error if there was any. Until then a value may be a placeholder for one that was refused:
//!
//! ```text
//! let mut fields = extract::fields(req).await?;
//! let name = fields.text("name").max(255).required();
//! let price = fields.money("price").required_if(put); // None: left out of a PATCH
//! fields.finish()?;
//! ```
//!
//! Values keep their text until they are read, so that a number never passes through a float. A body is JSON or a form;
//! the same rules read both. In a form every value is a text or a file, `profile.bio` is a field within `profile`, and an
//! empty text is what a browser sends for a field that nobody filled in: it counts as left out where that is allowed, or
//! as null. Fields that nobody asks for are ignored.

mod rules;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use souk_store::model::NotAnId;

use self::rules::{Boolean, Choice, Date, Id, Image, Integer, Object, Price, Text};
use crate::error::{ApiError, FieldErrors};
use crate::media::Upload;

pub(crate) use self::rules::NULL_CHARACTER;

const REQUIRED: &str = "This field is required.";
const NULL: &str = "This field may not be null.";

/// A value as its body holds it.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// Of JSON.
    Json(Box<RawValue>),
    /// Of a form.
    Text(String),
    /// Of a form.
    File(Upload),
}

impl Sent {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Json(json) => Value::of(json.get()),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::File(upload) => Value::File(upload),
        }
    }
}

/// The fields of one body, and what is wrong with them so far.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    values: HashMap<String, Sent>,
    errors: FieldErrors,
}

impl Fields {
    /// Reads a JSON object. Of repeated keys the last counts.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(body).map_err(ApiError::not_json)?;
        serde_json::from_str::<Sound>(text).map_err(ApiError::not_json)?;
        let value: &RawValue = serde_json::from_str(text).map_err(ApiError::not_json)?;
        Self::from_value(value).map_err(ApiError::fields)
    }

    fn from_value(value: &RawValue) -> Result<Self, FieldErrors> {
        let mut errors = FieldErrors::default();
        let found = Value::of(value.get());
        if let Value::Object(text) = found
            && let Ok(values) = serde_json::from_str::<HashMap<String, Box<RawValue>>>(text)
        {
            let values = values.into_iter().map(|(name, json)| (name, Sent::Json(json))).collect();
            return Ok(Self { values, errors });
        }
        let found = found.type_name();
        errors.add(FieldErrors::NON_FIELD, format!("Invalid data. Expected a dictionary, but got {found}."));
        Err(errors)
    }

    /// Takes what a form holds. Of repeated names the last counts.
    pub(crate) fn from_form(parts: impl IntoIterator<Item = (String, Sent)>) -> Self {
        Self { values: parts.into_iter().collect(), errors: FieldErrors::default() }
    }

    /// Text: trimmed, and not blank unless [`Field::blank`] says so.
    pub(crate) fn text(&mut self, name: &'static str) -> Field<'_, Text> {
        self.field(name, Text::default())
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, name: &'static str) -> Field<'_, Integer> {
        self.field(name, Integer::default())
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, name: &'static str) -> Field<'_, Boolean> {
        self.field(name, Boolean)
    }

    /// A price.
    pub(crate) fn money(&mut self, name: &'static str) -> Field<'_, Price> {
        self.field(name, Price)
    }

    /// A calendar date.
    pub(crate) fn date(&mut self, name: &'static str) -> Field<'_, Date> {
        self.field(name, Date)
    }

    /// The id of something else; whether that exists is the handler's to find out ([`no_such_object`]).
    pub(crate) fn id<T: FromStr<Err = NotAnId>>(&mut self, name: &'static str) -> Field<'_, Id<T>> {
        self.field(name, Id::default())
    }

    /// One of the texts that `T` parses.
    pub(crate) fn choice<T: FromStr>(&mut self, name: &'static str) -> Field<'_, Choice<T>> {
        self.field(name, Choice::default())
    }

    /// A JSON object, kept as its text, of at most this many bytes.
    pub(crate) fn object(&mut self, name: &'static str, max_bytes: usize) -> Field<'_, Object> {
        self.field(name, Object::of_at_most(max_bytes))
    }

    /// An uploaded image, not decoded yet: `media` does that.
    pub(crate) fn image(&mut self, name: &'static str) -> Field<'_, Image> {
        self.field(name, Image)
    }

    /// The fields of an object within, or None if it was left out. `read` asks for them and must not finish.
    pub(crate) fn nested<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let within = match self.values.get(name) {
            Some(Sent::Json(json)) if json.get() == "null" => {
                self.errors.add(name, NULL);
                return None;
            }
            Some(Sent::Json(json)) => Self::from_value(json),
            // A form's own way to write an object.
            _ => {
                let is_within =
                    |whole: &String| whole.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
                let is_of_form = |sent: &Sent| !matches!(sent, Sent::Json(_));
                let values = self.values.iter().filter(|(whole, sent)| is_of_form(sent) && is_within(whole));
                let values: HashMap<_, _> =
                    values.map(|(whole, sent)| (whole[name.len() + 1..].to_owned(), sent.clone())).collect();
                if values.is_empty() {
                    return None;
                }
                Ok(Self { values, errors: FieldErrors::default() })
            }
        };
        match within {
            Ok(mut fields) => {
                let result = read(&mut fields);
                self.errors.add_nested(name, fields.errors);
                Some(result)
            }
            Err(errors) => {
                self.errors.add_nested(name, errors);
                None
            }
        }
    }

    /// Adds a message about a field that the handler found wrong.
    pub(crate) fn error(&mut self, name: &str, message: impl Into<String>) {
        self.errors.add(name, message);
    }

    /// Adds a message about a field of an object within.
    pub(crate) fn error_within(&mut self, outer: &str, name: &str, message: impl Into<String>) {
        let mut errors = FieldErrors::default();
        errors.add(name, message);
        self.errors.add_nested(outer, errors);
    }

    /// Adds a message about several fields together.
    pub(crate) fn non_field_error(&mut self, message: impl Into<String>) {
        self.errors.add(FieldErrors::NON_FIELD, message);
    }

    /// Whether no field was refused so far.
    pub(crate) fn are_good(&self) -> bool {
        self.errors.is_empty()
    }

    /// Whether this field was refused already.
    pub(crate) fn refused(&self, name: &str) -> bool {
        self.errors.concern(name)
    }

    /// The error to answer with if any field was refused. Nothing that was read may be used before.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        self.errors.into_result()
    }

    /// What was refused, for a form to show. Nothing that was read may be used unless it is empty.
    pub(crate) fn into_errors(self) -> FieldErrors {
        self.errors
    }

    /// [`Fields::finish`] for a value of a type that has no placeholder: an id, a choice.
    pub(crate) fn finish_with<T>(self, value: Option<T>) -> Result<T, ApiError> {
        self.finish()?;
        // Required and without a message, so it is there.
        value.ok_or_else(ApiError::internal)
    }

    fn field<R>(&mut self, name: &'static str, rule: R) -> Field<'_, R> {
        Field { fields: self, name, rule }
    }
}

/// The message about an id of nothing that the caller may name.
pub(crate) fn no_such_object(id: impl fmt::Display) -> String {
    format!("Invalid pk \"{id}\" - object does not exist.")
}

/// Any JSON whose every text and number can be read: what `serde_json` skips it does not look into, and it would let
/// half a surrogate pair pass, or a hundred thousand brackets.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(Self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(Self)
    }
}

/// A value as it was sent.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// Its digits, as written.
    Number(&'a str),
    Text(Cow<'a, str>),
    List,
    /// Its JSON.
    Object(&'a str),
    /// Of a form.
    File(&'a Upload),
}

impl<'a> Value<'a> {
    /// Sorts the text of one valid JSON value.
    fn of(json: &'a str) -> Self {
        match json.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => Self::Text(match json[1..].strip_suffix('"') {
                Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
                // The whole body was found sound.
                _ => Cow::Owned(serde_json::from_str(json).unwrap_or_default()),
            }),
            Some(b'[') => Self::List,
            Some(b'{') => Self::Object(json),
            _ => Self::Number(json),
        }
    }

    /// The name of its type in the messages that Python clients know.
    fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "NoneType",
            Self::Bool(_) => "bool",
            Self::Number(digits) if digits.contains(['.', 'e', 'E']) => "float",
            Self::Number(_) => "int",
            Self::Text(_) => "str",
            Self::List => "list",
            Self::Object(_) => "dict",
            Self::File(_) => "InMemoryUploadedFile",
        }
    }

    /// The text of a string or a number: what fields accept that take either.
    fn digits(&self) -> Option<&str> {
        match self {
            Self::Number(digits) => Some(digits),
            Self::Text(text) => Some(text.trim()),
            _ => None,
        }
    }
}

/// What a kind of field accepts.
pub(crate) trait Rule {
    /// What a good value becomes.
    type Output;
    /// The value, or what is wrong with it. Never called with null.
    fn read(&self, value: Value<'_>) -> Result<Self::Output, Vec<String>>;
    /// The same for the text of a form, which has no other types.
    fn read_form(&self, text: &str) -> Result<Self::Output, Vec<String>> {
        self.read(Value::Text(Cow::Borrowed(text)))
    }
}

/// A field that was asked for; its last method says whether it may be left out.
#[derive(Debug)]
#[must_use = "nothing is checked until it is said whether the field may be left out"]
pub(crate) struct Field<'f, R> {
    fields: &'f mut Fields,
    name: &'static str,
    rule: R,
}

enum Found<T> {
    Missing,
    Null,
    /// A form's empty text that is no good value, and what is wrong with it.
    Empty(Vec<String>),
    Refused,
    Good(T),
}

impl<R: Rule> Field<'_, R> {
    fn find(&mut self) -> Found<R::Output> {
        let Some(sent) = self.fields.values.get(self.name) else { return Found::Missing };
        let (read, is_empty) = match sent {
            Sent::Text(text) => (self.rule.read_form(text), text.trim().is_empty()),
            sent => match sent.value() {
                Value::Null => return Found::Null,
                value => (self.rule.read(value), false),
            },
        };
        match read {
            Ok(good) => Found::Good(good),
            Err(messages) if is_empty => Found::Empty(messages),
            Err(messages) => self.refuse(messages),
        }
    }

    fn refuse(&mut self, messages: Vec<String>) -> Found<R::Output> {
        for message in messages {
            self.fields.errors.add(self.name, message);
        }
        Found::Refused
    }

    /// It must be there. If it is not good, a placeholder stands in for it until [`Fields::finish`].
    pub(crate) fn required(self) -> R::Output
    where
        R::Output: Default,
    {
        self.required_if(true).unwrap_or_default()
    }

    /// It may be left out: None.
    pub(crate) fn optional(mut self) -> Option<R::Output> {
        match self.find() {
            Found::Good(value) => Some(value),
            Found::Missing | Found::Refused | Found::Empty(_) => None,
            Found::Null => {
                self.fields.errors.add(self.name, NULL);
                None
            }
        }
    }

    /// It may be left out: this value.
    pub(crate) fn or(self, default: R::Output) -> R::Output {
        self.optional().unwrap_or(default)
    }

    /// It must be there if so said, as in a PUT; may be left out of a PATCH: None. What is refused is None as well.
    pub(crate) fn required_if(mut self, required: bool) -> Option<R::Output> {
        let message = match self.find() {
            Found::Good(value) => return Some(value),
            Found::Refused => return None,
            Found::Empty(messages) => {
                self.refuse(messages);
                return None;
            }
            Found::Missing if !required => return None,
            Found::Missing => REQUIRED,
            Found::Null => NULL,
        };
        self.fields.errors.add(self.name, message);
        None
    }

    /// It may be left out (None) or null (Some(None)).
    pub(crate) fn nullable(mut self) -> Option<Option<R::Output>> {
        match self.find() {
            Found::Good(value) => Some(Some(value)),
            Found::Null | Found::Empty(_) => Some(None),
            Found::Missing | Found::Refused => None,
        }
    }
}

#[cfg(test)]
mod tests;
