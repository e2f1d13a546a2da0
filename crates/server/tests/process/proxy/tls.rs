//! Whose TLS ends where, and who may come in.

use super::{Proxy, command};
use crate::node::{Ended, Node, start, state};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// A certificate for this machine in two files.
struct Certificate {
    der: CertificateDer<'static>,
    certificate: String,
    key: String,
}

impl Certificate {
    fn new(folder: &Path, name: &str) -> Certificate {
        let names = ["localhost".to_string(), "127.0.0.1".to_string()];
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).expect("a certificate");
        let path = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
        let (certificate, key) = (path("crt"), path("key"));
        std::fs::write(&certificate, cert.pem()).expect("a file");
        std::fs::write(&key, signing_key.serialize_pem()).expect("a file");
        Certificate {
            der: cert.der().clone(),
            certificate,
            key,
        }
    }

    fn arguments(&self) -> [&str; 4] {
        ["--tls-cert", &self.certificate, "--tls-key", &self.key]
    }

    /// TLS that trusts this certificate alone.
    fn trusted(&self) -> MakeRustlsConnect {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        MakeRustlsConnect::new(config)
    }
}

fn node(folder: &Path, certificate: Option<&Certificate>) -> Node {
    let mut command = start(folder);
    if let Some(certificate) = certificate {
        command.args(certificate.arguments());
    }
    Node::run(command, folder).unwrap_or_else(|ended| panic!("no start: {ended:?}"))
}

/// A session that demands TLS of the proxy, shown by a certificate.
async fn connect(
    proxy: &Proxy,
    certificate: &Certificate,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host("localhost")
        .hostaddr(proxy.node.sql.ip())
        .port(proxy.node.sql.port())
        .user("phantom")
        .dbname("phantom")
        .ssl_mode(SslMode::Require);
    let (client, connection) = config.connect(certificate.trusted()).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn answers(client: &Client) {
    let long = "x".repeat(200_000);
    let row = client.query_one("SELECT $1::text", &[&long]).await;
    assert_eq!(row.expect("an answer").get::<_, String>(0), long);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_at_the_proxy_and_may_begin_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let [ours, nodes] = ["proxy", "node"].map(|name| Certificate::new(folder.path(), name));
    let node = node(folder.path(), Some(&nodes));
    let sql = node.sql.to_string();
    for more in [
        vec![],
        vec!["--node-tls", "require"],
        vec!["--node-ca", &nodes.certificate],
    ] {
        let arguments = [&["--nodes", &sql][..], &ours.arguments(), &more].concat();
        let proxy = Proxy::start(&arguments);
        answers(&connect(&proxy, &ours).await.expect("a session")).await;
        connect(&proxy, &nodes)
            .await
            .expect_err("it is the proxy's certificate");
        // On this machine nobody must encrypt.
        answers(&proxy.node.connect().await).await;
        proxy.node.stop();
    }
    // An impostor in the node's place.
    let arguments = ["--nodes", &sql, "--node-ca", &ours.certificate];
    let proxy = Proxy::start(&arguments);
    let error = proxy
        .node
        .try_connect()
        .await
        .expect_err("another certificate");
    assert_eq!(state(&error), "57P03");
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_at_the_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::new(folder.path(), "node");
    let node = node(folder.path(), Some(&certificate));
    let proxy = Proxy::start(&["--nodes", &node.sql.to_string(), "--tls-passthrough"]);
    let client = connect(&proxy, &certificate).await.expect("a session");
    answers(&client).await;
    // The proxy has never seen the session's key; the request too ends at a node.
    let (token, tls) = (client.cancel_token(), certificate.trusted());
    let slept = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(3600)").await });
    let began = std::time::Instant::now();
    while !slept.is_finished() {
        assert!(
            began.elapsed() < crate::node::DEADLINE,
            "it is not cancelled"
        );
        token
            .cancel_query(tls.clone())
            .await
            .expect("a cancel request");
    }
    let error = slept
        .await
        .expect("no panic")
        .expect_err("it was cancelled");
    assert_eq!(state(&error), "57014");
    answers(&proxy.node.connect().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn is_not_there_without_a_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::new(folder.path(), "node");
    let plain = node(folder.path(), None);
    for more in [&["--tls-passthrough"][..], &[]] {
        let sql = plain.sql.to_string();
        let proxy = Proxy::start(&[&["--nodes", &sql][..], more].concat());
        connect(&proxy, &certificate).await.expect_err("no TLS");
        // As libpq does by default: TLS if there is any.
        let url = format!(
            "postgres://phantom@{}/phantom?sslmode=prefer",
            proxy.node.sql
        );
        let connected = tokio_postgres::connect(&url, certificate.trusted()).await;
        let (client, connection) = connected.expect("a session in the clear");
        tokio::spawn(connection);
        answers(&client).await;
    }
}

#[test]
fn other_machines_need_tls() {
    let refused = |arguments: &[&str]| -> Ended {
        let folder = tempfile::tempdir().expect("a folder");
        let run = Node::run(command(arguments), folder.path());
        run.err().expect("it must not start")
    };
    let everywhere = ["--nodes", "127.0.0.1:1", "--listen", "0.0.0.0:0"];
    let ended = refused(&everywhere);
    assert_eq!(ended.status.code(), Some(1));
    for part in ["0.0.0.0:0", "TLS is not configured", "--tls-passthrough"] {
        assert!(
            ended.stderr.contains(part),
            "{part} is not in {}",
            ended.stderr
        );
    }
    let ended = refused(&["--nodes", "nowhere"]);
    assert!(ended.stderr.contains("nowhere"), "{}", ended.stderr);

    let proxy = Proxy::start(&[&everywhere[..], &["--tls-passthrough"]].concat());
    proxy.node.stop();
}
