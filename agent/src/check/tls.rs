//! A TLS handshake: the chain, the name and the dates of the certificate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{CheckConfig, TlsFacts};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use url::Url;
use x509_parser::parse_x509_certificate;

use super::{Finding, connect};

/// The port when the check names none.
const HTTPS: u16 = 443;
/// Days before its end at which a certificate is worth a warning.
const WARN_DAYS: u64 = 30;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Verifies as usual, but lets the handshake go on, so that a bad certificate's dates are told too. Nothing is
/// ever sent over such a connection.
#[derive(Debug)]
struct Witness {
    verifier: Arc<WebPkiServerVerifier>,
    verdict: Mutex<Option<Error>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = verdict.err();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Online with a certificate that is valid for the name and for `expect.warn_days` (30) more, degraded when it
/// ends sooner, offline when it is not valid.
pub(super) async fn check(check: &CheckConfig, roots: &Arc<RootCertStore>) -> Finding {
    let (host, port) = match target(check) {
        Ok(target) => target,
        Err(error) => return Finding::unknown(error),
    };
    let warn_days = match check.expect.as_ref().and_then(|expect| expect.get("warn_days")) {
        None => WARN_DAYS,
        Some(days) => match days.as_u64().filter(|days| *days <= 10_000) {
            Some(days) => days,
            None => return Finding::unknown("`expect.warn_days` is no number of days"),
        },
    };
    let start = Instant::now();
    let (facts, verdict) = match shake_hands(&host, port, roots).await {
        Ok(seen) => seen,
        Err(error) => return Finding::offline(error),
    };
    let warn_at = facts.not_after - DAY * u32::try_from(warn_days).unwrap_or(u32::MAX);
    let found = match verdict {
        Some(error) => Finding::offline(error.to_string()),
        None if Timestamp::wall_clock() >= warn_at => Finding::degraded(
            start.elapsed(),
            format!("the certificate ends at {}", facts.not_after),
        ),
        None => Finding::online(start.elapsed()),
    };
    Finding { tls: Some(facts), ..found }
}

fn target(check: &CheckConfig) -> Result<(String, u16), String> {
    let Some(url) = &check.url else {
        return Ok((check.address.clone(), check.port.unwrap_or(HTTPS)));
    };
    let url = Url::parse(url).map_err(|error| format!("the url is wrong: {error}"))?;
    let host = url.host_str().ok_or("the url has no host")?;
    Ok((host.to_owned(), url.port_or_known_default().unwrap_or(HTTPS)))
}

/// The certificate shown, and what is wrong with it.
async fn shake_hands(
    host: &str,
    port: u16,
    roots: &Arc<RootCertStore>,
) -> Result<(TlsFacts, Option<Error>), String> {
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), crate::tls_provider());
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    let witness = Arc::new(Witness { verifier, verdict: Mutex::new(None) });
    let config = ClientConfig::builder_with_provider(crate::tls_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Witness>::clone(&witness))
        .with_no_client_auth();
    let stream = connect(host, port).await.map_err(|error| error.to_string())?;
    let connection = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let connection = connection.map_err(|error| error.to_string())?;
    let certificates = connection.get_ref().1.peer_certificates();
    let certificate =
        certificates.and_then(<[_]>::first).ok_or("the server showed no certificate")?;
    let facts = facts(certificate)?;
    let verdict = witness.verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok((facts, verdict))
}

fn facts(certificate: &CertificateDer<'_>) -> Result<TlsFacts, String> {
    let (_, certificate) = parse_x509_certificate(certificate)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let not_after = certificate.validity().not_after.timestamp().saturating_mul(1000);
    Ok(TlsFacts {
        not_after: Timestamp::from_unix_ms(not_after),
        issuer: certificate.issuer().to_string(),
        subject: certificate.subject().to_string(),
    })
}

#[cfg(test)]
mod tests;
