//! A disk of a few mebibytes, so that a test can fill it: a file system in memory, mounted for the test alone.

use std::fs::{File, remove_file};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

pub(crate) struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// None, and it says so, where this user may not mount anything.
    pub(crate) fn mount(mebibytes: u32) -> Option<Self> {
        let folder = TempDir::with_prefix("souk-disk-").expect("a folder for the test");
        let options = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "souk-test"]).arg(folder.path());
        let ran = mount.output().expect("mount, of util-linux");
        if ran.status.success() {
            return Some(Self { folder });
        }
        eprintln!("not run: nothing may be mounted here: {}", String::from_utf8_lossy(&ran.stderr).trim());
        None
    }

    /// Where something of this name is on it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    /// From now on there is no room for another byte.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("room for a name");
        let mut piece = vec![0; 1 << 20];
        while !piece.is_empty() {
            match ballast.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
    }

    /// There is room again.
    pub(crate) fn clear(&self) {
        remove_file(self.ballast()).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while a server that is just killed still has files on it.
        drop(Command::new("umount").arg("--lazy").arg(self.folder.path()).status());
    }
}
