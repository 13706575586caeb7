//! Statements over many rows at once, for both engines in one text: what makes a batch cheap.
//!
//! In a [`Bulk`]'s text `{rows}` stands for a table `v` with the columns `column1`, `column2`, …: on SQLite a
//! multi-row `values`, on Postgres an `unnest` of arrays. The first column never holds a null of its own.
//!
//! What a statement costs beside its work is the way there and back: a round trip to Postgres, two switches between
//! threads on SQLite, and one more for each row that comes back. So a batch asks and writes in a few calls of
//! [`BulkConnection::look_up`] and [`BulkConnection::run_all`], which are one statement each on Postgres and one text each
//! on SQLite, up to 128 rows there. What a look-up finds comes as JSON, in one row: its text says `{row: a, b}` where its
//! columns stand.

mod postgres;
mod sqlite;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::model::Timestamp;

/// The type of a column of `{rows}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    Bytes,
    Time,
    Uuid,
}

/// The values of one column, a row each. All columns of a call are equally long.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<Arc<str>>>),
    Bytes(Vec<Vec<u8>>),
    Time(Vec<Timestamp>),
    /// The same time in so many rows.
    SameTime(Timestamp, usize),
    Uuid(Vec<Uuid>),
}

impl Column {
    pub(crate) fn ints(values: impl IntoIterator<Item = i64>) -> Self {
        Self::Int(values.into_iter().map(Some).collect())
    }

    pub(crate) fn texts(values: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        Self::Text(values.into_iter().map(|text| Some(text.into())).collect())
    }

    fn len(&self) -> usize {
        match self {
            Self::Int(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Time(values) => values.len(),
            Self::SameTime(_, rows) => *rows,
            Self::Uuid(values) => values.len(),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Int(_) => Kind::Int,
            Self::Text(_) => Kind::Text,
            Self::Bytes(_) => Kind::Bytes,
            Self::Time(_) | Self::SameTime(..) => Kind::Time,
            Self::Uuid(_) => Kind::Uuid,
        }
    }
}

/// A statement over many rows.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) text: &'static str,
    pub(crate) columns: &'static [Kind],
    /// Ends the text on Postgres alone: how it locks rows. SQLite has one writer.
    pub(crate) lock: &'static str,
    /// A look-up without a lock of its own that must see what was committed by the time the locks before it were had.
    pub(crate) after_locks: bool,
    /// A look-up of which nobody reads what it finds: SQLite, which locks nothing, is not asked.
    pub(crate) only_locks: bool,
}

/// A statement that locks nothing, or nothing that needs an order.
pub(crate) const fn bulk(text: &'static str, columns: &'static [Kind]) -> Bulk {
    Bulk { text, columns, lock: "", after_locks: false, only_locks: false }
}

/// A statement with its rows; without any it is left out.
pub(crate) type Job = (&'static Bulk, Vec<Column>);

impl Bulk {
    /// The same, ended like this on Postgres.
    pub(crate) const fn ending(mut self, lock: &'static str) -> Self {
        self.lock = lock;
        self
    }

    /// The same, seeing what was committed by the time the locks before it were had.
    pub(crate) const fn after_locks(mut self) -> Self {
        self.after_locks = true;
        self
    }

    /// The same, of which nothing is wanted but its locks; it finds nothing on SQLite.
    pub(crate) const fn only_locks(mut self) -> Self {
        self.only_locks = true;
        self
    }

    /// The text with `rows` in the place of `{rows}`, and a look-up's columns between the two halves of `row`.
    fn expand(&self, rows: &str, row: [&str; 2]) -> String {
        let text = self.text.replace("{rows}", rows);
        match text.split_once("{row: ").map(|(before, rest)| (before, rest.split_once('}'))) {
            Some((before, Some((columns, after)))) => [before, row[0], columns, row[1], after].concat(),
            _ => text,
        }
    }

    fn check(&self, columns: &[Column]) -> usize {
        debug_assert!(columns.iter().map(Column::kind).eq(self.columns.iter().copied()), "{}", self.text);
        let rows = columns.first().map_or(0, Column::len);
        debug_assert!(columns.iter().all(|column| column.len() == rows), "{}", self.text);
        rows
    }
}

/// What a look-up found: JSON texts, each an array of rows, each an array of columns.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<String>);

impl Found {
    /// The rows. A row type is a tuple, or a struct with the columns in the order of its fields.
    pub(crate) fn rows<T: DeserializeOwned>(&self) -> Result<Vec<T>, sqlx::Error> {
        let mut rows = Vec::new();
        for text in &self.0 {
            rows.append(
                &mut serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            );
        }
        Ok(rows)
    }
}

/// A row type that either engine's rows decode into.
pub(crate) trait FromAnyRow:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}
impl<T> FromAnyRow for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// A connection that runs a [`Bulk`]; one implementation an engine. Code over it is written once.
pub(crate) trait BulkConnection: Send {
    /// Runs it for its effect and gives the number of rows it touched. No rows, no statement.
    fn run_rows(
        &mut self,
        bulk: &Bulk,
        columns: &[Column],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Runs it for the rows that it returns.
    fn fetch_rows<T: FromAnyRow>(
        &mut self,
        bulk: &Bulk,
        columns: &[Column],
    ) -> impl Future<Output = Result<Vec<T>, sqlx::Error>> + Send;

    /// Runs all for their effect. They must not need each other's: on Postgres none sees what another does.
    fn run_all(&mut self, jobs: Vec<Job>) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Asks and locks one after the other, and takes ids for new rows; an answer for each, in their order.
    ///
    /// The ids rise, and no row has or will have them. Whoever needs fewer leaves a gap.
    fn look_up<const JOBS: usize, const TABLES: usize>(
        &mut self,
        jobs: [Job; JOBS],
        ids: [NewIds; TABLES],
    ) -> impl Future<Output = Result<([Found; JOBS], [Vec<i64>; TABLES]), sqlx::Error>> + Send;
}

/// For how many new rows of which table ids are wanted.
pub(crate) type NewIds = (&'static str, usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_serves_both_engines() {
        let bulk =
            bulk("update t set a = v.column2 from {rows} where t.id = v.column1", &[Kind::Int, Kind::Text]);
        assert_eq!(
            bulk.sqlite_text(2),
            "update t set a = v.column2 from (select * from (values (?,?),(?,?)) where column1 is not null) as v \
             where t.id = v.column1"
        );
        assert_eq!(
            bulk.postgres_text(1),
            "update t set a = v.column2 from unnest($1::bigint[],$2::text[]) as v(column1,column2) where t.id = v.column1"
        );
    }

    #[test]
    fn what_a_look_up_finds_comes_as_json_from_both_engines() {
        let bulk = bulk("select {row: t.id, t.a} from {rows} join t on t.id = v.column1", &[Kind::Int])
            .ending(" for update of t");
        assert_eq!(
            bulk.sqlite_text(1),
            "select json_group_array(json_array(t.id, t.a)) \
             from (select * from (values (?)) where column1 is not null) as v join t on t.id = v.column1"
        );
        assert_eq!(
            bulk.postgres_text(3),
            "select json_build_array(t.id, t.a) as found from unnest($3::bigint[]) as v(column1) \
             join t on t.id = v.column1 for update of t"
        );
        let found = Found(vec!["[[1,\"a\"],[2,null]]".to_owned(), "[]".to_owned(), "[[3,\"c\"]]".to_owned()]);
        let rows: Vec<(i64, Option<String>)> = found.rows().unwrap();
        assert_eq!(rows, [(1, Some("a".to_owned())), (2, None), (3, Some("c".to_owned()))]);
    }
}
