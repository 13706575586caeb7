//! Servers and load on cores of their own: who asks for ten times too much shall not take from those who answer.
//!
//! What runs already, a database of somebody else's, stays where it is. Two cores that are two threads of one are still
//! taken for two.

use anyhow::{Context, ensure};
use tokio::process::Command;

/// The cores of this process, in two halves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Halves {
    servers: String,
    load: String,
}

impl Halves {
    /// # Errors
    /// If there is but one core, or nobody tells which there are.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")
            .context("which cores there are is read from /proc, which only Linux has")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Self::of(list.context("/proc/self/status does not tell the cores")?.trim())
    }

    /// Of a list as the system writes it, like `0-3,6`.
    fn of(list: &str) -> anyhow::Result<Self> {
        let mut cores = Vec::new();
        for range in list.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            cores.extend(first.parse::<u16>()?..=last.parse()?);
        }
        ensure!(cores.len() > 1, "there is but one core: server and load would share it");
        let (servers, load) = cores.split_at(cores.len() / 2);
        let joined = |cores: &[u16]| cores.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        Ok(Self { servers: joined(servers), load: joined(load) })
    }

    /// From now on this process starts others on the first half.
    pub(crate) async fn go_to_servers(&self) -> anyhow::Result<()> {
        go_to(&self.servers).await
    }

    /// From now on this process is on the second half; what it started stays where it is.
    pub(crate) async fn go_to_load(&self) -> anyhow::Result<()> {
        go_to(&self.load).await
    }
}

/// Moves all threads of this process.
async fn go_to(cores: &str) -> anyhow::Result<()> {
    let mut taskset = Command::new("taskset");
    taskset.args(["--all-tasks", "--cpu-list", "--pid", cores]).arg(std::process::id().to_string());
    let output = taskset.output().await.context("cannot run taskset, of util-linux")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cannot go to the cores {cores}: {told}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cores_are_shared_out() {
        let halves = |list: &str| Halves::of(list).map(|halves| (halves.servers, halves.load)).ok();
        assert_eq!(halves("0-1"), Some(("0".to_owned(), "1".to_owned())));
        assert_eq!(halves("0-2,6,8-9"), Some(("0,1,2".to_owned(), "6,8,9".to_owned())));
        assert_eq!(halves("3"), None);
    }
}
