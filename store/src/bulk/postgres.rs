//! Statements over many rows on Postgres: arrays, one statement whatever their length, and several statements in one.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Arguments, AssertSqlSafe, PgConnection, Postgres, Row};

use super::{Bulk, BulkConnection, Column, Found, FromAnyRow, Job, Kind, NewIds};

impl Kind {
    fn array(self) -> &'static str {
        match self {
            Self::Int => "bigint[]",
            Self::Text => "text[]",
            Self::Bytes => "bytea[]",
            Self::Time => "timestamptz[]",
            Self::Uuid => "uuid[]",
        }
    }
}

impl Bulk {
    /// The text, whose first column is parameter number `first`.
    pub(crate) fn postgres_text(&self, first: usize) -> String {
        let arrays: Vec<_> =
            self.columns.iter().zip(first..).map(|(kind, n)| format!("${n}::{}", kind.array())).collect();
        let names: Vec<_> = (1..=self.columns.len()).map(|n| format!("column{n}")).collect();
        let rows = format!("unnest({}) as v({})", arrays.join(","), names.join(","));
        self.expand(&rows, ["json_build_array(", ") as found"]) + self.lock
    }
}

/// One statement with its values.
#[derive(Default)]
struct Statement {
    text: String,
    arguments: PgArguments,
}

impl Statement {
    fn of(bulk: &Bulk, columns: &[Column]) -> Result<Self, sqlx::Error> {
        let mut statement = Self::default();
        statement.text = statement.part(bulk, columns)?;
        Ok(statement)
    }

    /// Takes in the values, and gives the text that names them.
    fn part(&mut self, bulk: &Bulk, columns: &[Column]) -> Result<String, sqlx::Error> {
        let text = bulk.postgres_text(self.arguments.len() + 1);
        let arguments = &mut self.arguments;
        for column in columns {
            match column {
                Column::Int(values) => arguments.add(values.as_slice()),
                Column::Text(values) => {
                    let texts: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
                    arguments.add(texts)
                }
                Column::Bytes(values) => arguments.add(values.as_slice()),
                Column::Time(values) => arguments.add(values.as_slice()),
                Column::SameTime(time, rows) => arguments.add(vec![*time; *rows]),
                Column::Uuid(values) => arguments.add(values.as_slice()),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(text)
    }

    /// All look-ups in one, which gives one row: a JSON text for each, evaluated from the first to the last.
    fn of_look_ups<'j>(jobs: impl IntoIterator<Item = &'j Job>, ids: &[NewIds]) -> Result<Self, sqlx::Error> {
        let mut statement = Self::default();
        let mut answers = Vec::new();
        for (bulk, columns) in jobs {
            let part = statement.part(bulk, columns)?;
            answers.push(format!("(select coalesce(json_agg(found), '[]')::text from ({part}) as part)"));
        }
        for (table, count) in ids {
            let count = i64::try_from(*count).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
            statement.arguments.add(count).map_err(sqlx::Error::Encode)?;
            let n = statement.arguments.len();
            // The sequence is looked for once, not for each number.
            answers.push(format!(
                "(select coalesce(json_agg(nextval(sequence)), '[]')::text from \
                 (select pg_get_serial_sequence('{table}', 'id')::regclass as sequence offset 0) as s, \
                 generate_series(1, ${n}))"
            ));
        }
        statement.text = format!("select {}", answers.join(", "));
        Ok(statement)
    }

    /// All in one, which gives no row.
    fn of_writes<'j>(jobs: impl IntoIterator<Item = &'j Job>) -> Result<Option<Self>, sqlx::Error> {
        let mut statement = Self::default();
        let mut parts = Vec::new();
        for (bulk, columns) in jobs {
            parts.push(statement.part(bulk, columns)?);
        }
        let Some(last) = parts.pop() else { return Ok(None) };
        let others: Vec<_> = parts.iter().zip(1..).map(|(part, n)| format!("part{n} as ({part})")).collect();
        statement.text = if others.is_empty() { last } else { format!("with {} {last}", others.join(", ")) };
        Ok(Some(statement))
    }

    fn query(self) -> Query<'static, Postgres, PgArguments> {
        sqlx::query_with(AssertSqlSafe(self.text), self.arguments)
    }
}

impl BulkConnection for PgConnection {
    async fn run_rows(&mut self, bulk: &Bulk, columns: &[Column]) -> Result<u64, sqlx::Error> {
        if bulk.check(columns) == 0 {
            return Ok(0);
        }
        Ok(Statement::of(bulk, columns)?.query().execute(self).await?.rows_affected())
    }

    async fn fetch_rows<T: FromAnyRow>(
        &mut self,
        bulk: &Bulk,
        columns: &[Column],
    ) -> Result<Vec<T>, sqlx::Error> {
        if bulk.check(columns) == 0 {
            return Ok(Vec::new());
        }
        let rows = Statement::of(bulk, columns)?.query().fetch_all(self).await?;
        rows.iter().map(T::from_row).collect()
    }

    async fn run_all(&mut self, jobs: Vec<Job>) -> Result<(), sqlx::Error> {
        let jobs = jobs.iter().filter(|(bulk, columns)| bulk.check(columns) > 0);
        if let Some(statement) = Statement::of_writes(jobs)? {
            statement.query().execute(self).await?;
        }
        Ok(())
    }

    async fn look_up<const JOBS: usize, const TABLES: usize>(
        &mut self,
        jobs: [Job; JOBS],
        ids: [NewIds; TABLES],
    ) -> Result<([Found; JOBS], [Vec<i64>; TABLES]), sqlx::Error> {
        let mut found = [const { Found(Vec::new()) }; JOBS];
        let mut taken = [const { Vec::new() }; TABLES];
        // A statement sees what was committed when it began; of the rows that it waited for, it sees the newest.
        for after_locks in [false, true] {
            let asked: Vec<usize> = (0..JOBS)
                .filter(|&job| jobs[job].0.after_locks == after_locks && jobs[job].0.check(&jobs[job].1) > 0)
                .collect();
            let wanted: Vec<usize> = (0..TABLES).filter(|&table| !after_locks && ids[table].1 > 0).collect();
            if asked.is_empty() && wanted.is_empty() {
                continue;
            }
            let ids: Vec<_> = wanted.iter().map(|&table| ids[table]).collect();
            let statement = Statement::of_look_ups(asked.iter().map(|&job| &jobs[job]), &ids)?;
            let row = statement.query().fetch_one(&mut *self).await?;
            for (&job, column) in asked.iter().zip(0..) {
                found[job].0.push(row.try_get(column)?);
            }
            for (&table, column) in wanted.iter().zip(asked.len()..) {
                taken[table] = Found(vec![row.try_get(column)?]).rows()?;
            }
        }
        Ok((found, taken))
    }
}
