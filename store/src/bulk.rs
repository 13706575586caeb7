//! Statements over many rows at once, for both engines in one text: what makes a batch cheap.
//!
//! In a [`Bulk`]'s text `{rows}` stands for a table `v` with the columns `column1`, `column2`, …: on SQLite a
//! multi-row `values`, on Postgres an `unnest` of arrays. Postgres gets one statement whatever the size. SQLite gets
//! powers of two of rows, so that a few dozen texts serve every size and stay prepared; what is missing to the next
//! power is filled up with rows of nulls, which `v` leaves out. So the first column never holds a null of its own.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Postgres, Sqlite, SqliteConnection};
use uuid::Uuid;

use crate::model::Timestamp;

/// The most rows of one SQLite statement; with eleven columns still far from its limit of 32,766 values.
const MOST_ROWS: usize = 512;

/// The type of a column of `{rows}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    Bytes,
    Time,
    Uuid,
}

impl Kind {
    fn postgres_array(self) -> &'static str {
        match self {
            Self::Int => "bigint[]",
            Self::Text => "text[]",
            Self::Bytes => "bytea[]",
            Self::Time => "timestamptz[]",
            Self::Uuid => "uuid[]",
        }
    }
}

/// The values of one column, a row each. All columns of a call are equally long.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Vec<u8>>),
    Time(Vec<Timestamp>),
    Uuid(Vec<Uuid>),
}

impl Column {
    pub(crate) fn ints(values: impl IntoIterator<Item = i64>) -> Self {
        Self::Int(values.into_iter().map(Some).collect())
    }

    pub(crate) fn texts(values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Text(values.into_iter().map(|text| Some(text.into())).collect())
    }

