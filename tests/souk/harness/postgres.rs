//! A Postgres server of a test's own, which may be killed, stopped and restarted. It keeps its data in a temporary
//! folder, listens on a free port, and syncs to disk as a real one; its programs must be on the path.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

const USER: &str = "souk";

pub(crate) struct Postgres {
    folder: TempDir,
    port: u16,
    password: String,
}

impl Postgres {
    /// Starts one; none when this run is not about Postgres.
    pub(crate) fn start() -> Option<Self> {
        std::env::var_os(super::database::SERVER)?;
        let folder = TempDir::with_prefix("souk-postgres-").expect("a folder for the server");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its number").port();
        drop(listener);
        let password = uuid::Uuid::new_v4().simple().to_string();
        std::fs::write(folder.path().join("password"), &password).expect("a file for the password");
        if let Some(user) = other_user() {
            for path in [folder.path(), &folder.path().join("password")] {
                std::os::unix::fs::chown(path, Some(user), None).expect("a folder for the user postgres");
            }
        }
        let server = Self { folder, port, password };
        let pwfile = format!("--pwfile={}", server.path().join("password").display());
        let data = format!("--pgdata={}", server.data());
        let user = format!("--username={USER}");
        server.run(
            "initdb",
            &[&data, &user, &pwfile, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"],
        );
        server.run("pg_ctl", &["start", "--wait", &data, &server.log(), &server.options()]);
        Some(server)
    }

    /// The URL of a database on it whose user may create others.
    pub(crate) fn url(&self) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// Kills it without a farewell, and starts it again, which makes it recover first.
    pub(crate) fn restart_immediately(&self) {
        let data = format!("--pgdata={}", self.data());
        self.run("pg_ctl", &["restart", "--mode=immediate", "--wait", &data, &self.log(), &self.options()]);
    }

    /// Freezes all its processes: connections stay open, and nobody answers, until what this gives is dropped. Should
    /// the test fail meanwhile, that is before its shop goes, which needs the server to take its database away.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        self.signal("STOP");
        Frozen(self)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> String {
        self.path().join("data").display().to_string()
    }

    fn log(&self) -> String {
        format!("--log={}", self.path().join("log").display())
    }

    fn options(&self) -> String {
        let Self { port, .. } = self;
        format!("--options=-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories=''")
    }

    /// To the first of its processes, so that it starts no others meanwhile, and then to those that it started.
    fn signal(&self, signal: &str) {
        let file =
            std::fs::read_to_string(self.path().join("data/postmaster.pid")).expect("a server that runs");
        let process = file.lines().next().expect("its process");
        let script = format!(
            "kill -{signal} {process} || exit; for child in $(pgrep -P {process}); do kill -{signal} $child; done; true"
        );
        // One that has just ended cannot be told.
        let said = Command::new("sh").arg("-c").arg(script).stderr(Stdio::null()).status().expect("a shell");
        assert!(said.success(), "the server did not get {signal}");
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path());
        if let Some(user) = other_user() {
            command.uid(user);
        }
        // Into files, since a server that is started keeps what it inherits open.
        let said = std::fs::File::create(self.path().join("said")).expect("a file for its words");
        command.stdout(said.try_clone().expect("the same file")).stderr(said);
        let status =
            command.status().unwrap_or_else(|error| panic!("{program} must be on the path: {error}"));
        if !status.success() {
            let read = |name| std::fs::read_to_string(self.path().join(name)).unwrap_or_default();
            panic!("{program} failed\n{}\n{}", read("said"), read("log"));
        }
    }
}

/// A server that does not answer. Dropping this lets it go on.
pub(crate) struct Frozen<'a>(&'a Postgres);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.signal("CONT");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.path().join("data/postmaster.pid").exists() {
            self.run("pg_ctl", &["stop", "--mode=immediate", "--wait", &format!("--pgdata={}", self.data())]);
        }
    }
}

/// Postgres refuses to run as root; then it is the user of its package.
fn other_user() -> Option<u32> {
    let id = |arguments: &[&str]| -> u32 {
        let output = Command::new("id").args(arguments).output().expect("the program id");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("the number of a user")
    };
    (id(&["-u"]) == 0).then(|| id(&["-u", "postgres"]))
}
