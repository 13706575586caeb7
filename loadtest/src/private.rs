//! Postgres and Redis of a run's own, on free ports, in a folder that goes with them. Both end when they are dropped.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::shop::Place;

/// How long a server may take to answer for the first time.
const START_WITHIN: Duration = Duration::from_secs(30);

/// A Postgres server with the settings that it comes with: a commit is on disk before it is answered.
pub(crate) struct Postgres {
    /// Of a database on it whose user may create others.
    pub(crate) url: String,
    programs: PathBuf,
    folder: TempDir,
}

impl Postgres {
    /// Starts one, in a folder of its own there.
    pub(crate) fn start(place: &Place) -> anyhow::Result<Self> {
        let programs = programs().context(
            "Postgres's initdb and pg_ctl were not found; install Postgres, or name a server with --postgres URL",
        )?;
        let folder = place.folder()?;
        let (port, password) = (free_port()?, Uuid::new_v4().simple().to_string());
        std::fs::write(folder.path().join("password"), &password)?;
        if is_root()? {
            done(Command::new("chown").arg("-R").arg("postgres").arg(folder.path()))?;
        }
        let url = format!("postgres://souk:{password}@127.0.0.1:{port}/postgres");
        let postgres = Self { url, programs, folder };
        let path = |name: &str| postgres.folder.path().join(name).display().to_string();
        done(postgres.program("initdb")?.args([
            &format!("--pgdata={}", path("data")),
            "--username=souk",
            &format!("--pwfile={}", path("password")),
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
        ]))
        .context("is the folder one that the user postgres may enter? See --dir")?;
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={} -c max_connections=300",
            postgres.folder.path().display()
        );
        done(postgres.program("pg_ctl")?.args([
            &format!("--pgdata={}", path("data")),
            &format!("--log={}", path("log")),
            "--wait",
            "--silent",
            &format!("--options={options}"),
            "start",
        ]))?;
        Ok(postgres)
    }

    /// One of Postgres's programs, which refuse to run as root; its package makes a user for that.
    fn program(&self, name: &str) -> anyhow::Result<Command> {
        let program = self.programs.join(name);
        let mut command = if is_root()? {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = format!("--pgdata={}", self.folder.path().join("data").display());
        let stopped = self
            .program("pg_ctl")
            .map(|mut program| program.args([&data, "--mode=immediate", "--silent", "stop"]).status());
        // It may never have been started; then there is nothing to stop either.
        drop(stopped);
    }
}

/// A Redis server that keeps nothing.
pub(crate) struct Redis {
    pub(crate) url: String,
    _child: Child,
    _folder: TempDir,
}

impl Redis {
    /// Starts one, in a folder of its own there.
    pub(crate) async fn start(place: &Place) -> anyhow::Result<Self> {
        let (folder, port) = (place.folder()?, free_port()?);
        let child = tokio::process::Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("redis-server does not start; install Redis, or name a server with --redis URL")?;
        let deadline = Instant::now() + START_WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            ensure!(Instant::now() < deadline, "Redis did not listen within {START_WITHIN:?}");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { url: format!("redis://127.0.0.1:{port}"), _child: child, _folder: folder })
    }
}

/// Debian keeps Postgres's programs beside the path, a folder for each version; the newest counts.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let newest = debian.filter(|folder| folder.join("initdb").is_file()).max();
    newest.or_else(|| std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file()))
}

fn is_root() -> anyhow::Result<bool> {
    let output = Command::new("id").arg("-u").output().context("who runs this?")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// One that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    // The server inherits what pg_ctl writes to, and would keep a pipe open.
    let output = tempfile::tempfile()?;
    let status =
        command.stdout(Stdio::null()).stderr(output.try_clone()?).status().with_context(|| name.clone())?;
    if !status.success() {
        let mut said = String::new();
        let mut output = output;
        std::io::Seek::rewind(&mut output)?;
        std::io::Read::read_to_string(&mut output, &mut said)?;
        anyhow::bail!("{name}: {status}: {}", said.trim());
    }
    Ok(())
}
