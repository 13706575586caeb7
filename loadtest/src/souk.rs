//! The real thing: `souk serve` as a process of its own, which can be killed.
//!
//! The binary is the one beside this program. If cargo runs us, cargo is asked to bring that up to date first, so that
//! one command is enough; otherwise a binary that is missing is an error that says how to make it.

use std::fmt::Write;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Site;
use crate::server::SECRET_KEY;
use crate::shop::Place;

/// How long a server may take to say that it listens; a database that died under load recovers first.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to end when it is asked to.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// How `souk` is started: which file, in which folder, with which settings.
pub(crate) struct Souk {
    binary: PathBuf,
    folder: TempDir,
    settings: Vec<(String, String)>,
}

impl Souk {
    /// Finds the binary, makes a folder for its log and its images, and settles on which database it works, and what more
    /// is set.
    pub(crate) async fn find(
        place: &Place,
        database: &str,
        more: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        let (binary, folder) = (binary().await?, place.folder()?);
        let own = [("DATABASE_URL", database), ("SECRET_KEY", SECRET_KEY)];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self { binary, folder, settings: own.into_iter().chain(more).collect() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        // No setting of this machine leaks in, and no `.env` but the folder's, which has none.
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        for kept in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.env("NO_COLOR", "1").env("RUST_LOG", "warn,souk=info").env("DEBUG", "false");
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command of the command line to its end; gives what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).output().await?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "souk {}: {}\n{out}{err}", arguments.join(" "), output.status);
        Ok(out)
    }

    /// Starts a server and waits until it listens. With a port, on that one.
    pub(crate) async fn serve(&self, port: u16) -> anyhow::Result<Serving> {
        let log = self.folder.path().join("server.log");
        let written = File::create(&log)?;
        let mut command = self.command(&["serve"]);
        command.env("HOST", "127.0.0.1").env("PORT", port.to_string());
        let child = command.stdout(written.try_clone()?).stderr(written).spawn()?;
        let mut serving = Serving { child, site: SocketAddr::from(([127, 0, 0, 1], port)).into(), log };
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if let Some(address) = address_in(&serving.log()) {
                serving.site = address.into();
                return Ok(serving);
            }
            if let Some(status) = serving.child.try_wait()? {
                bail!("the server did not start: {status}\n{}", serving.log());
            }
            ensure!(Instant::now() < deadline, "the server did not listen within {START_WITHIN:?}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A running server. Dropping it kills it.
pub(crate) struct Serving {
    child: Child,
    pub(crate) site: Site,
    log: PathBuf,
}

impl Serving {
    /// All that it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it warned of, at most a few lines; nothing if all is well.
    pub(crate) fn complaints(&self) -> String {
        let log = self.log();
        let complaints: Vec<_> = log
            .lines()
            .filter(|line| {
                line.contains("\"WARN\"") || line.contains("\"ERROR\"") || line.contains("panicked")
            })
            .collect();
        let mut text = String::new();
        for line in complaints.iter().take(5) {
            let _ = writeln!(text, "  {}", line.chars().take(300).collect::<String>());
        }
        if complaints.len() > 5 {
            let _ = writeln!(text, "  and {} more", complaints.len() - 5);
        }
        text
    }

    /// Its resident memory, in bytes: now, and at most so far.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let id = self.child.id().context("the server has ended")?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))
            .context("the memory of a process is read from /proc, which only Linux has")?;
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            kib.map(|kib| kib * 1024).with_context(|| format!("/proc/{id}/status has no {name}"))
        };
        Ok(Memory { now: line("VmRSS:")?, peak: line("VmHWM:")? })
    }

    /// How many files and connections it has open.
    pub(crate) fn open_files(&self) -> anyhow::Result<usize> {
        let id = self.child.id().context("the server has ended")?;
        Ok(fs::read_dir(format!("/proc/{id}/fd")).context("only Linux tells the open files")?.count())
    }

    /// SIGKILL: no farewell, as when the power fails but for the disk's own cache.
    pub(crate) async fn kill9(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let id = self.child.id().context("the server has ended by itself")?;
        // `kill` is the shell's own, so that no crate is needed for one signal.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {id}")).status().await?;
        ensure!(sent.success(), "the server was not there to be stopped");
        let ended = timeout(STOP_WITHIN, self.child.wait()).await;
        Ok(ended.with_context(|| format!("the server did not stop within {STOP_WITHIN:?}"))??)
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

/// `12.3 MB`.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Finds the `souk` that was built as this program was.
async fn binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut folder = own.parent().context("this program lies nowhere")?;
    // Where cargo puts tests.
    if folder.ends_with("deps") {
        folder = folder.parent().unwrap_or(folder);
    }
    let binary = folder.join("souk");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(other) => other,
        None => "release",
    };
    if let (Some(cargo), Some(package)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR"))
    {
        // Both packages, so that what they share is built once, with the features that it has here.
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--package=souk", "--package=souk-loadtest", "--bins"])
            .arg(format!("--profile={profile}"))
            .current_dir(package)
            .status()
            .await?;
        ensure!(built.success(), "cargo could not build souk");
    }
    ensure!(
        binary.is_file(),
        "there is no {}: build it with `cargo build --profile={profile} --package=souk --package=souk-loadtest`",
        binary.display()
    );
    Ok(binary)
}

/// Finds `http://ADDRESS` in the line that says `listening`.
fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on http://")?;
    // The log's last line may be half-written.
    let end = rest.find(|sign: char| sign != ':' && sign != '.' && !sign.is_ascii_digit())?;
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_either_kind_of_log() {
        let json =
            r#"{"level":"INFO","fields":{"message":"listening on http://127.0.0.1:4711"},"target":"souk"}"#;
        assert_eq!(address_in(json), Some(SocketAddr::from(([127, 0, 0, 1], 4711))));
        assert_eq!(
            address_in("INFO listening on http://127.0.0.1:80\n"),
            Some(SocketAddr::from(([127, 0, 0, 1], 80)))
        );
        assert_eq!(address_in("INFO listening on http://127.0.0.1:80"), None, "more digits may follow");
        assert_eq!(address_in("INFO starting\n"), None);
    }
}
