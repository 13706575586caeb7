//! What a run tells: lines and tables while it goes, at the end the verdict, and if wanted JSON and a picture.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value, json};
use souk_store::model::Timestamp;

use crate::measure::{Spread, Table};
use crate::picture;
use crate::tally::Tally;
use crate::verdict::{Fault, Faults, Limit, Verdict};

/// Where else the report goes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Outputs {
    /// Write the report as JSON into FILE too, or to standard output (-), where nothing else is written then
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw throughput and latency over time into FILE, as SVG; of scenarios whose requests come by a clock
    #[arg(long, global = true, value_name = "FILE.svg")]
    picture: Option<PathBuf>,
}

/// A report that is being written.
pub(crate) struct Report {
    scenario: String,
    outputs: Outputs,
    verdict: Verdict,
    /// What was measured on what.
    setting: String,
    figures: Map<String, Value>,
    tables: Vec<Value>,
    runs: Map<String, Value>,
    drawing: Option<String>,
}

impl Report {
    pub(crate) fn new(scenario: &str, outputs: Outputs) -> Self {
        Self {
            scenario: scenario.to_owned(),
            outputs,
            verdict: Verdict::default(),
            setting: String::new(),
            figures: Map::new(),
            tables: Vec::new(),
            runs: Map::new(),
            drawing: None,
        }
    }

    /// A line for people.
    #[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
    pub(crate) fn say(&self, text: &str) {
        if self.outputs.json.as_deref() == Some(Path::new("-")) {
            drop(writeln!(std::io::stderr(), "{text}"));
        } else {
            println!("{text}");
        }
    }

    /// Says what the figures are measured on, before anything is.
    pub(crate) fn set_in(&mut self, setting: String) {
        self.say(&setting);
        self.setting = setting;
    }

    /// A figure by name, for machines.
    pub(crate) fn figure(&mut self, name: &str, figure: impl Into<Value>) {
        self.figures.insert(name.to_owned(), figure.into());
    }

    pub(crate) fn table(&mut self, table: &Table) {
        self.say(table.text().trim_end());
        self.tables.push(table.as_json());
    }

    /// Says whether `claim` holds; the first word of the line is for those who look for it.
    pub(crate) fn claim(&mut self, claim: &str, holds: bool) {
        self.say(&format!("{} {claim}", if holds { "holds:" } else { "FAILS:" }));
        self.verdict.claim(claim, holds);
    }

    /// Claims that a figure keeps to its limit. An unoptimised build is not judged: its figures mean nothing.
    pub(crate) fn limit(&mut self, what: &str, figure: f64, unit: &str, limit: Limit) {
        let claim = limit.claim(what, figure, unit);
        if cfg!(debug_assertions) {
            self.say(&format!("not judged in a debug build: {claim}"));
        } else {
            self.claim(&claim, limit.holds(figure));
        }
    }

    /// The same of a ratio's median, which must be at least `floor`.
    pub(crate) fn floor(&mut self, what: &str, ratio: Spread, floor: f64) {
        self.limit(what, ratio.median, "", Limit::AtLeast(floor));
    }

    pub(crate) fn fault(&mut self, fault: Fault, example: impl Into<String>) {
        self.verdict.faults.add(fault, example);
    }

    pub(crate) fn faults(&mut self, fault: Fault, times: u64, example: impl Into<String>) {
        self.verdict.faults.add_times(fault, times, example);
    }

    pub(crate) fn found(&mut self, faults: Faults) {
        self.verdict.faults.merge(faults);
    }

    /// Takes in what was counted under a name: its table, its faults, and, of the last one, its picture.
    pub(crate) fn run(&mut self, name: &str, tally: &Tally) {
        self.verdict.watched = true;
        self.table(&tally.table());
        self.verdict.faults.merge(tally.take_faults());
        self.runs.insert(name.to_owned(), tally.as_json());
        if self.outputs.picture.is_some() {
            let title = format!("{name}, {}", self.setting);
            self.drawing = Some(tally.with_seconds(|seconds| picture::draw(&title, seconds)));
        }
    }

    /// Gives the verdict and writes the files; whether all is clean.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn end(self) -> anyhow::Result<bool> {
        if self.verdict.watched || self.verdict.faults != Faults::default() {
            self.say(&self.verdict.faults_in_words());
        }
        let reasons = self.verdict.reasons();
        if reasons.is_empty() {
            self.say("verdict: clean");
        } else {
            self.say(&format!("verdict: FAILED: {}", reasons.join("; ")));
        }
        if let Some(file) = &self.outputs.picture {
            match &self.drawing {
                Some(drawing) => fs::write(file, drawing).with_context(|| cannot_write(file))?,
                None => self.say("there is no picture: nothing was counted by the second"),
            }
        }
        if let Some(file) = &self.outputs.json {
            let mut text = serde_json::to_string_pretty(&self.as_json())?;
            text.push('\n');
            if file == Path::new("-") {
                std::io::stdout().write_all(text.as_bytes())?;
            } else {
                fs::write(file, text).with_context(|| cannot_write(file))?;
            }
        }
        Ok(reasons.is_empty())
    }

    fn as_json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "ended": Timestamp::now().to_string(),
            "setting": self.setting,
            "optimised": !cfg!(debug_assertions),
            "verdict": self.verdict.as_json(),
            "figures": self.figures,
            "runs": self.runs,
            "tables": self.tables,
        })
    }
}

fn cannot_write(file: &Path) -> String {
    format!("cannot write {}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_failed_says_so_in_the_end_and_in_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.json");
        let outputs = || Outputs { json: Some(file.clone()), picture: None };
        let written = || serde_json::from_slice::<Value>(&fs::read(&file).unwrap()).unwrap();

        let mut report = Report::new("flash-sale", outputs());
        report.claim("everything is well", true);
        report.figure("sold", 7);
        assert!(report.end().unwrap());
        assert_eq!(
            (&written()["verdict"]["clean"], &written()["figures"]["sold"]),
            (&json!(true), &json!(7))
        );

        let mut report = Report::new("flash-sale", outputs());
        report.faults(Fault::Oversold, 2, "product 1");
        assert!(!report.end().unwrap());
        assert_eq!(
            (&written()["verdict"]["clean"], &written()["verdict"]["faults"]["oversold"]),
            (&json!(false), &json!(2))
        );
    }

    #[test]
    fn a_run_has_a_picture_if_one_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.svg");
        let mut report = Report::new("browse", Outputs { json: None, picture: Some(file.clone()) });
        report.run("browse", &Tally::new());
        assert!(report.end().unwrap());
        assert!(fs::read_to_string(&file).unwrap().starts_with("<svg "));
    }
}
