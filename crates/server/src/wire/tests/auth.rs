//! Who gets in: SCRAM over TLS for clients of other machines, nothing for those of this one.

use super::Node;
use super::client::query;
use crate::tls::Tls;
use crate::wire::{WireServer, connection};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

const HOST: &str = "db.example";

/// A node with TLS, and the certificate to trust.
async fn encrypted_node() -> (Node, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([HOST.to_string()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
    std::fs::write(&certificate, cert.pem()).expect("a file");
    std::fs::write(&key, signing_key.serialize_pem()).expect("a file");

    let mut node = Node::new().await;
    let mut admin = node.session().await;
    let made = admin
        .ask(&[query("CREATE ROLE ann LOGIN PASSWORD 'right'")])
        .await;
    assert_eq!(made[0], "C CREATE ROLE", "{made:?}");
    let shared = &node.server;
    node.server = Arc::new(WireServer {
        instance: Arc::clone(&shared.instance),
        tls: Some(Tls::load(&certificate, &key).expect("TLS")),
        insecure: false,
        max_message_bytes: shared.max_message_bytes,
        slots: Arc::clone(&shared.slots),
        metrics: Default::default(),
    });
    (node, cert.der().clone())
}

/// A pipe to the node, whose other end believes to hear from `peer`.
fn dial(node: &Node, peer: &str) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(16 << 10);
    let peer: SocketAddr = peer.parse().expect("an address");
    let serve = connection::serve(
        theirs,
        Some(peer),
        Arc::clone(&node.server),
        node.phase.subscribe(),
    );
    tokio::spawn(serve);
    ours
}

fn config(user: &str, password: &str) -> Config {
    let mut config = Config::new();
    config.user(user).password(password).dbname("phantom");
    config
}

/// Connects as a client that wants TLS and trusts one certificate.
async fn connect(
    node: &Node,
    config: &Config,
    trusted: &CertificateDer<'static>,
) -> Result<Client, tokio_postgres::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a root certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connector = MakeRustlsConnect::new(tls);
    let connector =
        MakeTlsConnect::<DuplexStream>::make_tls_connect(&mut connector, HOST).expect("a name");
    let mut config = config.clone();
    config.ssl_mode(SslMode::Require);
    let pipe = dial(node, "192.0.2.7:4000");
    let (client, connection) = config.connect_raw(pipe, connector).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// SQLSTATE and message of a refusal.
fn refusal(error: &tokio_postgres::Error) -> (String, String) {
    let error = error.as_db_error().expect("the server's own error");
    (error.code().code().to_string(), error.message().to_string())
}

#[tokio::test]
async fn a_password_opens_an_encrypted_connection() {
    let (node, certificate) = encrypted_node().await;
    for binding in [ChannelBinding::Require, ChannelBinding::Disable] {
        let mut config = config("ann", "right");
        config.channel_binding(binding);
        let client = connect(&node, &config, &certificate)
            .await
            .expect("the password is right");
        let row = client
            .query_one("SELECT current_user::text", &[])
            .await
            .expect("a row");
        assert_eq!(row.get::<_, &str>(0), "ann");
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_role_look_alike() {
    let (node, certificate) = encrypted_node().await;
    // `phantom` has no password: from another machine nobody is let in as it.
    for user in ["ann", "nobody", "phantom"] {
        let error = connect(&node, &config(user, "wrong"), &certificate)
            .await
            .expect_err("the password is wrong");
        let message = format!("password authentication failed for user \"{user}\"");
        assert_eq!(refusal(&error), ("28P01".to_string(), message));
    }
}

#[tokio::test]
async fn another_machine_must_encrypt() {
    let (node, _) = encrypted_node().await;
    let pipe = dial(&node, "192.0.2.7:4000");
    let error = config("ann", "right")
        .connect_raw(pipe, NoTls)
        .await
        .err()
        .expect("not encrypted");
    assert_eq!(refusal(&error).0, "28000");
}

#[tokio::test]
async fn this_machine_needs_no_password() {
    let (node, _) = encrypted_node().await;
    for peer in ["127.0.0.1:4000", "[::1]:4000", "[::ffff:127.0.0.1]:4000"] {
        let pipe = dial(&node, peer);
        let mut config = Config::new();
        config.user("phantom").ssl_mode(SslMode::Disable);
        let opened = config.connect_raw(pipe, NoTls).await;
        assert!(opened.is_ok(), "{peer}: this machine's own client");
    }
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_not_trusted() {
    let (node, _) = encrypted_node().await;
    let other = generate_simple_self_signed([HOST.to_string()]).expect("a certificate");
    let error = connect(&node, &config("ann", "right"), other.cert.der())
        .await
        .expect_err("the client does not know this certificate");
    assert!(error.as_db_error().is_none(), "{error}");
}
