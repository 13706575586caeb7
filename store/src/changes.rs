//! Who changed what, and when: one row for each change that an admin makes on the administration site.
//!
//! Whoever writes takes an optional [`Author`] and, if there is one, notes the change in its own transaction: no change
//! without its row, no row without its change. Rows are only added. Passwords never come near them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::bulk::{Bulk, BulkConnection, Column, Job, Kind as Type, bulk};
use crate::db::{Db, StoreError};
use crate::model::{Category, Product, Timestamp, User, UserId};
use crate::sql::{Sql, fetch, fetch_count};

/// An admin, as the history remembers one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Who it was.
    pub id: UserId,
    /// The address at that time.
    pub email: String,
}

impl From<&User> for Author {
    fn from(user: &User) -> Self {
        Self { id: user.id, email: user.email.clone() }
    }
}

/// What kind of object was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Kind {
    /// A product, its stock included.
    Product,
    /// A category.
    Category,
    /// An order.
    Order,
    /// An account.
    User,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Product, Self::Category, Self::Order, Self::User];

    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Category => "category",
            Self::Order => "order",
            Self::User => "user",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// What was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Created,
    /// Some of its fields differ.
    Changed,
    /// It is gone.
    Deleted,
}

impl Action {
    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
}

/// A row of the history.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields are said by the table")]
pub struct Change {
    pub id: i64,
    pub admin_id: UserId,
    pub admin_email: String,
    pub at: Timestamp,
    pub kind: Kind,
    pub object_id: i64,
    pub label: String,
    pub action: Action,
    /// JSON: fields with the value before and the value after.
    pub fields: String,
}

/// Which changes to list, newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChangeFilter {
    /// Those made by this admin.
    pub admin: Option<UserId>,
    /// Those of objects of this kind.
    pub kind: Option<Kind>,
    /// Those of the object with this id.
    pub object: Option<i64>,
}

/// A change about to be noted.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) object_id: i64,
    pub(crate) label: String,
    pub(crate) action: Action,
    pub(crate) fields: Fields,
}

/// Fields with the value before and the value after; only those that differ.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// A field whose value was `before` and is `after`.
    pub(crate) fn differ<T: Serialize + PartialEq>(mut self, name: &str, before: &T, after: &T) -> Self {
        if before != after {
            self.0.insert(name.to_owned(), json!([before, after]));
        }
        self
    }

    /// A field that had no value before.
    pub(crate) fn is(mut self, name: &str, value: &impl Serialize) -> Self {
        self.0.insert(name.to_owned(), json!([null, value]));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What differs between two states of a product, its level aside.
    pub(crate) fn of_products(before: &Product, after: &Product) -> Self {
        Self::default()
            .differ("name", &before.name, &after.name)
            .differ("description", &before.description, &after.description)
            .differ("price", &before.price, &after.price)
            .differ("category", &before.category_name, &after.category_name)
            .differ("sku", &before.sku, &after.sku)
            .differ("featured", &before.featured, &after.featured)
            .differ("is_active", &before.is_active, &after.is_active)
            .differ("image", &before.image, &after.image)
    }

    /// What differs between two states of a category.
    pub(crate) fn of_categories(before: &Category, after: &Category) -> Self {
        Self::default()
            .differ("name", &before.name, &after.name)
            .differ("description", &before.description, &after.description)
            .differ("is_active", &before.is_active, &after.is_active)
            .differ("image", &before.image, &after.image)
    }
}

const INSERT: Bulk = bulk(
    "insert into admin_changes (object_id, kind, label, action, fields, admin_id, admin_email, at) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8 from {rows}",
    &[Type::Int, Type::Text, Type::Text, Type::Text, Type::Text, Type::Int, Type::Text, Type::Time],
);

/// Every statement over many rows of this file, for the test that prepares them.
#[cfg(test)]
pub(crate) const BULKS: &[&Bulk] = &[&INSERT];

/// The statement that notes these changes.
pub(crate) fn job(now: Timestamp, drafts: &[(Author, Draft)]) -> Job {
    let columns = vec![
        Column::ints(drafts.iter().map(|(_, draft)| draft.object_id)),
        Column::texts(drafts.iter().map(|(_, draft)| draft.kind.as_str())),
        Column::texts(drafts.iter().map(|(_, draft)| draft.label.as_str())),
        Column::texts(drafts.iter().map(|(_, draft)| draft.action.as_str())),
        Column::texts(drafts.iter().map(|(_, draft)| Value::Object(draft.fields.0.clone()).to_string())),
        Column::ints(drafts.iter().map(|(author, _)| author.id.0)),
        Column::texts(drafts.iter().map(|(author, _)| author.email.as_str())),
        Column::SameTime(now, drafts.len()),
    ];
    (&INSERT, columns)
}

/// What a change is noted as: nothing if nobody is to be named, or if nothing differs.
pub(crate) fn drafted(by: Option<&Author>, draft: Draft) -> Option<(Author, Draft)> {
    let author = by?.clone();
    (draft.action != Action::Changed || !draft.fields.is_empty()).then_some((author, draft))
}

/// Notes a change in the transaction that makes it. One that changes nothing is none.
pub(crate) async fn note<C: BulkConnection>(
    tx: &mut C,
    by: Option<&Author>,
    now: Timestamp,
    draft: Draft,
) -> Result<(), StoreError> {
    if let Some(drafted) = drafted(by, draft) {
        let (statement, columns) = job(now, &[drafted]);
        tx.run_rows(statement, &columns).await?;
    }
    Ok(())
}

/// Some of the changes that pass the filter, newest first, and how many do.
///
/// # Errors
/// If the database does not answer.
pub async fn list(
    db: &Db,
    filter: &ChangeFilter,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Change>, i64), StoreError> {
    let mut sql = Sql::default();
    conditions(sql.select("select count(*) from admin_changes"), filter);
    let count = fetch_count(db, sql).await?;
    if count <= offset {
        return Ok((Vec::new(), count));
    }
    Ok((page(db, filter, limit, offset).await?, count))
}

/// As [`list`], without counting.
///
/// # Errors
/// If the database does not answer.
pub async fn page(
    db: &Db,
    filter: &ChangeFilter,
    limit: i64,
    offset: i64,
) -> Result<Vec<Change>, StoreError> {
    let mut sql = Sql::default();
    sql.select(
        "select id, admin_id, admin_email, at, kind, object_id, label, action, fields from admin_changes",
    );
    conditions(&mut sql, filter);
    sql.add(" order by id desc").part(limit, offset);
    fetch(db, sql).await
}

fn conditions(sql: &mut Sql, filter: &ChangeFilter) {
    if let Some(admin) = filter.admin {
        sql.condition("admin_id = ").bind(admin.0);
    }
    if let Some(kind) = filter.kind {
        sql.condition("kind = ").bind(kind.as_str());
    }
    if let Some(object) = filter.object {
        sql.condition("object_id = ").bind(object);
    }
}
