//! The `souk` binary as a child process: the server, whose log is read to its end, and the commands that run
//! beside it. The environment is emptied first, so that no setting of the machine leaks into a test.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::DEADLINE;

/// What a command of the command line did.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "the command should succeed\n{}", self.all());
        self
    }

    #[track_caller]
    pub(crate) fn fails(self) -> Self {
        assert!(self.code.is_some_and(|code| code != 0), "the command should fail\n{}", self.all());
        assert!(!self.err.contains("panicked"), "the command should not panic\n{}", self.all());
        self
    }

    pub(crate) fn all(&self) -> String {
        format!("exit code {:?}\n--- out\n{}\n--- err\n{}", self.code, self.out, self.err)
    }
}

pub(super) fn command(folder: &Path, settings: &[(String, String)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
    command.args(arguments).current_dir(folder).env_clear();
    for kept in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.env("NO_COLOR", "1").env("RUST_LOG", "warn,souk=info");
    for (name, value) in settings {
        command.env(name, value);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub(super) async fn run(mut command: Command) -> Ran {
    let output = match timeout(DEADLINE * 4, command.output()).await {
        Ok(output) => output.expect("the souk binary runs"),
        Err(_) => panic!("the command did not end: {command:?}"),
    };
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running server. Dropping it kills it.
pub(super) struct Server {
    child: Child,
    log: watch::Receiver<String>,
    readers: JoinSet<()>,
    address: String,
}

impl Server {
    /// Starts the server and waits until it says where it listens.
    pub(super) async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the souk binary starts");
        let (writer, log) = watch::channel(String::new());
        let mut readers = JoinSet::new();
        readers.spawn(collect(child.stderr.take().expect("a piped stderr"), writer.clone()));
        readers.spawn(collect(child.stdout.take().expect("a piped stdout"), writer));
        let mut watched = log.clone();
        let said = timeout(DEADLINE, watched.wait_for(|text| address_in(text).is_some())).await;
        let address = match said {
            Ok(Ok(text)) => address_in(&text).expect("the address that was waited for"),
            Ok(Err(_)) => panic!("the server ended before it listened:\n{}", log.borrow().as_str()),
            Err(_) => panic!("the server did not listen in {DEADLINE:?}:\n{}", log.borrow().as_str()),
        };
        Self { child, log, readers, address }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id().expect("a server that runs")
    }

    /// How much memory the server holds, in KiB: now, and at most so far.
    pub(super) fn memory(&self) -> (u64, u64) {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a process on Linux");
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
        };
        (line("VmRSS:"), line("VmHWM:"))
    }

    pub(super) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// SIGKILL: no farewell, as when the power fails but for the disk's own cache.
    pub(super) async fn kill9(mut self) {
        self.child.kill().await.expect("the server can be killed");
    }

    /// How many files and connections the server has open.
    pub(super) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("a process on Linux").count()
    }

    pub(super) async fn signal(&self, name: &str) {
        // `kill` is the shell's own, so that no crate is needed for one signal.
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.id())).status().await;
        assert!(status.expect("a shell").success(), "the server was not there for a signal");
    }

    /// How the server ended, once it has.
    pub(super) async fn ended(mut self) -> (ExitStatus, String) {
        let Ok(ended) = timeout(DEADLINE, self.child.wait()).await else {
            panic!("the server did not stop within {DEADLINE:?}:\n{}", self.log());
        };
        while self.readers.join_next().await.is_some() {}
        (ended.expect("a child to wait for"), self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Waits for the end, so that the folder can be removed without the server writing into it meanwhile.
        let deadline = Instant::now() + DEADLINE;
        if self.child.start_kill().is_ok() {
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::yield_now();
            }
        }
    }
}

async fn collect(stream: impl AsyncRead + Unpin, log: watch::Sender<String>) {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line).await, Ok(length) if length > 0) {
        log.send_modify(|text| text.push_str(&String::from_utf8_lossy(&line)));
        line.clear();
    }
}

/// Finds `http://127.0.0.1:<port>`, or the same with `https`, in the line that says `listening`.
fn address_in(log: &str) -> Option<String> {
    let line = log.lines().find_map(|line| line.split_once("listening on "))?.1;
    let (scheme, rest) = line.split_once("://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!port.is_empty()).then(|| format!("{scheme}://127.0.0.1:{port}"))
}
