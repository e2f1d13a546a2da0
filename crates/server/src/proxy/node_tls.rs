//! Connections from the proxy to nodes: TCP with keepalive, and TLS where it is wanted.
//!
//! No TCP user timeout is set, although it would tell a dead machine sooner: the kernel also ends a connection
//! by it whose other side is alive and has not read for so long, as a node does with a client that sends far
//! ahead of a long statement. Probes tell death (`health`), keepalive what they do not.

use crate::proxy::limits::{
    CONNECT_TIMEOUT, NODE_KEEPALIVE_COUNT, NODE_KEEPALIVE_IDLE, NODE_KEEPALIVE_INTERVAL,
};
use crate::tls::TlsError;
use crate::wire::startup::SSL_REQUEST;
use crate::wire::{is_loopback, stream::Stream};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// When connections to nodes are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NodeTlsMode {
    /// To nodes on other machines that offer it
    #[default]
    Auto,
    /// Never
    Off,
    /// Always; a node that does not offer it is not used
    Require,
}

/// See the module.
pub struct NodeTls {
    mode: NodeTlsMode,
    connector: TlsConnector,
}

/// SSLRequest, as it stands in the stream.
pub fn ssl_request() -> [u8; 8] {
    let mut packet = [0, 0, 0, 8, 0, 0, 0, 0];
    packet[4..].copy_from_slice(&SSL_REQUEST.to_be_bytes());
    packet
}

impl NodeTls {
    /// With `ca`, a PEM file, nodes must prove that they are who their address says, and TLS is a must. Without
    /// it any certificate does: the connection is safe from listeners, not from impostors.
    pub fn new(mode: NodeTlsMode, ca: Option<&Path>) -> Result<Self, TlsError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let (mode, config) = match ca {
            Some(path) => {
                let roots = builder.with_root_certificates(roots(path)?);
                (NodeTlsMode::Require, roots.with_no_client_auth())
            }
            None => {
                let anybody = Arc::new(AnyCertificate(provider));
                let verifier = builder
                    .dangerous()
                    .with_custom_certificate_verifier(anybody);
                (mode, verifier.with_no_client_auth())
            }
        };
        Ok(NodeTls {
            mode,
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Connects to a node, and encrypts by the mode. Bounded in time.
    pub async fn dial(&self, address: &str) -> io::Result<Stream<TcpStream>> {
        let dialled = async {
            let stream = connect(address).await?;
            let wanted = match self.mode {
                NodeTlsMode::Off => false,
                NodeTlsMode::Auto => !is_loopback(stream.peer_addr()?.ip()),
                NodeTlsMode::Require => true,
            };
            if wanted {
                self.encrypt(stream, address).await
            } else {
                Ok(Stream::Plain(stream))
            }
        };
        within(CONNECT_TIMEOUT, dialled).await
    }

    async fn encrypt(&self, mut stream: TcpStream, address: &str) -> io::Result<Stream<TcpStream>> {
        stream.write_all(&ssl_request()).await?;
        match stream.read_u8().await? {
            b'S' => {}
            b'N' if self.mode == NodeTlsMode::Auto => return Ok(Stream::Plain(stream)),
            _ => return Err(io::Error::other("the node does not offer TLS")),
        }
        let encrypted = self
            .connector
            .connect(server_name(address)?, stream)
            .await?;
        Ok(Stream::Tls(Box::new(encrypted.into())))
    }
}

/// TCP to a node, in the clear. Bounded in time.
pub async fn dial_plain(address: &str) -> io::Result<TcpStream> {
    within(CONNECT_TIMEOUT, connect(address)).await
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(NODE_KEEPALIVE_IDLE)
        .with_interval(NODE_KEEPALIVE_INTERVAL)
        .with_retries(NODE_KEEPALIVE_COUNT);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

async fn within<T>(
    bound: std::time::Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout(bound, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {bound:?}"),
        )),
    }
}

/// The host of `host:port`, an IPv6 address without its brackets.
fn server_name(address: &str) -> io::Result<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_string()).map_err(io::Error::other)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let unreadable = |source| TlsError::Read {
        path: path.display().to_string(),
        source,
    };
    let pem = std::fs::read(path).map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
        roots.add(certificate.map_err(unreadable)?)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoCertificate(path.display().to_string()));
    }
    Ok(roots)
}

/// Takes every certificate; the handshake's signature must be right all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hosts_without_ports() {
        for (address, host) in [
            ("db1.example.com:5450", "db1.example.com"),
            ("10.0.0.1:5450", "10.0.0.1"),
            ("[::1]:5450", "::1"),
        ] {
            let name = server_name(address).expect("a name");
            assert_eq!(name.to_str(), host);
        }
    }
}
