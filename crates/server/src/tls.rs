//! TLS for clients: a certificate chain and a key in PEM files.

use std::path::Path;
use std::sync::Arc;
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};

pub struct Tls {
    pub acceptor: TlsAcceptor,
    /// As read from the file: SCRAM binds its proof to the certificate.
    pub certificate_pem: Vec<u8>,
}

#[derive(Debug, Error)]
pub enum TlsError {
    #[error("cannot read {path}: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("{0} holds no certificate in PEM form")]
    NoCertificate(String),
    #[error("{0} holds no private key in PEM form")]
    NoKey(String),
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    pub fn load(certificate: &Path, key: &Path) -> Result<Tls, TlsError> {
        let certificate_pem = read(certificate)?;
        let key_pem = read(key)?;
        let chain = rustls_pemfile::certs(&mut certificate_pem.as_slice())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| unreadable(certificate, source))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(certificate.display().to_string()));
        }
        let private_key = rustls_pemfile::private_key(&mut key_pem.as_slice())
            .map_err(|source| unreadable(key, source))?
            .ok_or_else(|| TlsError::NoKey(key.display().to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, private_key)?;
        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate_pem,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: std::io::Error) -> TlsError {
    TlsError::Read {
        path: path.display().to_string(),
        source,
    }
}
