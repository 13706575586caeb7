//! What each kind of field accepts, and what it says to the rest.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::str::FromStr;

use chrono::NaiveDate;
use serde_json::value::RawValue;
use souk_store::model::{Money, NotAnId, NotMoney};

use super::{Field, Rule, Value, no_such_object};
use crate::media::Upload;

#[derive(Debug)]
pub(crate) struct Text {
    max: usize,
    blank: bool,
    trim: bool,
}

impl Default for Text {
    fn default() -> Self {
        Self { max: usize::MAX, blank: false, trim: true }
    }
}

impl Field<'_, Text> {
    /// At most this many characters.
    pub(crate) fn max(mut self, characters: usize) -> Self {
        self.rule.max = characters;
        self
    }

    /// It may be empty.
    pub(crate) fn blank(mut self) -> Self {
        self.rule.blank = true;
        self
    }

    /// Blanks at its ends belong to it, as in a password.
    pub(crate) fn untrimmed(mut self) -> Self {
        self.rule.trim = false;
        self
    }
}

impl Rule for Text {
    type Output = String;

    fn read(&self, value: Value<'_>) -> Result<String, Vec<String>> {
        let text = match value {
            Value::Text(text) => text,
            Value::Number(digits) => Cow::Borrowed(digits),
            _ => return Err(vec!["Not a valid string.".to_owned()]),
        };
        let text = if self.trim { text.trim() } else { &text };
        if text.trim().is_empty() {
            let blank = || vec!["This field may not be blank.".to_owned()];
            return if self.blank { Ok(String::new()) } else { Err(blank()) };
        }
        let mut messages = Vec::new();
        if text.chars().count() > self.max {
            messages.push(format!("Ensure this field has no more than {} characters.", self.max));
        }
        if text.contains('\0') {
            messages.push(NULL_CHARACTER.to_owned());
        }
        if messages.is_empty() { Ok(text.to_owned()) } else { Err(messages) }
    }
}

/// The message about a NUL, which Postgres cannot store in text.
pub(crate) const NULL_CHARACTER: &str = "Null characters are not allowed.";

#[derive(Debug)]
pub(crate) struct Integer {
    min: i64,
    max: i64,
}

impl Default for Integer {
    fn default() -> Self {
        Self { min: i64::MIN, max: i64::MAX }
    }
}

impl Field<'_, Integer> {
    /// At least this.
    pub(crate) fn min(mut self, least: i64) -> Self {
        self.rule.min = least;
        self
    }

    /// At most this.
    pub(crate) fn max(mut self, most: i64) -> Self {
        self.rule.max = most;
        self
    }
}

impl Rule for Integer {
    type Output = i64;

    fn read(&self, value: Value<'_>) -> Result<i64, Vec<String>> {
        let Some(number) = value.digits().and_then(whole_number) else {
            return Err(vec!["A valid integer is required.".to_owned()]);
        };
        if number < i128::from(self.min) {
            return Err(vec![format!("Ensure this value is greater than or equal to {}.", self.min)]);
        }
        match i64::try_from(number) {
            Ok(number) if number <= self.max => Ok(number),
            _ => Err(vec![format!("Ensure this value is less than or equal to {}.", self.max)]),
        }
    }
}

/// Reads `3`, `-3`, `+3` and `3.0`; what has more digits than any limit needs becomes very large instead of wrong.
fn whole_number(text: &str) -> Option<i128> {
    let text = text.split_once('.').map_or(text, |(whole, places)| {
        if !places.is_empty() && places.bytes().all(|place| place == b'0') { whole } else { "" }
    });
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().unwrap_or(i128::MAX);
    Some(if negative { -number } else { number })
}

#[derive(Debug)]
pub(crate) struct Boolean;

impl Rule for Boolean {
    type Output = bool;

    fn read(&self, value: Value<'_>) -> Result<bool, Vec<String>> {
        let read = match value {
            Value::Bool(value) => Some(value),
            Value::Number(text) => flag(text),
            Value::Text(text) => flag(&text),
            _ => None,
        };
        read.ok_or_else(|| vec!["Must be a valid boolean.".to_owned()])
    }
}

/// The spellings of true and false that Django REST Framework takes.
fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "1.0" | "t" | "T" | "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on"
        | "On" | "ON" => Some(true),
        "0" | "0.0" | "f" | "F" | "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off"
        | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

