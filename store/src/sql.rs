//! Statements that are put together as they are asked for: lists that are filtered and ordered.
//!
//! Only static text and bound values can be added to one, so nothing that anybody typed becomes part of a statement. What a
//! list is filtered by is said by the file of its subject.

use sqlx::AssertSqlSafe;

use crate::bulk::FromAnyRow;
use crate::db::{Db, StoreError, read};
use crate::model::Timestamp;

/// The most values in a statement that is kept prepared: a few words with all filters.
const KEPT_ARGUMENTS: usize = 12;

/// A statement in the making.
#[derive(Debug, Default)]
pub(crate) struct Sql {
    text: String,
    arguments: Vec<Argument>,
    conditions: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Argument {
    Int(i64),
    Text(String),
    Time(Timestamp),
}

impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<String> for Argument {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Argument {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Timestamp> for Argument {
    fn from(value: Timestamp) -> Self {
        Self::Time(value)
    }
}

impl Sql {
    pub(crate) fn add(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub(crate) fn bind(&mut self, value: impl Into<Argument>) -> &mut Self {
        self.arguments.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.arguments.len().to_string());
        self
    }

    /// `where` before the first condition of a select, `and` before the others.
    pub(crate) fn condition(&mut self, text: &'static str) -> &mut Self {
        self.add(if self.conditions == 0 { " where " } else { " and " });
        self.conditions += 1;
        self.add(text)
    }

    /// Begins a select, which has conditions of its own.
    pub(crate) fn select(&mut self, text: &'static str) -> &mut Self {
        self.conditions = 0;
        self.add(text)
    }

    /// Ends a list with the part of it that is wanted.
    pub(crate) fn part(&mut self, limit: i64, offset: i64) -> &mut Self {
        self.add(" limit ").bind(limit).add(" offset ").bind(offset)
    }
}

/// The rows that a statement finds.
pub(crate) async fn fetch<T: FromAnyRow>(db: &Db, sql: Sql) -> Result<Vec<T>, StoreError> {
    let Sql { text, arguments, .. } = sql;
    Ok(read!(db, pool => {
        // A search for many words has a text of its own, which is not worth keeping on every connection.
        let mut query =
            sqlx::query_as::<_, T>(AssertSqlSafe(text)).persistent(arguments.len() <= KEPT_ARGUMENTS);
        for argument in arguments {
            query = match argument {
                Argument::Int(value) => query.bind(value),
                Argument::Text(value) => query.bind(value),
                Argument::Time(value) => query.bind(value),
            };
        }
        query.fetch_all(pool).await
    })?)
}

/// What a `select count(*)` counts.
pub(crate) async fn fetch_count(db: &Db, sql: Sql) -> Result<i64, StoreError> {
    Ok(fetch::<(i64,)>(db, sql).await?.pop().map_or(0, |(count,)| count))
}
