//! Connections under TLS.

use super::{Like, TestNode, pair, store, unsent};
use crate::cli::{Cli, Command};
use crate::rpc::RpcTls;
use clap::Parser;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// An authority's folder, with a node's certificate.
struct Authority(TempDir);

impl Authority {
    fn new() -> Authority {
        let authority = Authority(tempfile::tempdir().expect("a folder"));
        authority.cert(&["create-ca"]);
        authority.cert(&["create-node", "--host", "db1.example.com"]);
        authority
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn cert(&self, words: &[&str]) {
        let folder = self.path().display().to_string();
        let line = ["phantomdb", "cert"].iter().chain(words);
        let line = line.copied().chain(["--certs-dir", &folder]);
        let Command::Cert(command) = Cli::parse_from(line).command else {
            panic!("{words:?}");
        };
        crate::cert::run(&command).expect("certificates");
    }

    fn load(&self) -> RpcTls {
        RpcTls::load(self.path()).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn secured(id: u64, tls: &RpcTls) -> Like {
    Like {
        tls: Some(tls.clone()),
        ..store(id)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_authority_talk() {
    let tls = Authority::new().load();
    let (one, mut two) = pair(secured(1, &tls), secured(2, &tls)).await;
    one.send(2, "secret");
    assert_eq!(two.message().await, "secret");
    let long = vec![9; 5 << 20];
    let answer = one.call(2, long.clone()).await.expect("an answer");
    assert!(answer == long);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_authority_is_refused() {
    let (ours, theirs) = (Authority::new().load(), Authority::new().load());
    let one = TestNode::start(secured(1, &ours)).await;
    let stranger = TestNode::start(secured(2, &theirs)).await;
    for (caller, called) in [(&one, &stranger), (&stranger, &one)] {
        let why = unsent(caller.call_address(&called.address(), "hello").await);
        assert!(why.contains("TLS: invalid peer certificate"), "{why}");
    }
}

/// Shows a certificate that it should not show, to nodes that it trusts.
fn impostor(trusts: &Path, shows: &Path, name: &str) -> TlsConnector {
    let read = |file: &Path| std::fs::read(file).expect("a file");
    let ca = read(&trusts.join("ca.crt"));
    let certificate = read(&shows.join(format!("{name}.crt")));
    let key = read(&shows.join(format!("{name}.key")));
    let chain = |pem: &[u8]| {
        let chain = rustls_pemfile::certs(&mut &pem[..]).collect::<Result<Vec<_>, _>>();
        chain.expect("certificates")
    };
    let mut roots = RootCertStore::empty();
    for root in chain(&ca) {
        roots.add(root).expect("a root");
    }
    let key = rustls_pemfile::private_key(&mut &key[..]).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(&certificate), key.expect("a key"))
        .expect("a certificate and its key");
    TlsConnector::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_nodes_of_the_authority_are_let_in() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    ours.cert(&["create-client", "ann"]);
    let tls = ours.load();
    let node = TestNode::start(secured(1, &tls)).await;
    for (shows, name) in [(&theirs, "node"), (&ours, "client.ann")] {
        let impostor = RpcTls {
            connector: impostor(ours.path(), shows.path(), name),
            ..tls.clone()
        };
        let impostor = TestNode::start(secured(2, &impostor)).await;
        // The node's own certificate is good, so the answer is the node's refusal.
        let why = unsent(impostor.call_address(&node.address(), "hello").await);
        assert!(why.contains("TLS: received fatal alert"), "{why}");
    }
    let friend = TestNode::start(secured(3, &tls)).await;
    let answer = friend.call_address(&node.address(), "hello").await;
    assert_eq!(answer.expect("an answer"), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_side_without_certificates() {
    let tls = Authority::new().load();
    let secure = TestNode::start(secured(1, &tls)).await;
    let plain = TestNode::start(store(2)).await;
    let why = unsent(plain.call_address(&secure.address(), "hello").await);
    assert!(
        why.contains("speaks TLS, and this node has no certificates"),
        "{why}"
    );
    let why = unsent(secure.call_address(&plain.address(), "hello").await);
    assert!(why.contains("TLS"), "{why}");
}
