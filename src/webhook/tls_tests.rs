//! The listener over loopback, with real certificates.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::metrics::gauge::Gauge;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsConnector;

use super::server;
use super::tls::{CERTIFICATE_FILE, Certificates, KEY_FILE};

fn write_certificate(directory: &Path) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["hook.wl.svc".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(directory.join(CERTIFICATE_FILE), certificate.pem()).unwrap();
    std::fs::write(directory.join(KEY_FILE), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

struct Running {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

async fn run(certificates: &Arc<Certificates>, router: axum::Router) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let tls = certificates.server_config().unwrap();
    let served = tokio::spawn(server::serve(listener, tls, router, async move {
        let _ = stopped.await;
    }));
    Running { address, stop, served }
}

async fn connect(
    running: &Running,
    trusted: &CertificateDer<'static>,
    protocol: &[u8],
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = tokio::net::TcpStream::connect(running.address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("hook.wl.svc").unwrap(), stream).await
}

fn hello() -> axum::Router {
    axum::Router::new().route("/", axum::routing::get(|| async { "hello" }))
}

/// Tries until it is so, for as long as a busy machine may need.
async fn until<F: Future<Output = bool>>(mut check: impl FnMut() -> F) {
    for _ in 0..1000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not become so within 20 s");
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let expiry = Gauge::default();
    let certificates = Arc::new(Certificates::new(directory.path(), expiry.clone()));
    assert!(certificates.load().unwrap_err().to_string().contains("tls.crt: No such file"));
    assert!(!certificates.loaded());

    let first = write_certificate(directory.path());
    let follow = tokio::spawn(Arc::clone(&certificates).follow(Duration::from_millis(20)));
    let running = run(&certificates, hello()).await;
    until(async || certificates.loaded()).await;
    assert!(expiry.get() > 0);
    connect(&running, &first, b"h2").await.unwrap();

    let second = write_certificate(directory.path());
    until(async || connect(&running, &second, b"h2").await.is_ok()).await;
    let error = connect(&running, &first, b"h2").await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");

    // What cannot be served is not taken over.
    std::fs::write(directory.path().join(CERTIFICATE_FILE), "junk").unwrap();
    assert!(certificates.load().unwrap_err().to_string().contains("there is no certificate in it"));
    connect(&running, &second, b"h2").await.unwrap();
    follow.abort();
}

#[tokio::test]
async fn a_key_of_another_certificate_is_not_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Arc::new(Certificates::new(directory.path(), Gauge::default()));
    write_certificate(directory.path());
    assert!(certificates.load().unwrap());
    assert!(!certificates.load().unwrap(), "nothing changed");
    std::fs::write(directory.path().join(KEY_FILE), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = certificates.load().unwrap_err().to_string();
    assert!(error.contains("cannot be used together"), "{error}");
    assert!(certificates.loaded());
}

#[tokio::test]
async fn http_1_and_http_2_are_spoken() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Arc::new(Certificates::new(directory.path(), Gauge::default()));
    let trusted = write_certificate(directory.path());
    certificates.load().unwrap();
    let running = run(&certificates, hello()).await;

    let mut stream = connect(&running, &trusted, b"http/1.1").await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");

    let stream = connect(&running, &trusted, b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = axum::http::Request::get("https://x/").body(Full::<Bytes>::default()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn a_request_in_flight_finishes_before_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Arc::new(Certificates::new(directory.path(), Gauge::default()));
    let trusted = write_certificate(directory.path());
    certificates.load().unwrap();
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = axum::routing::get({
        let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
        async move || {
            entered.notify_one();
            leave.notified().await;
            "late but whole"
        }
    });
    let running = run(&certificates, axum::Router::new().route("/slow", handler)).await;

    let mut stream = connect(&running, &trusted, b"http/1.1").await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    entered.notified().await;
    let Running { stop, served, address } = running;
    stop.send(()).unwrap();
    until(async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    leave.notify_one();
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        answer.extend_from_slice(&chunk[..n]);
    }
    assert!(String::from_utf8_lossy(&answer).ends_with("late but whole"));
    served.await.unwrap();
}
