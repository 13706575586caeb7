//! An answer of the server, with the questions that tests ask of it. Every assertion that fails prints what
//! was asked and what came, so that the test's output is enough to see the bug.

use std::fmt;
use std::ops::Index;

use reqwest::header::HeaderMap;
use serde_json::Value;

#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    /// Null when the body is no JSON.
    pub(crate) json: Value,
    asked: String,
}

impl Answer {
    pub(super) async fn read(asked: String, response: reqwest::Response) -> reqwest::Result<Self> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = response.bytes().await?.to_vec();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Self { status, headers, bytes, json, asked })
    }

    /// Asserts the status and gives the answer back, to go on with.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "the answer should be a {status}\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let Some(value) = self.headers.get(name) else { panic!("there is no header {name}\n{self}") };
        value.to_str().expect("a header of visible characters")
    }

    #[track_caller]
    pub(crate) fn id(&self) -> i64 {
        match self.json["id"].as_i64() {
            Some(id) if id > 0 => id,
            _ => panic!("`id` should be a positive integer\n{self}"),
        }
    }

    #[track_caller]
    pub(crate) fn text(&self, field: &str) -> &str {
        match self.json[field].as_str() {
            Some(text) => text,
            None => panic!("`{field}` should be a string\n{self}"),
        }
    }

    /// The body of an answer that is no JSON.
    pub(crate) fn plain(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The rows of a page.
    #[track_caller]
    pub(crate) fn results(&self) -> &Vec<Value> {
        match self.json["results"].as_array() {
            Some(rows) => rows,
            None => panic!("this should be a page with `results`\n{self}"),
        }
    }

    /// One column of a page, as text without quotes.
    #[track_caller]
    pub(crate) fn column(&self, field: &str) -> Vec<String> {
        self.results()
            .iter()
            .map(|row| match &row[field] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect()
    }

    #[track_caller]
    pub(crate) fn count(&self) -> i64 {
        match self.json["count"].as_i64() {
            Some(count) => count,
            None => panic!("this should be a page with a `count`\n{self}"),
        }
    }

    #[track_caller]
    pub(crate) fn has_detail(self, detail: &str) -> Self {
        assert_eq!(self.json["detail"], detail, "the detail differs\n{self}");
        self
    }

    /// Asserts a 400 that names this field with a list of messages.
    #[track_caller]
    pub(crate) fn refuses(self, field: &str) -> Self {
        let answer = self.is(400);
        answer.messages(field);
        answer.refused_properly()
    }

    /// Asserts a 400 that has exactly this message among those on the field.
    #[track_caller]
    pub(crate) fn refuses_with(self, field: &str, message: &str) -> Self {
        let answer = self.refuses(field);
        assert!(
            answer.messages(field).iter().any(|found| found == message),
            "`{field}` should say {message:?}\n{answer}"
        );
        answer
    }

    /// The fields that a 400 names, in order of the alphabet.
    #[track_caller]
    pub(crate) fn refused_fields(&self) -> Vec<String> {
        let Some(fields) = self.json.as_object() else { panic!("this should name fields\n{self}") };
        let mut names: Vec<String> = fields.keys().cloned().collect();
        names.sort();
        names
    }

    #[track_caller]
    pub(crate) fn messages(&self, field: &str) -> Vec<String> {
        let found: Option<Vec<String>> = self.json[field].as_array().map(|messages| {
            messages.iter().filter_map(|message| message.as_str().map(str::to_owned)).collect()
        });
        match found {
            Some(messages) if !messages.is_empty() => messages,
            _ => panic!("`{field}` should have a list of messages\n{self}"),
        }
    }

    /// Asserts the shape that the contract gives every error: JSON, and either `detail` or lists of messages
    /// by field.
    #[track_caller]
    pub(crate) fn refused_properly(self) -> Self {
        assert!((400..500).contains(&self.status), "this should be a refusal\n{self}");
        let Some(fields) = self.json.as_object() else { panic!("an error should be a JSON object\n{self}") };
        assert!(!fields.is_empty(), "an error should say something\n{self}");
        if fields.contains_key("detail") && fields["detail"].is_string() {
            return self;
        }
        for (field, messages) in fields {
            assert!(well_formed(messages), "`{field}` should have a list of messages\n{self}");
        }
        self
    }
}

/// A list of texts; or, for a nested object such as `profile`, such lists by its fields, as DRF nests them.
fn well_formed(messages: &Value) -> bool {
    match messages {
        Value::Array(list) => !list.is_empty() && list.iter().all(Value::is_string),
        Value::Object(fields) => !fields.is_empty() && fields.values().all(well_formed),
        _ => false,
    }
}

impl Index<&str> for Answer {
    type Output = Value;

    fn index(&self, field: &str) -> &Value {
        &self.json[field]
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes);
        let text: String = text.chars().take(4_000).collect();
        writeln!(out, "asked:    {}", self.asked)?;
        writeln!(out, "answered: {}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(out, "          {name}: {value:?}")?;
        }
        write!(out, "          {text}")
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
