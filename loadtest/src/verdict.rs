//! What a run may be found guilty of, counted, and the claims that it made. Pure: [`Report`](crate::report::Report)
//! prints it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What must never happen. One of any of these fails the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// More units went out than there were.
    Oversold,
    /// Somebody was told that there are none, and there were.
    Undersold,
    /// Something that was acknowledged is not there: an order, an event.
    Lost,
    /// Something is there, or was sent, twice.
    Doubled,
    /// An answer shows what was already acknowledged to be different.
    Stale,
    /// A 5xx that is no proper refusal, that is no 503 with `Retry-After`.
    ServerError,
    /// Another answer than the scenario allows.
    Unexpected,
    /// The connection failed, or nothing came.
    NoAnswer,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Oversold,
        Self::Undersold,
        Self::Lost,
        Self::Doubled,
        Self::Stale,
        Self::ServerError,
        Self::Unexpected,
        Self::NoAnswer,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oversold => "oversold",
            Self::Undersold => "undersold",
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Stale => "stale",
            Self::ServerError => "5xx",
            Self::Unexpected => "unexpected",
            Self::NoAnswer => "no answer",
        }
    }
}

/// How many examples of a fault are kept.
const EXAMPLES: usize = 3;

/// What was counted of one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) times: u64,
    pub(crate) examples: Vec<String>,
}

/// Faults as they are found; several tasks have one each, or one behind a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(BTreeMap<Fault, Counted>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault, example: impl Into<String>) {
        self.add_times(fault, 1, example);
    }

    /// The same `times` times; nothing if that is 0.
    pub(crate) fn add_times(&mut self, fault: Fault, times: u64, example: impl Into<String>) {
        if times == 0 {
            return;
        }
        let counted = self.0.entry(fault).or_default();
        counted.times += times;
        if counted.examples.len() < EXAMPLES {
            counted.examples.push(example.into());
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (fault, theirs) in other.0 {
            let ours = self.0.entry(fault).or_default();
            ours.times += theirs.times;
            ours.examples.extend(theirs.examples);
            ours.examples.truncate(EXAMPLES);
        }
    }

    pub(crate) fn times(&self, fault: Fault) -> u64 {
        self.0.get(&fault).map_or(0, |counted| counted.times)
    }
}

/// Everything that was claimed and counted.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    claims: Vec<(String, bool)>,
    pub(crate) faults: Faults,
    /// Whether anything was watched for faults; a comparison of speeds alone has no line of them.
    pub(crate) watched: bool,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Limit {
    /// A figure that is no number meets no limit.
    pub(crate) fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(floor) => figure >= floor,
            Self::AtMost(ceiling) => figure <= ceiling,
        }
    }

    /// `what: 0.93, at least 0.85`.
    pub(crate) fn claim(self, what: &str, figure: f64, unit: &str) -> String {
        let (words, limit) = match self {
            Self::AtLeast(floor) => ("at least", floor),
            Self::AtMost(ceiling) => ("at most", ceiling),
        };
        format!("{what}: {figure:.2}{unit}, {words} {limit}{unit}")
    }
}

impl Verdict {
    pub(crate) fn claim(&mut self, claim: &str, holds: bool) {
        self.claims.push((claim.to_owned(), holds));
    }

    /// Why the run failed; empty if it did not.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let claims = self.claims.iter().filter(|(_, holds)| !holds).map(|(claim, _)| claim.clone());
        let faults =
            self.faults.0.iter().map(|(fault, counted)| format!("{} {}", fault.name(), counted.times));
        claims.chain(faults).collect()
    }

    /// `oversold 0, undersold 0, …`, and under it examples of what is not 0.
    pub(crate) fn faults_in_words(&self) -> String {
        let counts = Fault::ALL.map(|fault| format!("{} {}", fault.name(), self.faults.times(fault)));
        let mut text = counts.join(", ");
        for (fault, counted) in &self.faults.0 {
            for example in &counted.examples {
                text += &format!("\n  {}: {example}", fault.name());
            }
        }
        text
    }

    pub(crate) fn as_json(&self) -> Value {
        let claims: Vec<_> =
            self.claims.iter().map(|(claim, holds)| json!({ "claim": claim, "holds": holds })).collect();
        let faults: BTreeMap<_, _> =
            Fault::ALL.iter().map(|fault| (fault.name(), self.faults.times(*fault))).collect();
        json!({ "clean": self.reasons().is_empty(), "claims": claims, "faults": faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_or_one_failed_claim_is_enough() {
        let mut verdict = Verdict::default();
        verdict.claim("this is so", true);
        assert_eq!(verdict.reasons(), [] as [&str; 0]);
        verdict.claim("that is so", false);
        assert_eq!(verdict.reasons(), ["that is so"]);
        for fault in Fault::ALL {
            let mut verdict = Verdict::default();
            verdict.faults.add(fault, "an example");
            assert_eq!(verdict.reasons(), [format!("{} 1", fault.name())]);
            assert_eq!(verdict.as_json()["clean"], false);
        }
    }

    #[test]
    fn what_did_not_happen_is_no_fault() {
        let mut verdict = Verdict::default();
        verdict.faults.add_times(Fault::Oversold, 0, "nothing");
        assert_eq!(verdict.reasons(), [] as [&str; 0]);
        assert_eq!(verdict.as_json()["clean"], true);
        assert!(
            verdict
                .faults_in_words()
                .starts_with("oversold 0, undersold 0, lost 0, doubled 0, stale 0, 5xx 0")
        );
    }

    #[test]
    fn faults_of_several_tasks_are_counted_together() {
        let mut faults = Faults::default();
        faults.add(Fault::Lost, "order 1");
        let mut others = Faults::default();
        others.add_times(Fault::Lost, 4, "order 2");
        others.add(Fault::Stale, "product 3");
        faults.merge(others);
        assert_eq!((faults.times(Fault::Lost), faults.times(Fault::Stale)), (5, 1));
        let verdict = Verdict { faults, ..Verdict::default() };
        let words = verdict.faults_in_words();
        assert!(
            words.contains("lost 5") && words.contains("\n  lost: order 1\n  lost: order 2\n"),
            "{words}"
        );
    }

    #[test]
    fn a_limit_is_met_or_missed() {
        assert!(Limit::AtLeast(0.9).holds(0.9) && !Limit::AtLeast(0.9).holds(0.899));
        assert!(Limit::AtMost(25.0).holds(25.0) && !Limit::AtMost(25.0).holds(25.1));
        assert!(!Limit::AtLeast(0.0).holds(f64::NAN) && !Limit::AtMost(1.0).holds(f64::NAN));
        assert_eq!(Limit::AtMost(15.0).claim("a socket", 16.25, " KB"), "a socket: 16.25 KB, at most 15 KB");
    }
}
