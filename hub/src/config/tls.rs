//! TLS on the public listener, with a certificate that is read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use super::keys;
use super::source::Check;

/// The files are looked at on a handshake, but not more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    cert: PathBuf,
    key: PathBuf,
}

impl Tls {
    pub(super) fn read(check: &mut Check) -> Option<Self> {
        let cert = check.text(keys::TLS_CERT).map(PathBuf::from);
        let key = check.text(keys::TLS_KEY).map(PathBuf::from);
        match (cert, key) {
            (None, None) => None,
            (Some(_), None) => {
                check.fault(keys::TLS_KEY, "is missing: PULSE_TLS_CERT is set");
                None
            }
            (None, Some(_)) => {
                check.fault(keys::TLS_CERT, "is missing: PULSE_TLS_KEY is set");
                None
            }
            (Some(cert), Some(key)) => {
                let tls = Self { cert, key };
                if let Err(error) = tls.load() {
                    check.fault(keys::TLS_CERT, format!("{error:#}"));
                }
                Some(tls)
            }
        }
    }

    /// What the public listener serves TLS with.
    ///
    /// # Errors
    ///
    /// Returns an error if the certificate or its key cannot be read, or do not belong together.
    pub(crate) fn server_config(&self) -> anyhow::Result<ServerConfig> {
        let resolver = Reloading {
            tls: self.clone(),
            current: Mutex::new(Current {
                certified: Arc::new(self.load()?),
                changed_at: self.changed_at(),
                looked_at: Instant::now(),
            }),
        };
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        Ok(config)
    }

    fn load(&self) -> anyhow::Result<CertifiedKey> {
        let chain = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| {
                format!("{} cannot be read as a PEM certificate", self.cert.display())
            })?;
        anyhow::ensure!(!chain.is_empty(), "{} holds no certificate", self.cert.display());
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("{} cannot be read as a PEM key", self.key.display()))?;
        let key = ring::sign::any_supported_type(&key)
            .with_context(|| format!("the key in {} cannot be used", self.key.display()))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().context("the certificate and the key do not belong together")?;
        Ok(certified)
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        let changed_at = |path: &Path| std::fs::metadata(path).and_then(|it| it.modified()).ok();
        [changed_at(&self.cert), changed_at(&self.key)]
    }
}

#[derive(Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    changed_at: [Option<SystemTime>; 2],
    looked_at: Instant,
}

/// Serves the latest good pair of certificate and key.
#[derive(Debug)]
struct Reloading {
    tls: Tls,
    current: Mutex<Current>,
}

impl Reloading {
    fn refresh(&self, current: &mut Current) {
        current.looked_at = Instant::now();
        let changed_at = self.tls.changed_at();
        if changed_at == current.changed_at {
            return;
        }
        match self.tls.load() {
            Ok(certified) => {
                current.certified = Arc::new(certified);
                current.changed_at = changed_at;
                info!("the TLS certificate was read again");
            }
            // Often the two files are replaced one after the other; the next look finds both.
            Err(error) => warn!(error = format!("{error:#}"), "kept the old TLS certificate"),
        }
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock();
        if current.looked_at.elapsed() >= LOOK_EVERY {
            self.refresh(&mut current);
        }
        Some(current.certified.clone())
    }
}
