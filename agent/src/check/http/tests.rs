use pulse_protocol::status::{CheckKind, DeviceStatus};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::check::{public_roots, testing};

/// A server that answers each path of the table with its status line and headers, and `hello world`.
async fn serve(table: &'static [(&'static str, &'static str)]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut request, mut part) = (String::new(), [0; 1024]);
            while !request.contains("\r\n\r\n") {
                let read = stream.read(&mut part).await.unwrap();
                request.push_str(std::str::from_utf8(&part[..read]).unwrap());
            }
            let path = request.split(' ').nth(1).unwrap();
            let head = table
                .iter()
                .find(|(known, _)| *known == path)
                .map_or("404 Not Found", |(_, head)| head);
            let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 11\r\n\r\nhello world");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

fn tls() -> Arc<ClientConfig> {
    Arc::new(crate::tls_config(public_roots()))
}

async fn find(port: u16, path: &str, expect: Value) -> Finding {
    let mut config = testing::check(CheckKind::Http, "127.0.0.1", None, expect);
    config.url = Some(format!("http://127.0.0.1:{port}{path}"));
    check(&config, &tls()).await
}

#[tokio::test]
async fn the_status_decides() {
    let port = serve(&[("/ok", "200 OK"), ("/broken", "500 Internal Server Error")]).await;
    for (path, expect, status) in [
        ("/ok", Value::Null, DeviceStatus::Online),
        ("/broken", Value::Null, DeviceStatus::Degraded),
        ("/missing", Value::Null, DeviceStatus::Degraded),
        ("/missing", json!({"status": 404}), DeviceStatus::Online),
        ("/missing", json!({"status": [400, 499]}), DeviceStatus::Online),
        ("/ok", json!({"status": [400, 499]}), DeviceStatus::Degraded),
        ("/ok", json!({"status": "200"}), DeviceStatus::Unknown),
        ("/ok", json!({"contains": "world"}), DeviceStatus::Online),
        ("/ok", json!({"contains": "moon"}), DeviceStatus::Degraded),
        ("/ok", json!({"contains": 5}), DeviceStatus::Unknown),
    ] {
        assert_eq!(find(port, path, expect.clone()).await.status, status, "{path} {expect}");
    }
}

#[tokio::test]
async fn redirects_are_followed_five_times() {
    let port = serve(&[
        ("/0", "302 Found\r\nlocation: /1"),
        ("/1", "301 Moved Permanently\r\nlocation: /2"),
        ("/2", "307 Temporary Redirect\r\nlocation: /3"),
        ("/3", "308 Permanent Redirect\r\nlocation: /4"),
        ("/4", "303 See Other\r\nlocation: /5"),
        ("/5", "200 OK"),
        ("/loop", "302 Found\r\nlocation: /loop"),
        ("/lost", "302 Found\r\nlocation: /nowhere"),
        ("/unchanged", "304 Not Modified"),
    ])
    .await;
    assert_eq!(find(port, "/0", Value::Null).await.status, DeviceStatus::Online);
    assert_eq!(find(port, "/lost", Value::Null).await.status, DeviceStatus::Degraded);
    assert_eq!(find(port, "/unchanged", Value::Null).await.status, DeviceStatus::Online);
    assert_eq!(find(port, "/loop", json!({"status": 302})).await.status, DeviceStatus::Online);
    let endless = find(port, "/loop", Value::Null).await;
    assert_eq!(endless.status, DeviceStatus::Degraded);
    assert!(endless.error.unwrap().contains("redirects"));
}

#[tokio::test]
async fn without_a_url_the_address_and_port_are_asked() {
    let port = serve(&[("/", "200 OK")]).await;
    let config = testing::check(CheckKind::Http, "127.0.0.1", Some(port), Value::Null);
    assert_eq!(check(&config, &tls()).await.status, DeviceStatus::Online);
}

#[tokio::test]
async fn nobody_there_is_offline_and_a_wrong_url_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(find(port, "/", Value::Null).await.status, DeviceStatus::Offline);
    let mut config = testing::check(CheckKind::Http, "127.0.0.1", None, Value::Null);
    config.url = Some("file:///etc/hostname".to_owned());
    assert_eq!(check(&config, &tls()).await.status, DeviceStatus::Unknown);
}