#[derive(Debug)]
pub(crate) struct Price;

impl Rule for Price {
    type Output = Money;

    fn read(&self, value: Value<'_>) -> Result<Money, Vec<String>> {
        let read = value.digits().map_or(Err(NotMoney::NotANumber), str::parse);
        read.map_err(|reason| vec![reason.to_string()])
    }
}

#[derive(Debug)]
pub(crate) struct Date;

impl Rule for Date {
    type Output = NaiveDate;

    fn read(&self, value: Value<'_>) -> Result<NaiveDate, Vec<String>> {
        let text = if let Value::Text(text) = value { text } else { Cow::Borrowed("") };
        date(&text).ok_or_else(|| {
            vec!["Date has wrong format. Use one of these formats instead: YYYY-MM-DD.".to_owned()]
        })
    }
}

/// Reads `YYYY-MM-DD` and nothing that chrono would take besides.
fn date(text: &str) -> Option<NaiveDate> {
    let shape_holds = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if shape_holds && !text.starts_with("0000") { text.parse().ok() } else { None }
}

#[derive(Debug)]
pub(crate) struct Id<T>(PhantomData<T>);

impl<T> Default for Id<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromStr<Err = NotAnId>> Rule for Id<T> {
    type Output = T;

    fn read(&self, value: Value<'_>) -> Result<T, Vec<String>> {
        let Some(number) = value.digits().and_then(whole_number) else {
            let found = value.type_name();
            return Err(vec![format!("Incorrect type. Expected pk value, received {found}.")]);
        };
        // A number that is no id is one that nothing has.
        number.to_string().parse().map_err(|_| vec![no_such_object(number)])
    }
}

#[derive(Debug)]
pub(crate) struct Choice<T>(PhantomData<T>);

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromStr> Rule for Choice<T> {
    type Output = T;

    fn read(&self, value: Value<'_>) -> Result<T, Vec<String>> {
        let shown: &str = match &value {
            Value::Text(text) => text,
            Value::Number(digits) => digits,
            other => other.type_name(),
        };
        shown.parse().map_err(|_| vec![format!("\"{shown}\" is not a valid choice.")])
    }
}

#[derive(Debug)]
pub(crate) struct Object {
    max_bytes: usize,
}

impl Object {
    pub(crate) fn of_at_most(max_bytes: usize) -> Self {
        Self { max_bytes }
    }
}

impl Rule for Object {
    type Output = String;

    fn read(&self, value: Value<'_>) -> Result<String, Vec<String>> {
        let Value::Object(json) = value else {
            let found = value.type_name();
            return Err(vec![format!("Expected a dictionary of items but got type \"{found}\".")]);
        };
        // Written anew: blanks go, of repeated keys the last stays, and what is no Unicode is refused.
        let Ok(json) = serde_json::from_str::<serde_json::Value>(json) else {
            return Err(vec![NOT_JSON.to_owned()]);
        };
        let text = json.to_string();
        if text.len() > self.max_bytes {
            return Err(vec![format!("Ensure this field has no more than {} bytes.", self.max_bytes)]);
        }
        if text.contains("\\u0000") {
            return Err(vec![NULL_CHARACTER.to_owned()]);
        }
        Ok(text)
    }
    /// In a form it is written as the text of its JSON.
    fn read_form(&self, text: &str) -> Result<String, Vec<String>> {
        match serde_json::from_str::<&RawValue>(text) {
            Ok(json) => self.read(Value::of(json.get())),
            Err(_) => Err(vec![NOT_JSON.to_owned()]),
        }
    }
}

const NOT_JSON: &str = "Value must be valid JSON.";

#[derive(Debug)]
pub(crate) struct Image;

impl Rule for Image {
    type Output = Upload;

    fn read(&self, value: Value<'_>) -> Result<Upload, Vec<String>> {
        match value {
            Value::File(upload) if upload.bytes.is_empty() => {
                Err(vec!["The submitted file is empty.".to_owned()])
            }
            Value::File(upload) => Ok(upload.clone()),
            _ => Err(vec![
                "The submitted data was not a file. Check the encoding type on the form.".to_owned(),
            ]),
        }
    }
}