    fn len(&self) -> usize {
        match self {
            Self::Int(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Time(values) => values.len(),
            Self::Uuid(values) => values.len(),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Int(_) => Kind::Int,
            Self::Text(_) => Kind::Text,
            Self::Bytes(_) => Kind::Bytes,
            Self::Time(_) => Kind::Time,
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
}

impl Bulk {
    pub(crate) fn sqlite_text(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns.len()].join(","));
        let values = vec![row.as_str(); rows].join(",");
        self.text
            .replace("{rows}", &format!("(select * from (values {values}) where column1 is not null) as v"))
    }

    pub(crate) fn postgres_text(&self) -> String {
        let arrays: Vec<_> = self
            .columns
            .iter()
            .zip(1..)
            .map(|(kind, n)| format!("${n}::{}", kind.postgres_array()))
            .collect();
        let names: Vec<_> = (1..=self.columns.len()).map(|n| format!("column{n}")).collect();
        let rows = format!("unnest({}) as v({})", arrays.join(","), names.join(","));
        self.text.replace("{rows}", &rows) + self.lock
    }

    fn check(&self, columns: &[Column]) -> usize {
        debug_assert!(columns.iter().map(Column::kind).eq(self.columns.iter().copied()), "{}", self.text);
        let rows = columns.first().map_or(0, Column::len);
        debug_assert!(columns.iter().all(|column| column.len() == rows), "{}", self.text);
        rows
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
}

/// How `rows` rows are cut: start and length of each piece.
///
/// A statement costs far more than a row of nulls, so the last piece is not cut into ever smaller powers of two.
fn pieces(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(MOST_ROWS).map(move |start| (start, MOST_ROWS.min(rows - start)))
}

/// The number of rows of the statement for a piece of this length.
fn padded(length: usize) -> usize {
    length.next_power_of_two()
}

fn bind_sqlite(columns: &[Column], start: usize, length: usize) -> Result<SqliteArguments, sqlx::Error> {
    use sqlx::Arguments;
    let mut arguments = SqliteArguments::default();
    for row in start..start + length {
        for column in columns {
            match column {
                Column::Int(values) => arguments.add(values[row]),
                Column::Text(values) => arguments.add(values[row].clone()),
                Column::Bytes(values) => arguments.add(values[row].clone()),
                Column::Time(values) => arguments.add(values[row]),
                Column::Uuid(values) => arguments.add(values[row]),
            }
            .map_err(sqlx::Error::Encode)?;
        }
    }
    for _ in 0..(padded(length) - length) * columns.len() {
        arguments.add(None::<i64>).map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn bind_postgres(columns: &[Column]) -> Result<PgArguments, sqlx::Error> {
    use sqlx::Arguments;
    let mut arguments = PgArguments::default();
    for column in columns {
        match column {
            Column::Int(values) => arguments.add(values.as_slice()),
            Column::Text(values) => arguments.add(values.as_slice()),
            Column::Bytes(values) => arguments.add(values.as_slice()),
            Column::Time(values) => arguments.add(values.as_slice()),
            Column::Uuid(values) => arguments.add(values.as_slice()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

impl BulkConnection for SqliteConnection {
    async fn run_rows(&mut self, bulk: &Bulk, columns: &[Column]) -> Result<u64, sqlx::Error> {
        let mut touched = 0;
        for (start, length) in pieces(bulk.check(columns)) {
            let text = AssertSqlSafe(bulk.sqlite_text(padded(length)));
            let query = sqlx::query_with::<Sqlite, _>(text, bind_sqlite(columns, start, length)?);
            touched += query.execute(&mut *self).await?.rows_affected();
        }
        Ok(touched)
    }

    async fn fetch_rows<T: FromAnyRow>(
        &mut self,
        bulk: &Bulk,
        columns: &[Column],
    ) -> Result<Vec<T>, sqlx::Error> {
        let mut fetched = Vec::new();
        for (start, length) in pieces(bulk.check(columns)) {
            let text = AssertSqlSafe(bulk.sqlite_text(padded(length)));
            let query = sqlx::query_as_with::<Sqlite, T, _>(text, bind_sqlite(columns, start, length)?);
            fetched.append(&mut query.fetch_all(&mut *self).await?);
        }
        Ok(fetched)
    }
}

impl BulkConnection for PgConnection {
    async fn run_rows(&mut self, bulk: &Bulk, columns: &[Column]) -> Result<u64, sqlx::Error> {
        if bulk.check(columns) == 0 {
            return Ok(0);
        }
        let text = AssertSqlSafe(bulk.postgres_text());
        Ok(sqlx::query_with::<Postgres, _>(text, bind_postgres(columns)?)
            .execute(self)
            .await?
            .rows_affected())
    }

    async fn fetch_rows<T: FromAnyRow>(
        &mut self,
        bulk: &Bulk,
        columns: &[Column],
    ) -> Result<Vec<T>, sqlx::Error> {
        if bulk.check(columns) == 0 {
            return Ok(Vec::new());
        }
        let text = AssertSqlSafe(bulk.postgres_text());
        sqlx::query_as_with::<Postgres, T, _>(text, bind_postgres(columns)?).fetch_all(self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_without_gap_or_overlap_and_filled_up_to_powers_of_two() {
        for rows in [0, 1, 2, 3, 63, 64, 511, 512, 513, 1024, 1500] {
            let mut next = 0;
            for (start, length) in pieces(rows) {
                assert_eq!(start, next);
                assert!((length..=MOST_ROWS).contains(&padded(length)) && padded(length).is_power_of_two());
                next += length;
            }
            assert_eq!(next, rows);
        }
    }

    #[test]
    fn one_text_serves_both_engines() {
        let bulk = Bulk {
            text: "update t set a = v.column2 from {rows} where t.id = v.column1",
            columns: &[Kind::Int, Kind::Text],
            lock: "",
        };
        assert_eq!(
            bulk.sqlite_text(2),
            "update t set a = v.column2 from (select * from (values (?,?),(?,?)) where column1 is not null) as v \
             where t.id = v.column1"
        );
        assert_eq!(
            bulk.postgres_text(),
            "update t set a = v.column2 from unnest($1::bigint[],$2::text[]) as v(column1,column2) where t.id = v.column1"
        );
    }
}
