//! The folder of images: how files are named, written, opened and removed. Called by `media` alone; everything here blocks.
//!
//! A name is `ab/cdef….jpg`, made of random digits; the small image beside it is `ab/cdef….small.jpg`. Nothing that a client
//! sends becomes a name, and no other names are opened. A file appears under its name when it is whole and on disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::picture::Picture;

/// How long a name is without its extension, and where its folder ends.
const DIGITS: usize = 32;
const FOLDER_DIGITS: usize = 2;

const SMALL: &str = ".small";

/// A name that nothing has: 128 random bits.
pub(super) fn new_name(extension: &str) -> String {
    let digits = format!("{:0DIGITS$x}", rand::random::<u128>());
    let (folder, file) = digits.split_at(FOLDER_DIGITS);
    format!("{folder}/{file}.{extension}")
}

/// The name of the small image beside this one.
pub(crate) fn small(name: &str) -> String {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    format!("{stem}{SMALL}.{extension}")
}

/// The type of the file of this name, if it is one that can be here.
pub(super) fn media_type(name: &str) -> Option<&'static str> {
    let (folder, file) = name.split_once('/')?;
    let (stem, extension) = file.rsplit_once('.')?;
    let stem = stem.strip_suffix(SMALL).unwrap_or(stem);
    let are_digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if folder.len() != FOLDER_DIGITS
        || stem.len() != DIGITS - FOLDER_DIGITS
        || !are_digits(folder)
        || !are_digits(stem)
    {
        return None;
    }
    match extension {
        "jpg" => Some("image/jpeg"),
        "png" => Some("image/png"),
        _ => None,
    }
}

#[derive(Clone, Debug)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Writes both images of a picture; they are on disk when it returns.
    pub(super) fn write(&self, name: &str, picture: &Picture) -> io::Result<()> {
        let path = self.root.join(name);
        let folder = path.parent().unwrap_or(&self.root);
        let is_new = !folder.is_dir();
        fs::create_dir_all(folder)?;
        // The small one first, so that whoever finds the one finds the other.
        write_whole(&self.root.join(small(name)), &picture.small)?;
        write_whole(&path, &picture.full)?;
        sync_folder(folder)?;
        if is_new { sync_folder(&self.root) } else { Ok(()) }
    }

    /// Removes both images and what a crash left of them. That there are none is fine.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        let mut removed = false;
        for name in [name.to_owned(), small(name)] {
            let path = self.root.join(name);
            for path in [unfinished(&path), path] {
                match fs::remove_file(path) {
                    Ok(()) => removed = true,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        // Otherwise a power failure could bring back a file whose row is gone.
        if let (true, Some(folder)) = (removed, self.root.join(name).parent()) {
            sync_folder(folder)?;
        }
        Ok(())
    }

    /// Where the file of a name is; nothing if there is none, or something else than a file.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let path = self.root.join(name);
        // A link is followed nowhere: the server makes none.
        let is_folder = fs::symlink_metadata(path.parent()?).is_ok_and(|found| found.is_dir());
        (is_folder && fs::symlink_metadata(&path).is_ok_and(|found| found.is_file())).then_some(path)
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = unfinished(path);
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(part, path)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the folder and tries whether files can be written into it.
pub(super) fn prepare(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let probe = root.join(format!(".probe-{:x}", rand::random::<u64>()));
    let outcome = write_whole(&probe, b"souk").and_then(|()| sync_folder(root));
    drop(fs::remove_file(unfinished(&probe)));
    drop(fs::remove_file(probe));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_name_than_the_folders_own_is_known() {
        let name = new_name("jpg");
        assert_eq!(media_type(&name), Some("image/jpeg"), "{name}");
        assert_eq!(media_type(&small(&name)), Some("image/jpeg"), "{name}");
        assert_eq!(media_type(&new_name("png")), Some("image/png"));
        let digits = "0123456789abcdef0123456789abcd";
        for bad in [
            String::new(),
            "/".to_owned(),
            format!("ab/{digits}"),
            format!("ab/{digits}.gif"),
            format!("ab/{digits}.jpg.part"),
            format!("ab/{digits}.small.small.jpg"),
            format!("ab/{digits}0.jpg"),
            format!("../{digits}.jpg"),
            format!("ab/../{digits}.jpg"),
            format!("AB/{digits}.jpg"),
            format!("ab/{digits}.jpg/"),
            format!("ab/{}\0.jpg", &digits[1..]),
        ] {
            assert_eq!(media_type(&bad), None, "{bad}");
        }
    }

    #[test]
    fn no_link_is_followed() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = Files::new(folder.path().to_owned());
        let name = new_name("png");
        let file = elsewhere.path().join(&name[3..]);
        fs::write(&file, "secret").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(&name[..2])).unwrap();
        assert_eq!(files.path(&name), None);
        fs::remove_file(folder.path().join(&name[..2])).unwrap();
        fs::create_dir(folder.path().join(&name[..2])).unwrap();
        std::os::unix::fs::symlink(file, folder.path().join(&name)).unwrap();
        assert_eq!(files.path(&name), None);
    }

    #[test]
    fn what_is_removed_leaves_nothing_of_itself() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().to_owned());
        let name = new_name("png");
        let picture = Picture { extension: "png", full: vec![1; 10], small: vec![2; 5] };
        files.write(&name, &picture).unwrap();
        fs::write(unfinished(&folder.path().join(&name)), "half").unwrap();
        assert_eq!(fs::read(files.path(&small(&name)).unwrap()).unwrap(), [2; 5]);
        files.remove(&name).unwrap();
        files.remove(&name).unwrap();
        assert_eq!(fs::read_dir(folder.path().join(&name[..2])).unwrap().count(), 0);
    }
}
