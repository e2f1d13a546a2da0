//! Mutual TLS between nodes.
//!
//! A cluster has a certificate authority of its own. Both sides of a connection show a certificate of it
//! that is made out to [`NODE_NAME`]: nodes are called by addresses that come and go, so what a certificate
//! proves is the role. A client's certificate of the same authority lacks the name, and opens no connection
//! between nodes. The further names in a node's certificate are for SQL clients that verify the host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The DNS name in every node's certificate. It resolves nowhere.
pub const NODE_NAME: &str = "node.phantomdb.internal";

/// Files of a `--certs-dir`.
pub const CA_CERTIFICATE: &str = "ca.crt";
pub const CA_KEY: &str = "ca.key";
pub const NODE_CERTIFICATE: &str = "node.crt";
pub const NODE_KEY: &str = "node.key";

/// What a node shows to its peers and demands of them.
#[derive(Clone)]
pub struct RpcTls {
    pub acceptor: TlsAcceptor,
    pub connector: TlsConnector,
}

#[derive(Debug, Error)]
pub enum RpcTlsError {
    #[error("cannot read {path}: {source}{hint}")]
    Read {
        path: String,
        source: std::io::Error,
        hint: &'static str,
    },
    #[error("{0} holds no certificate in PEM form")]
    NoCertificate(String),
    #[error("{0} holds no private key in PEM form")]
    NoKey(String),
    #[error("{path} is no node's certificate of this {CA_CERTIFICATE}: {source}")]
    Foreign { path: String, source: rustls::Error },
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    #[error("{CA_CERTIFICATE} cannot be used: {0}")]
    Authority(#[from] VerifierBuilderError),
}

impl RpcTls {
    /// Reads `ca.crt`, `node.crt` and `node.key` of a folder.
    pub fn load(folder: &Path) -> Result<RpcTls, RpcTlsError> {
        let path = |name: &str| folder.join(name);
        let (certificate_file, key_file) = (path(NODE_CERTIFICATE), path(NODE_KEY));
        let mut roots = RootCertStore::empty();
        for root in certificates(&path(CA_CERTIFICATE))? {
            roots.add(root)?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&certificate_file)?;
        let key = private_key(&key_file)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(OnlyNodes(
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()?,
        ));
        // What others would refuse is found now, and not by them.
        if let [certificate, intermediates @ ..] = &chain[..] {
            verifier
                .verify_client_cert(certificate, intermediates, UnixTime::now())
                .map_err(|source| RpcTlsError::Foreign {
                    path: certificate_file.display().to_string(),
                    source,
                })?;
        }
        let versions = &[&rustls::version::TLS13];
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(RpcTls {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }

    /// The name that the other side must prove.
    pub fn name() -> ServerName<'static> {
        ServerName::try_from(NODE_NAME).expect("a DNS name")
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RpcTlsError> {
    let pem = read(path)?;
    let chain = rustls_pemfile::certs(&mut pem.as_slice())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| unreadable(path, source))?;
    if chain.is_empty() {
        return Err(RpcTlsError::NoCertificate(path.display().to_string()));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, RpcTlsError> {
    let pem = read(path)?;
    rustls_pemfile::private_key(&mut pem.as_slice())
        .map_err(|source| unreadable(path, source))?
        .ok_or_else(|| RpcTlsError::NoKey(path.display().to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, RpcTlsError> {
    std::fs::read(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: std::io::Error) -> RpcTlsError {
    let hint = match source.kind() {
        std::io::ErrorKind::NotFound => "\nHint: `phantomdb cert --help` says how to make it.",
        _ => "",
    };
    RpcTlsError::Read {
        path: path.display().to_string(),
        source,
        hint,
    }
}

/// Whether `authority` has signed `certificate`, for whatever role.
pub fn verify(
    authority: &CertificateDer<'_>,
    certificate: &CertificateDer<'_>,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    roots
        .add(authority.clone().into_owned())
        .map_err(|error| error.to_string())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())?;
    verifier
        .verify_client_cert(certificate, &[], UnixTime::now())
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The files of a folder that SQL's TLS uses if it is given none of its own.
pub fn node_files(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join(NODE_CERTIFICATE), folder.join(NODE_KEY))
}

/// Lets nodes in, and nobody else whom the authority knows.
#[derive(Debug)]
struct OnlyNodes(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for OnlyNodes {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_name(&certificate, &RpcTls::name())?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
