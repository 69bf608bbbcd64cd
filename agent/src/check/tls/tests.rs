use pulse_protocol::status::{CheckKind, DeviceStatus};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::check::testing;

/// A server for `localhost` whose certificate ends at the first day of `year`, and the root that signed it.
async fn serve(year: i32) -> (u16, Arc<RootCertStore>) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "Test Root");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    server.distinguished_name.push(DnType::CommonName, "Test Server");
    server.not_before = date_time_ymd(2020, 1, 1);
    server.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = server.signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(crate::tls_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that distrusts the certificate hangs up; that is its right.
            let _ended = acceptor.accept(stream).await;
        }
    });
    (port, Arc::new(roots))
}

async fn find(port: u16, roots: &Arc<RootCertStore>, expect: Value) -> Finding {
    check(&testing::check(CheckKind::Tls, "localhost", Some(port), expect), roots).await
}

#[tokio::test]
async fn a_certificate_that_lasts_is_online_and_its_facts_are_told() {
    let (port, roots) = serve(2099).await;
    let found = find(port, &roots, Value::Null).await;
    assert_eq!((found.status, &found.error), (DeviceStatus::Online, &None));
    let facts = found.tls.unwrap();
    assert_eq!(facts.not_after.to_string(), "2099-01-01T00:00:00.000Z");
    assert!(
        facts.issuer.contains("Test Root") && facts.subject.contains("Test Server"),
        "{facts:?}"
    );
}

#[tokio::test]
async fn one_that_ends_soon_is_degraded() {
    let (port, roots) = serve(2040).await;
    let days_left =
        |at: Timestamp| at.duration_since(Timestamp::wall_clock()).as_secs() / DAY.as_secs();
    let left = days_left("2040-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(
        find(port, &roots, json!({"warn_days": left + 1})).await.status,
        DeviceStatus::Degraded
    );
    assert_eq!(
        find(port, &roots, json!({"warn_days": left - 1})).await.status,
        DeviceStatus::Online
    );
    assert_eq!(find(port, &roots, json!({"warn_days": "x"})).await.status, DeviceStatus::Unknown);
}

#[tokio::test]
async fn one_that_ended_or_is_signed_by_nobody_known_is_offline_with_its_facts() {
    let (port, roots) = serve(2021).await;
    let ended = find(port, &roots, Value::Null).await;
    assert_eq!(ended.status, DeviceStatus::Offline);
    assert!(ended.tls.is_some() && ended.error.unwrap().contains("expired"));
    let (port, _) = serve(2099).await;
    let unknown = find(port, &Arc::new(crate::check::public_roots()), Value::Null).await;
    assert_eq!(unknown.status, DeviceStatus::Offline);
    assert!(unknown.tls.is_some());
}

#[tokio::test]
async fn one_for_another_name_is_offline() {
    let (port, roots) = serve(2099).await;
    let config = testing::check(CheckKind::Tls, "127.0.0.1", Some(port), Value::Null);
    assert_eq!(check(&config, &roots).await.status, DeviceStatus::Offline);
}
