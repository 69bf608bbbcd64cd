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
        let resolver = Reloading::new(self.clone(), Instant::now())?;
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
    fn new(tls: Tls, now: Instant) -> anyhow::Result<Self> {
        let current = Current {
            // Looked at first: a file that is replaced meanwhile is read again, never missed.
            changed_at: tls.changed_at(),
            certified: Arc::new(tls.load()?),
            looked_at: now,
        };
        Ok(Self { tls, current: Mutex::new(current) })
    }

    /// The pair to serve at `now`; looks at the files if it is time.
    fn latest(&self, now: Instant) -> Arc<CertifiedKey> {
        let mut current = self.current.lock();
        if now.duration_since(current.looked_at) >= LOOK_EVERY {
            current.looked_at = now;
            self.refresh(&mut current);
        }
        current.certified.clone()
    }

    fn refresh(&self, current: &mut Current) {
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
        Some(self.latest(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rcgen::{CertifiedKey as Generated, KeyPair, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    fn generate() -> Generated<KeyPair> {
        generate_simple_self_signed(["pulse.example.com".to_owned()]).unwrap()
    }

    /// Writes both files, with a time of change that is `second` seconds into some day: two writes within one
    /// tick of the file system's clock would look like none.
    fn write(folder: &TempDir, cert: &str, key: &str, second: u64) -> Tls {
        let tls = Tls { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        for (path, text) in [(&tls.cert, cert), (&tls.key, key)] {
            std::fs::write(path, text).unwrap();
            let changed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
            File::options().write(true).open(path).unwrap().set_modified(changed_at).unwrap();
        }
        tls
    }

    fn write_pair(folder: &TempDir, pair: &Generated<KeyPair>, second: u64) -> Tls {
        write(folder, &pair.cert.pem(), &pair.signing_key.serialize_pem(), second)
    }

    #[test]
    fn a_new_certificate_is_served_once_its_files_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second, began) = (generate(), generate(), Instant::now());
        let reloading = Reloading::new(write_pair(&folder, &first, 0), began).unwrap();
        assert_eq!(reloading.latest(began).cert[0], *first.cert.der());

        write_pair(&folder, &second, 1);
        let soon = began + LOOK_EVERY / 2;
        assert_eq!(reloading.latest(soon).cert[0], *first.cert.der(), "not looked at yet");
        assert_eq!(reloading.latest(began + LOOK_EVERY).cert[0], *second.cert.der());
    }

    #[test]
    fn a_pair_that_does_not_fit_leaves_the_old_one_in_place_until_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second, began) = (generate(), generate(), Instant::now());
        let reloading = Reloading::new(write_pair(&folder, &first, 0), began).unwrap();

        // Only the certificate is replaced: the key follows a moment later.
        write(&folder, &second.cert.pem(), &first.signing_key.serialize_pem(), 1);
        assert_eq!(reloading.latest(began + LOOK_EVERY).cert[0], *first.cert.der());
        write_pair(&folder, &second, 2);
        assert_eq!(reloading.latest(began + 2 * LOOK_EVERY).cert[0], *second.cert.der());
    }

    #[test]
    fn what_cannot_be_served_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (generate(), generate());
        let (cert, key) = (first.cert.pem(), first.signing_key.serialize_pem());
        for (cert, key, reason) in [
            ("", key.as_str(), "holds no certificate"),
            (cert.as_str(), "", "cannot be read as a PEM key"),
            (cert.as_str(), &second.signing_key.serialize_pem(), "do not belong together"),
        ] {
            let error = write(&folder, cert, key, 0).server_config().unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
        let absent = Tls { cert: folder.path().join("absent"), key: folder.path().join("absent") };
        assert!(absent.server_config().is_err());
        assert!(write_pair(&folder, &first, 0).server_config().is_ok());
    }
}
