//! TLS: the certificate and its key, read from PEM files at the start and again when the operator asks.
//!
//! The binary's frame makes a [`Tls`] and asks for the reload; the server accepts with it. A new certificate counts for the
//! connections that come after it. If it is no good the old one stays, and the caller hears why, in one line that names the
//! file's setting. Nothing of a key is ever shown.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys, ServerConfig};
use tokio_rustls::server::TlsStream;

/// Which of the two files is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// The certificate and those above it.
    Certificate,
    /// Its private key.
    Key,
}

/// Why a certificate or its key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadTls {
    /// The file that it is about.
    pub file: TlsFile,
    /// What is wrong with it, and its path.
    pub reason: String,
}

/// What connections are accepted with. Cheap to clone; all clones see a reload.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Present>,
    files: Arc<[PathBuf; 2]>,
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a certificate, with those above it in the same file, and its key; both in PEM.
    ///
    /// # Errors
    /// If a file cannot be read or is no good, or the key is another certificate's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, BadTls> {
        let provider = Arc::new(ring::default_provider());
        let present = Arc::new(Present(RwLock::new(read(certificate, key, &provider)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| BadTls { file: TlsFile::Certificate, reason: error.to_string() })?
            .with_no_client_auth()
            .with_cert_resolver(present.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate: present,
            files: Arc::new([certificate.to_owned(), key.to_owned()]),
        })
    }

    /// Reads the two files again, for the connections to come.
    ///
    /// # Errors
    /// As [`Tls::load`]; then what was there before stays.
    pub fn reload(&self) -> Result<(), BadTls> {
        let [certificate, key] = &*self.files;
        let new = read(certificate, key, &Arc::new(ring::default_provider()))?;
        *self.certificate.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Does the server's part of the handshake; it has no deadline of its own.
    pub(crate) async fn accept<I>(&self, stream: I) -> io::Result<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        self.acceptor.accept(stream).await
    }
}

/// The certificate that is shown at present.
#[derive(Debug)]
struct Present(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Present {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn read(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, BadTls> {
    let bad_certificate = |reason: String| BadTls {
        file: TlsFile::Certificate,
        reason: format!("{}: {reason}", certificate.display()),
    };
    let bad_key =
        |reason: String| BadTls { file: TlsFile::Key, reason: format!("{}: {reason}", key.display()) };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad_certificate(in_words(&error, "certificate")))?;
    if chain.is_empty() {
        return Err(bad_certificate(in_words(&pem::Error::NoItemsFound, "certificate")));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| bad_key(in_words(&error, "private key")))?;
    match CertifiedKey::from_der(chain, secret, provider) {
        Ok(pair) => Ok(Arc::new(pair)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(bad_key(format!("this is not the key of the certificate in {}", certificate.display())))
        }
        Err(Error::InvalidCertificate(error)) => {
            Err(bad_certificate(format!("the certificate is no good: {error}")))
        }
        Err(error) => Err(bad_key(format!("the private key is no good: {error}"))),
    }
}

/// What is wrong with a file; never what it holds.
fn in_words(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("there is no {what} in PEM in it"),
        _ => "this is no PEM".to_owned(),
    }
}

#[cfg(test)]
mod tests;
