//! The README and the architecture page keep up with the code: what they list is all there is, and the tour works as it
//! stands there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{DEADLINE, Shop};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).expect("a document of the project")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("a file of the project").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_map_names_every_file() {
    let mut found = Vec::new();
    for folder in ["src", "http/src", "actors/src", "store/src"] {
        sources(&root().join(folder), &mut found);
    }
    let there: BTreeSet<String> =
        found.iter().map(|path| path.strip_prefix(root()).unwrap().display().to_string()).collect();
    let page = document("ARCHITECTURE.md");
    let map = page.split("## The map").nth(1).expect("a map");
    let named: BTreeSet<String> =
        map.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")).map(str::to_owned).collect();
    assert_eq!(there.difference(&named).collect::<Vec<_>>(), [] as [&String; 0], "not on the map");
    assert_eq!(named.difference(&there).collect::<Vec<_>>(), [] as [&String; 0], "on the map, but not there");
}

#[tokio::test]
async fn the_readme_names_every_setting_and_command() {
    let help = Shop::closed(&[]).souk(&["--help"]).await.succeeds().out;
    let readme = document("README.md");
    let first_words = help.lines().filter_map(|line| line.strip_prefix("  ")).filter_map(|line| {
        let word = line.split(' ').next()?;
        (!word.is_empty() && !word.starts_with('-')).then_some(word)
    });
    let mut count = 0;
    for word in first_words.filter(|word| *word != "help") {
        let is_setting = word.chars().all(|sign| sign.is_ascii_uppercase() || sign == '_');
        let named = if is_setting { format!("`{word}`") } else { format!("`souk {word}") };
        assert!(readme.contains(&named), "the README does not name {word}");
        count += 1;
    }
    assert!(count > 20, "the help was not understood:\n{help}");
}

#[tokio::test]
async fn the_tour_works_as_it_stands_in_the_readme() {
    let mut shop = Shop::embedded(&[]);
    shop.open_with(&["serve", "--demo"]).await;
    let log = shop.log();
    let password = log.split("Password").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let readme = document("README.md");
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let tour: String = blocks.filter(|block| !block.contains("cargo ")).collect();
    let tour = tour
        .replace("http://127.0.0.1:8000", &shop.url())
        .replace("PASSWORD=xxxx-xxxx-xxxx-xxxx", &format!("PASSWORD={password}"));
    // A person pastes one block after the other; the script has to wait for the watcher to be connected, and to have
    // seen the last notification.
    let seen = |what: &str| format!("until grep -q {what} watched; do sleep 0.05; done\n");
    let tour = tour.replace("\" &\n", &format!("\" > watched &\n{}", seen("connection_ready")));
    let script = format!("set -eu\ntouch watched\n{tour}\n{}kill %1\n", seen("order_status_update"));
    let run = Command::new("bash")
        .arg("-c")
        .arg(script.replace("scripts/watch", &root().join("scripts/watch").display().to_string()))
        .current_dir(shop.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(DEADLINE, run).await.expect("the tour ends").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    for step in [
        r#""count": 24"#,
        "Floor Lamp",
        r#""total_items": 2"#,
        r#""status": "shipped""#,
        r#""kind": "order""#,
    ] {
        assert!(out.contains(step), "{step} is missing\n{out}\n{err}");
    }
    let watched = std::fs::read_to_string(shop.path().join("watched")).unwrap();
    assert_eq!(watched.matches("order_created").count(), 1, "one order, not two\n{watched}");
    shop.audit().await;
}
