//! The serving certificate, read again while the process runs.
//!
//! Files are polled: the kubelet swaps a mounted Secret by a symlink, which notifications of the file system miss.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Name of the file with the certificate chain.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// Name of the file with the private key.
pub const KEY_FILE: &str = "tls.key";

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(
        "cannot read {path}: {source}. It comes from the Secret that the controller writes; is the controller running?"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} does not hold what it should: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificate and the key do not belong together, or are of a kind that cannot be used.
    #[error("the certificate and key in {directory} cannot be used together: {source}")]
    Pair {
        /// The directory.
        directory: PathBuf,
        /// What the TLS library said.
        #[source]
        source: rustls::Error,
    },
    /// The TLS library refused its configuration.
    #[error("TLS cannot be configured: {0}")]
    Configuration(#[from] rustls::Error),
}

/// The certificate that is served now. A new one is taken over for new connections only when it is whole.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Option<Loaded>>,
    expiry: Gauge,
}

#[derive(Debug)]
struct Loaded {
    pems: (Vec<u8>, Vec<u8>),
    key: Arc<CertifiedKey>,
}

impl Certificates {
    /// Certificates of a directory, not yet read. `expiry` is set to the end of life of what is served.
    pub fn new(directory: &Path, expiry: Gauge) -> Self {
        Self {
            directory: directory.to_owned(),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            current: RwLock::new(None),
            expiry,
        }
    }

    /// Whether there is a certificate to serve.
    pub fn loaded(&self) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Reads the files, and takes them over if they changed. Says whether it did.
    ///
    /// # Errors
    /// Where they cannot be served; what was served before stays.
    pub fn load(&self) -> Result<bool, TlsError> {
        let certificate_path = self.directory.join(CERTIFICATE_FILE);
        let key_path = self.directory.join(KEY_FILE);
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        let pems = (read(&certificate_path)?, read(&key_path)?);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|c| c.pems == pems) {
            return Ok(false);
        }
        let content = |path: &Path, reason: String| TlsError::Content { path: path.to_owned(), reason };
        let chain = CertificateDer::pem_slice_iter(&pems.0)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| content(&certificate_path, e.to_string()))?;
        let Some(leaf) = chain.first() else {
            return Err(content(&certificate_path, "there is no certificate in it".into()));
        };
        let expiry = x509_parser::parse_x509_certificate(leaf)
            .map_err(|e| content(&certificate_path, e.to_string()))?
            .1
            .validity()
            .not_after
            .timestamp();
        let key = PrivateKeyDer::from_pem_slice(&pems.1).map_err(|e| content(&key_path, e.to_string()))?;
        let key = CertifiedKey::from_der(chain, key, &self.provider)
            .map_err(|source| TlsError::Pair { directory: self.directory.clone(), source })?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Loaded { pems, key: Arc::new(key) });
        self.expiry.set(expiry);
        Ok(true)
    }

    /// Reads the files again and again. It never ends by itself.
    pub async fn follow(self: Arc<Self>, every: Duration) {
        let mut last_problem = None;
        loop {
            match self.load() {
                Ok(true) => tracing::info!(directory = %self.directory.display(), "serving certificate loaded"),
                Ok(false) => {}
                Err(error) => {
                    let problem = error.to_string();
                    // The same problem is told once, not at each reading.
                    if last_problem.as_ref() != Some(&problem) {
                        tracing::warn!(%error, serving = self.loaded(), "serving certificate not loaded");
                    }
                    last_problem = Some(problem);
                    tokio::time::sleep(every).await;
                    continue;
                }
            }
            last_problem = None;
            tokio::time::sleep(every).await;
        }
    }

    /// A TLS configuration that serves them, for HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// If the TLS library refuses it.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|loaded| Arc::clone(&loaded.key))
    }
}
