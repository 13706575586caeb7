//! Statements over many rows on SQLite: multi-row `values`, several statements in one text.
//!
//! A text is prepared once and kept, so there must be few of them: the rows are filled up to a power of two with rows of
//! nulls, which `v` leaves out, and all statements of a text are given equally many, or one.

use std::sync::Arc;

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Sqlite, SqliteConnection};

use super::{Bulk, BulkConnection, Column, Found, FromAnyRow, Job, NewIds};

/// The most rows of one statement; with a dozen columns still far from SQLite's limit of 32,766 values.
const MOST_ROWS: usize = 512;
/// The most rows of each statement in a text of several. More gain little, and each such text is kept.
const MOST_ROWS_TOGETHER: usize = 128;

impl Bulk {
    pub(crate) fn sqlite_text(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns.len()].join(","));
        let values = vec![row.as_str(); rows].join(",");
        self.expand(
            &format!("(select * from (values {values}) where column1 is not null) as v"),
            ["json_group_array(json_array(", "))"],
        )
    }
}

/// How `rows` rows are cut: start and length of each piece.
///
/// A statement costs far more than a row of nulls, so the last piece is not cut into ever smaller powers of two.
fn pieces(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(MOST_ROWS).map(move |start| (start, MOST_ROWS.min(rows - start)))
}

/// One text with its values.
#[derive(Default)]
struct Script {
    text: String,
    arguments: SqliteArguments,
}

impl Script {
    fn of(bulk: &Bulk, columns: &mut [Column], piece: (usize, usize)) -> Result<Self, sqlx::Error> {
        let mut script = Self::default();
        script.add(bulk, columns, piece, piece.1.next_power_of_two())?;
        Ok(script)
    }

    /// Adds a statement over the rows of `piece`, which are taken out of the columns, filled up to `size` rows.
    fn add(
        &mut self,
        bulk: &Bulk,
        columns: &mut [Column],
        (start, length): (usize, usize),
        size: usize,
    ) -> Result<(), sqlx::Error> {
        if !self.text.is_empty() {
            self.text.push(';');
        }
        self.text.push_str(&bulk.sqlite_text(size));
        let arguments = &mut self.arguments;
        arguments.reserve(size * columns.len(), 0);
        // Most rows of a batch have one time, whose text is made once.
        let same_times: Vec<Option<Arc<str>>> = columns
            .iter()
            .map(|column| match column {
                Column::SameTime(time, _) => Some(time.as_sqlite().into()),
                _ => None,
            })
            .collect();
        for row in start..start + length {
            for (column, same_time) in columns.iter_mut().zip(&same_times) {
                match column {
                    Column::Int(values) => arguments.add(values[row]),
                    Column::Text(values) => arguments.add(values[row].take()),
                    Column::Bytes(values) => arguments.add(std::mem::take(&mut values[row])),
                    Column::Time(values) => arguments.add(values[row]),
                    Column::SameTime(..) => arguments.add(same_time.clone()),
                    Column::Uuid(values) => arguments.add(values[row]),
                }
                .map_err(sqlx::Error::Encode)?;
            }
        }
        for _ in 0..(size - length) * columns.len() {
            arguments.add(None::<i64>).map_err(sqlx::Error::Encode)?;
        }
        Ok(())
    }
}

/// The texts for `jobs`, in their order, and for each statement of them which job it is of.
fn scripts(mut jobs: Vec<Job>) -> Result<(Vec<Script>, Vec<usize>), sqlx::Error> {
    // One writer needs no locks.
    let length = |(bulk, columns): &Job| if bulk.only_locks { 0 } else { bulk.check(columns) };
    let lengths: Vec<usize> = jobs.iter().map(length).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mut scripts = Vec::new();
    let mut owners = Vec::new();
    if longest <= MOST_ROWS_TOGETHER {
        let size = longest.next_power_of_two();
        let mut script = Script::default();
        for (job, ((bulk, columns), &length)) in jobs.iter_mut().zip(&lengths).enumerate() {
            if length > 0 {
                script.add(bulk, columns, (0, length), if length == 1 { 1 } else { size })?;
                owners.push(job);
            }
        }
        if !owners.is_empty() {
            scripts.push(script);
        }
    } else {
        for (job, ((bulk, columns), &length)) in jobs.iter_mut().zip(&lengths).enumerate() {
            for piece in pieces(length) {
                scripts.push(Script::of(bulk, columns, piece)?);
                owners.push(job);
            }
        }
    }
    Ok((scripts, owners))
}

