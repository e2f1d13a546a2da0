//! Passwords as SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), in the text form of PostgreSQL's
//! `pg_authid.rolpassword`: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use types::{Error, Result};

/// PostgreSQL's default of `scram_iterations`.
pub const ITERATIONS: u32 = 4096;
pub const SALT_BYTES: usize = 16;

type HmacSha256 = Hmac<Sha256>;

fn hmac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; 32]> {
    let mut mac = HmacSha256::new_from_slice(key)
        .map_err(|_| Error::internal("a password cannot be a key"))?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().into())
}

/// PBKDF2 with HMAC-SHA-256 and one block of output: RFC 5802's `Hi`.
pub fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Result<[u8; 32]> {
    let prepared = prepare(password);
    let mut block = hmac(prepared.as_bytes(), &[salt, &1u32.to_be_bytes()])?;
    let mut out = block;
    for _ in 1..iterations {
        block = hmac(prepared.as_bytes(), &[&block])?;
        for (byte, next) in out.iter_mut().zip(block) {
            *byte ^= next;
        }
    }
    Ok(out)
}

/// SASLprep; a password that it refuses is taken as it is, as PostgreSQL does.
fn prepare(password: &str) -> String {
    stringprep::saslprep(password).map_or_else(|_| password.to_string(), |text| text.into_owned())
}

/// The verifier to store for a password.
pub fn verifier(password: &str, salt: &[u8], iterations: u32) -> Result<String> {
    let salted = salted_password(password, salt, iterations)?;
    let client_key = hmac(&salted, &[b"Client Key"])?;
    let stored_key: [u8; 32] = Sha256::digest(client_key).into();
    let server_key = hmac(&salted, &[b"Server Key"])?;
    Ok(format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key)
    ))
}

/// What a server needs of a verifier to check a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

impl Verifier {
    /// Reads the text form; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Verifier> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        Some(Verifier {
            iterations: iterations.parse().ok().filter(|n| *n > 0)?,
            salt: STANDARD.decode(salt).ok()?,
            stored_key: STANDARD.decode(stored).ok()?.try_into().ok()?,
            server_key: STANDARD.decode(server).ok()?.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange that RFC 7677 shows, recomputed from its password, salt and iterations.
    #[test]
    fn the_example_of_the_rfc() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let text = verifier("pencil", &salt, 4096).unwrap();
        let read = Verifier::parse(&text).unwrap();
        assert_eq!(read.salt, salt);
        let auth_message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = hmac(&read.server_key, &[auth_message.as_bytes()]).unwrap();
        assert_eq!(
            STANDARD.encode(signature),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn other_texts_are_not_verifiers() {
        for text in [
            "",
            "md5abc",
            "SCRAM-SHA-256$0:AA==$AA==:AA==",
            "SCRAM-SHA-256$x",
        ] {
            assert_eq!(Verifier::parse(text), None);
        }
    }
}
