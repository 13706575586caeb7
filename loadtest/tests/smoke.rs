//! The harness finds nothing wrong with the shop of this build, in runs of a second or two: each scenario that judges by
//! counting, with small numbers. Speeds are not judged in a debug build.
//!
//! Runs on SQLite, or on the Postgres and Redis of the suite. It needs the `souk` binary beside the harness's, which
//! `cargo test --workspace` builds.

use std::process::Command;

/// Runs a scenario in a folder of its own; it must end with a clean verdict.
fn plays(arguments: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_souk-loadtest"));
    command.args(arguments).arg("--dir").arg(folder.path());
    if let Ok(postgres) = std::env::var("SOUK_TEST_POSTGRES_URL") {
        command.args(["--postgres", &postgres]);
        if let Ok(redis) = std::env::var("SOUK_TEST_REDIS_URL") {
            command.args(["--redis", &redis]);
        }
    }
    // What is tested is what was built for this test; cargo would build it again for another choice of packages.
    let output = command.env_remove("CARGO").output().expect("the harness runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("verdict: clean"), "{arguments:?}\n{out}\n{err}");
    assert_eq!(
        std::fs::read_dir(&folder).expect("the folder is left").count(),
        0,
        "{arguments:?} leaves something behind"
    );
}

#[test]
fn a_flash_sale_sells_what_there_is() {
    plays(&["flash-sale", "--units", "20", "--within", "0.5"]);
}

#[test]
fn a_double_click_makes_one_order() {
    plays(&["double-click", "--shoppers", "60", "--rate", "100"]);
}

#[test]
fn a_crash_loses_nothing() {
    plays(&["crash", "--kills", "2", "--after", "0.3", "--shoppers", "8"]);
}

#[test]
fn sockets_that_are_cut_miss_nothing() {
    plays(&["notifications", "--shoppers", "5", "--seconds", "1.5", "--cut-after", "3"]);
}

#[test]
fn nothing_is_stale_while_prices_change() {
    plays(&["mixed", "--rate", "100", "--seconds", "2", "--writes", "20"]);
}
