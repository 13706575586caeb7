//! `souk audit`: the books' check as a table on stdout, and an exit code that a script can ask.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use souk::config::Config;
use souk_store::Db;
use souk_store::audit::{Check, audit};

pub(crate) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let db = Db::connect_existing(config.database_url.reveal()).await.context("cannot open the database")?;
    let checks = audit(&db).await.context("cannot read the books")?;
    db.close().await;
    let is_clean = checks.iter().all(|check| check.violations == 0);
    std::io::stdout().write_all(table(&checks).as_bytes()).context("cannot print")?;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.rule.len()).max().unwrap_or_default();
    let mut table = format!("{:width$}  {:>10}  {:>10}\n", "rule", "rows", "violations");
    for check in checks {
        let verdict = if check.violations == 0 { "-".to_owned() } else { check.violations.to_string() };
        table += &format!("{:width$}  {:>10}  {verdict:>10}\n", check.rule, check.rows);
        for example in &check.examples {
            table += &format!("    {example}\n");
        }
        let untold = check.violations - i64::try_from(check.examples.len()).unwrap_or(i64::MAX);
        if untold > 0 {
            table += &format!("    … and {untold} more\n");
        }
    }
    let broken = checks.iter().filter(|check| check.violations > 0).count();
    match broken {
        0 => table += "The books are right.\n",
        1 => table += "The books are wrong: 1 rule is broken.\n",
        _ => table += &format!("The books are wrong: {broken} rules are broken.\n"),
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_rule_rows_violations_and_examples() {
        let right = Check { rule: "no order is without items", rows: 7, violations: 0, examples: Vec::new() };
        assert!(table(std::slice::from_ref(&right)).ends_with("The books are right.\n"));
        let wrong = Check {
            rule: "no level is below zero",
            rows: 12,
            violations: 3,
            examples: vec!["product 1: level -4".to_owned()],
        };
        let expected = [
            "rule                             rows  violations",
            "no order is without items           7           -",
            "no level is below zero             12           3",
            "    product 1: level -4",
            "    … and 2 more",
            "The books are wrong: 1 rule is broken.",
        ];
        assert_eq!(table(&[right, wrong]).lines().collect::<Vec<_>>(), expected);
    }
}
