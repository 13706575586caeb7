//! What certificate files are taken, and what is said of the others.

use std::fs;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.renew();
        files
    }

    fn paths(&self) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|name| self.folder.path().join(name))
    }

    /// Another certificate with its key.
    fn renew(&self) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
        let [certificate, key] = self.paths();
        fs::write(certificate, cert.pem()).unwrap();
        fs::write(key, signing_key.serialize_pem()).unwrap();
    }

    fn load(&self) -> Result<Tls, BadTls> {
        let [certificate, key] = self.paths();
        Tls::load(&certificate, &key)
    }

    #[track_caller]
    fn refused(&self, file: TlsFile, why: &str) {
        let bad = self.load().unwrap_err();
        assert_eq!(bad.file, file, "{bad}");
        assert!(bad.reason.contains(why) && !bad.reason.contains('\n'), "{bad}");
    }
}

fn shown(tls: &Tls) -> CertificateDer<'static> {
    tls.certificate.0.read().unwrap().cert[0].clone()
}

#[test]
fn what_is_no_pair_is_refused_by_the_file_that_is_wrong() {
    let files = Files::new();
    files.load().unwrap();
    let [certificate, key] = files.paths();
    let (good_certificate, good_key) = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());

    fs::write(&certificate, "hello").unwrap();
    files.refused(TlsFile::Certificate, "there is no certificate in PEM in it");
    fs::write(&certificate, &good_key).unwrap();
    files.refused(TlsFile::Certificate, "there is no certificate in PEM in it");
    fs::write(&certificate, "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n").unwrap();
    files.refused(TlsFile::Certificate, "the certificate is no good");
    fs::write(&certificate, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    files.refused(TlsFile::Certificate, "this is no PEM");
    fs::remove_file(&certificate).unwrap();
    files.refused(TlsFile::Certificate, "cannot be read");

    fs::write(&certificate, &good_certificate).unwrap();
    fs::write(&key, &good_certificate).unwrap();
    files.refused(TlsFile::Key, "there is no private key in PEM in it");
    fs::write(&key, "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n").unwrap();
    files.refused(TlsFile::Key, "the private key is no good");
    files.renew();
    fs::write(&certificate, &good_certificate).unwrap();
    files.refused(TlsFile::Key, "this is not the key of the certificate");
}

#[test]
fn a_reload_takes_the_new_pair_and_keeps_the_old_one_if_the_new_is_bad() {
    let files = Files::new();
    let tls = files.load().unwrap();
    let first = shown(&tls);
    files.renew();
    tls.reload().unwrap();
    let second = shown(&tls);
    assert_ne!(first, second);
    fs::write(&files.paths()[1], "half a file").unwrap();
    assert_eq!(tls.reload().unwrap_err().file, TlsFile::Key);
    assert_eq!(shown(&tls), second);
    assert!(!format!("{tls:?}").contains("PRIVATE"));
}
