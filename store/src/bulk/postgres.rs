//! Statements over many rows on Postgres: arrays, one statement whatever their length.

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, AssertSqlSafe, PgConnection, Postgres};

use super::{Bulk, BulkConnection, Column, Found, FromAnyRow, Job, Kind};

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
    pub(crate) fn postgres_text(&self) -> String {
        let arrays: Vec<_> =
            self.columns.iter().zip(1..).map(|(kind, n)| format!("${n}::{}", kind.array())).collect();
        let names: Vec<_> = (1..=self.columns.len()).map(|n| format!("column{n}")).collect();
        let rows = format!("unnest({}) as v({})", arrays.join(","), names.join(","));
        self.expand(&rows, ["json_build_array(", ")::text"]) + self.lock
    }
}

fn bind(columns: &[Column]) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
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
    Ok(arguments)
}

impl BulkConnection for PgConnection {
    async fn run_rows(&mut self, bulk: &Bulk, columns: &[Column]) -> Result<u64, sqlx::Error> {
        if bulk.check(columns) == 0 {
            return Ok(0);
        }
        let text = AssertSqlSafe(bulk.postgres_text());
        Ok(sqlx::query_with::<Postgres, _>(text, bind(columns)?).execute(self).await?.rows_affected())
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
        sqlx::query_as_with::<Postgres, T, _>(text, bind(columns)?).fetch_all(self).await
    }

    async fn run_all(&mut self, jobs: Vec<Job>) -> Result<(), sqlx::Error> {
        for (bulk, columns) in jobs {
            self.run_rows(bulk, &columns).await?;
        }
        Ok(())
    }

    async fn look_up<const JOBS: usize>(&mut self, jobs: [Job; JOBS]) -> Result<[Found; JOBS], sqlx::Error> {
        let mut found = [const { Found(Vec::new()) }; JOBS];
        for ((bulk, columns), found) in jobs.into_iter().zip(&mut found) {
            let rows: Vec<(String,)> = self.fetch_rows(bulk, &columns).await?;
            let rows: Vec<_> = rows.into_iter().map(|(row,)| row).collect();
            found.0.push(format!("[{}]", rows.join(",")));
        }
        Ok(found)
    }

    async fn take_ids<const TABLES: usize>(
        &mut self,
        wanted: [(&'static str, usize); TABLES],
    ) -> Result<[Vec<i64>; TABLES], sqlx::Error> {
        let taken = |((table, _), n): (&(&str, usize), usize)| {
            let number = format!("nextval(pg_get_serial_sequence('{table}', 'id'))");
            format!("array(select {number} from generate_series(1, ${n}))")
        };
        let taken: Vec<_> = wanted.iter().zip(1..).map(taken).collect();
        let mut query =
            sqlx::query_as(AssertSqlSafe(format!("select json_build_array({})::text", taken.join(", "))));
        for (_, count) in wanted {
            query = query.bind(i64::try_from(count).map_err(|error| sqlx::Error::Encode(Box::new(error)))?);
        }
        let (ids,): (String,) = query.fetch_one(self).await?;
        let ids: Vec<Vec<i64>> =
            serde_json::from_str(&ids).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let mut ids = ids.into_iter();
        Ok(wanted.map(|_| ids.next().unwrap_or_default()))
    }
}