impl BulkConnection for SqliteConnection {
    async fn run_rows(&mut self, bulk: &Bulk, columns: &[Column]) -> Result<u64, sqlx::Error> {
        let mut touched = 0;
        let mut columns = columns.to_vec();
        for piece in pieces(bulk.check(&columns)) {
            let script = Script::of(bulk, &mut columns, piece)?;
            let query = sqlx::query_with::<Sqlite, _>(AssertSqlSafe(script.text), script.arguments);
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
        let mut columns = columns.to_vec();
        for piece in pieces(bulk.check(&columns)) {
            let script = Script::of(bulk, &mut columns, piece)?;
            let query = sqlx::query_as_with::<Sqlite, T, _>(AssertSqlSafe(script.text), script.arguments);
            fetched.append(&mut query.fetch_all(&mut *self).await?);
        }
        Ok(fetched)
    }

    async fn run_all(&mut self, jobs: Vec<Job>) -> Result<(), sqlx::Error> {
        for script in scripts(jobs)?.0 {
            sqlx::query_with::<Sqlite, _>(AssertSqlSafe(script.text), script.arguments)
                .execute(&mut *self)
                .await?;
        }
        Ok(())
    }

    async fn look_up<const JOBS: usize, const TABLES: usize>(
        &mut self,
        jobs: [Job; JOBS],
        ids: [NewIds; TABLES],
    ) -> Result<([Found; JOBS], [Vec<i64>; TABLES]), sqlx::Error> {
        let (mut scripts, owners) = scripts(jobs.into())?;
        if ids.iter().any(|(_, count)| *count > 0) {
            // Nobody else writes until this transaction ends, and rows that are stored with an id move the sequence on.
            let last =
                |(table, _)| format!("coalesce((select seq from sqlite_sequence where name = '{table}'), 0)");
            let text = format!("select json_array({})", ids.map(last).join(", "));
            match scripts.last_mut() {
                Some(script) => script.text = [script.text.as_str(), text.as_str()].join(";"),
                None => scripts.push(Script { text, ..Script::default() }),
            }
        }
        let mut found = [const { Found(Vec::new()) }; JOBS];
        let mut last_ids = Found(Vec::new());
        let mut owners = owners.into_iter();
        for script in scripts {
            let texts: Vec<(String,)> =
                sqlx::query_as_with::<Sqlite, _, _>(AssertSqlSafe(script.text), script.arguments)
                    .fetch_all(&mut *self)
                    .await?;
            // Each statement gives one row.
            for (text,) in texts {
                match owners.next() {
                    Some(job) => found[job].0.push(text),
                    None => last_ids.0.push(format!("[{text}]")),
                }
            }
        }
        let mut last = last_ids.rows::<Vec<i64>>()?.into_iter().flatten();
        let ids = ids.map(|(_, count)| {
            let before = last.next().unwrap_or_default();
            (before + 1..).take(count).collect()
        });
        Ok((found, ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::{Kind, bulk};

    #[test]
    fn rows_are_cut_without_gap_or_overlap() {
        for rows in [0, 1, 2, 3, 63, 64, 511, 512, 513, 1024, 1500] {
            let mut next = 0;
            for (start, length) in pieces(rows) {
                assert_eq!(start, next);
                assert!((1..=MOST_ROWS).contains(&length));
                next += length;
            }
            assert_eq!(next, rows);
        }
    }

    const FIRST: Bulk = bulk("first {rows}", &[Kind::Int]);
    const SECOND: Bulk = bulk("second {rows}", &[Kind::Int, Kind::Text]);

    fn jobs(first: i64, second: i64) -> Vec<Job> {
        vec![
            (&FIRST, vec![Column::ints(0..first)]),
            (&SECOND, vec![Column::ints(0..second), Column::texts((0..second).map(|row| row.to_string()))]),
        ]
    }

    #[test]
    fn a_few_rows_make_one_text_with_equally_many_or_one_in_each_statement() {
        let (made, owners) = scripts(jobs(1, 5)).unwrap();
        assert_eq!(owners, [0, 1]);
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].text, format!("{};{}", FIRST.sqlite_text(1), SECOND.sqlite_text(8)));
        assert_eq!(made[0].arguments.len(), 1 + 2 * 8);
        let (made, _) = scripts(jobs(2, 5)).unwrap();
        assert_eq!(made[0].arguments.len(), 8 + 2 * 8);
    }

    #[test]
    fn a_statement_without_rows_is_left_out() {
        let (made, owners) = scripts(jobs(0, 2)).unwrap();
        assert_eq!((made.len(), owners), (1, vec![1]));
        assert!(scripts(jobs(0, 0)).unwrap().0.is_empty());
    }

    #[test]
    fn what_only_locks_is_left_out() {
        const LOCKS: Bulk = bulk("locks {rows}", &[Kind::Int]).only_locks();
        let mut jobs = jobs(0, 2);
        jobs.push((&LOCKS, vec![Column::ints(0..600)]));
        let (made, owners) = scripts(jobs).unwrap();
        assert_eq!((made.len(), owners), (1, vec![1]));
        assert_eq!(made[0].text, SECOND.sqlite_text(2));
    }

    #[test]
    fn many_rows_make_a_text_a_piece() {
        let (made, owners) = scripts(jobs(600, 3)).unwrap();
        assert_eq!(owners, [0, 0, 1]);
        let lengths: Vec<_> = made.iter().map(|script| script.arguments.len()).collect();
        assert_eq!(lengths, [512, 128, 2 * 4]);
    }
}
