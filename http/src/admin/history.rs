//! The history: who changed what and when, of one object or of all.

use askama::Template;
use salvo::{Depot, Request};
use serde_json::Value;
use souk_store::accounts;
use souk_store::changes::{self, Change, ChangeFilter, Kind};

use super::form::Sheet;
use super::list::{Choice, Pager, Paging, filters};
use super::page::{Layout, Page};
use super::session::staff;
use super::view::{count, shortened, when};
use crate::Api;
use crate::error::ApiError;
use crate::extract::api;

/// How many changes an object's own page shows.
const OF_ONE: i64 = 20;

/// The most characters of a value that are shown.
const LONGEST_VALUE: usize = 200;

/// A change, as it is shown.
pub(super) struct Entry {
    pub(super) change: Change,
    pub(super) fields: Vec<Field>,
}

/// A field that was changed.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) before: String,
    pub(super) after: String,
}

impl Entry {
    /// Where the object is, if it still has a page.
    pub(super) fn path(&self) -> String {
        format!("/admin/{}/{}/", part(self.change.kind).0, self.change.object_id)
    }
}

/// The part of the site with the objects of a kind: its path and its name.
fn part(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Product => ("products", "Products"),
        Kind::Category => ("categories", "Categories"),
        Kind::Order => ("orders", "Orders"),
        Kind::User => ("users", "Users"),
    }
}

impl From<Change> for Entry {
    fn from(change: Change) -> Self {
        let fields: serde_json::Map<String, Value> = serde_json::from_str(&change.fields).unwrap_or_default();
        let fields = fields.into_iter().map(|(name, values)| Field {
            name: name.trim_start_matches("is_").replace('_', " "),
            before: shown(&values[0]),
            after: shown(&values[1]),
        });
        Self { fields: fields.collect(), change }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "(empty)".to_owned(),
        Value::String(text) => shortened(text, LONGEST_VALUE),
        other => other.to_string(),
    }
}

/// The latest changes of one object.
pub(super) async fn of(api: &Api, kind: Kind, object: i64) -> Result<Vec<Entry>, ApiError> {
    let filter = ChangeFilter { admin: None, kind: Some(kind), object: Some(object) };
    let changes = changes::page(&api.db, &filter, OF_ONE, 0).await?;
    Ok(changes.into_iter().map(Entry::from).collect())
}

#[derive(Template)]
#[template(path = "admin/history.html")]
struct HistoryPage {
    layout: Layout,
    sheet: Sheet,
    kinds: Vec<Choice>,
    changes: Vec<Entry>,
    is_filtered: bool,
    pager: Pager,
}

pub(super) async fn list(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let api = api(depot);
    let form = filters(req);
    let mut fields = form.fields();
    let kind = fields.choice::<Kind>("kind").optional();
    let admin = match fields.text("admin").max(accounts::LONGEST_EMAIL).optional() {
        Some(email) => {
            let found = accounts::find_by_email(&api.db, &email).await?.map(|found| found.user.id);
            if found.is_none() {
                fields.error("admin", "There is no account with this email address.");
            }
            found
        }
        None => None,
    };
    let sheet = Sheet::refused(form, fields.into_errors());
    let paging = Paging::of(req);
    let filter = ChangeFilter { admin, kind, object: None };
    let (found, total) = changes::list(&api.db, &filter, paging.limit(), paging.offset()).await?;
    if let Some(elsewhere) = paging.beyond(req, total) {
        return Ok(elsewhere);
    }
    let mut kinds = vec![Choice::new("", "Everything")];
    kinds.extend(Kind::ALL.map(|kind| Choice::new(kind.as_str(), part(kind).1)));
    Page::ok(&HistoryPage {
        layout: Layout::new(staff(depot), "history", "History"),
        is_filtered: sheet.has_any(&["kind", "admin"]),
        sheet,
        kinds,
        changes: found.into_iter().map(Entry::from).collect(),
        pager: paging.pager(req, total),
    })
}
