//! The key that signs tokens, where nobody gave one: made once, kept in a file that its owner alone can read.
//!
//! Only `config` calls this. Processes that start at once on a fresh folder end up with the same key. A file that
//! cannot be read or made, or that holds too little, ends the start; a key is never made anew over an old file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::{BadSetting, Secret};

const LEAST_BYTES: usize = 32;

/// Checks a key that an operator gave.
pub(crate) fn check(text: &str) -> Result<String, String> {
    if text.len() < LEAST_BYTES {
        return Err(format!("must have {LEAST_BYTES} bytes or more"));
    }
    Ok(text.to_owned())
}

/// The key in `file`, made and stored there first if there is no such file.
pub(crate) fn keep(file: &Path) -> Result<Secret, BadSetting> {
    let refuse =
        |reason: String| BadSetting::new("SECRET_KEY", format!("not given, and {} {reason}", file.display()));
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(file).map_err(|error| refuse(format!("cannot be made: {error}")))?;
        }
        Err(error) => return Err(refuse(format!("cannot be read: {error}"))),
        Ok(_) => {}
    }
    // Read again even when just made: another process may have been first.
    let key = fs::read_to_string(file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    check(key.trim_end()).map(Secret::new).map_err(refuse)
}

/// Writes a random key aside and links it to its place, so that no reader ever sees half a key and the first of
/// several writers wins.
fn make(file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let key = random_text(64);
    let mut aside = file.as_os_str().to_owned();
    aside.push(format!("-{}", random_text(8)));
    let mut draft = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let linked = draft
        .write_all(format!("{key}\n").as_bytes())
        .and_then(|()| draft.sync_all())
        .and_then(|()| fs::hard_link(&aside, file));
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Letters and digits from the operating system's randomness: about 5.9 bits each.
pub(crate) fn random_text(length: usize) -> String {
    use rand::distr::{Alphanumeric, SampleString};
    Alphanumeric.sample_string(&mut rand::rng(), length)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn its_owner_alone_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        assert!(keep(&file).unwrap().reveal().len() >= LEAST_BYTES);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn all_who_make_it_at_once_get_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| keep(&file).unwrap())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "too short\n").unwrap();
        let line = keep(&file).unwrap_err().to_string();
        assert!(line.contains("SECRET_KEY") && !line.contains("too short\n"), "{line}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "too short\n");
    }
}
