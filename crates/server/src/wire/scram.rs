//! SCRAM-SHA-256 (RFC 5802, RFC 7677) over the SASL messages of the wire protocol.
//!
//! The mechanism's arithmetic is `pgwire`'s; this module carries its messages. A role that does
//! not exist, or has no password, goes through the same exchange with a made-up secret, so that a
//! stranger cannot tell the two apart.

use crate::wire::backend::Output;
use crate::wire::frontend::Reader;
use crate::wire::input::Input;
use crate::wire::limits::MAX_AUTH_BYTES;
use crate::wire::stream::{Stream, Transport};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramSecret, ScramServerAuth};
use pgwire::error::PgWireError;
use tokio::io::AsyncWriteExt;
use types::{Error, Result, SqlState};

const MECHANISM: &str = "SCRAM-SHA-256";
const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;

/// Proves that the client knows the password behind `verifier`
/// (`SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as `pg_authid` keeps it).
/// `Ok(false)`: the client closed the connection instead.
pub async fn authenticate<S: Transport>(
    stream: &mut Stream<S>,
    input: &mut Input,
    output: &mut Output,
    user: &str,
    verifier: Option<&str>,
    certificate_pem: Option<&[u8]>,
) -> Result<bool> {
    let mut server = ScramServerAuth::new();
    if stream.is_encrypted()
        && let Some(pem) = certificate_pem
        && let Err(error) = server.configure_certificate(pem)
    {
        tracing::debug!(%error, "no channel binding with this certificate");
    }
    if server.supports_channel_binding() {
        output.authentication_sasl(&[MECHANISM_PLUS, MECHANISM]);
    } else {
        output.authentication_sasl(&[MECHANISM]);
    }
    let Some(first) = exchange(stream, input, output).await? else {
        return Ok(false);
    };
    let (mechanism, data) = initial_response(&first)?;
    if mechanism == MECHANISM && server.supports_channel_binding() && data.starts_with(b"p=")
        || mechanism == MECHANISM_PLUS && !server.supports_channel_binding()
        || !matches!(mechanism, MECHANISM | MECHANISM_PLUS)
    {
        return Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            "client selected an invalid SASL authentication mechanism",
        ));
    }
    let secret = verifier.and_then(parse_verifier).unwrap_or_else(made_up);
    let (answer, server) = server
        .on_client_first_message_with_secret(data, secret)
        .map_err(|error| scram_error(error, user))?;
    output.authentication_sasl_continue(answer.as_bytes());
    let Some(last) = exchange(stream, input, output).await? else {
        return Ok(false);
    };
    let answer = server
        .on_client_final_message(&last)
        .map_err(|error| scram_error(error, user))?;
    output.authentication_sasl_final(answer.as_bytes());
    Ok(true)
}

/// Sends what waits and receives the client's next SASL message.
async fn exchange<S: Transport>(
    stream: &mut Stream<S>,
    input: &mut Input,
    output: &mut Output,
) -> Result<Option<Bytes>> {
    let sent = stream.write_all(output.bytes()).await;
    output.clear();
    if sent.is_err() || stream.flush().await.is_err() {
        return Ok(None);
    }
    loop {
        if let Some(message) = input.next_auth(MAX_AUTH_BYTES)? {
            return Ok(Some(message));
        }
        if !matches!(input.fill(stream).await, Ok(true)) {
            return Ok(None);
        }
    }
}

fn initial_response(message: &Bytes) -> Result<(&str, &[u8])> {
    let mut reader = Reader::new(message);
    let mechanism = reader.text()?;
    let len = reader.u32()?;
    let data = reader.rest();
    if usize::try_from(len) != Ok(data.len()) {
        return Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            "malformed SASL initial response",
        ));
    }
    Ok((mechanism, data))
}

/// Whether the text is a verifier this module can use.
pub fn is_verifier(text: &str) -> bool {
    parse_verifier(text).is_some()
}

fn parse_verifier(text: &str) -> Option<ScramSecret> {
    let (mechanism, rest) = text.split_once('$')?;
    let (cost, keys) = rest.split_once('$')?;
    let (iterations, salt) = cost.split_once(':')?;
    let (stored_key, server_key) = keys.split_once(':')?;
    let stored_key = STANDARD.decode(stored_key).ok()?;
    let server_key = STANDARD.decode(server_key).ok()?;
    let whole =
        mechanism == MECHANISM && stored_key.len() == HASH_BYTES && server_key.len() == HASH_BYTES;
    whole.then_some(ScramSecret::Verifier {
        salt: STANDARD.decode(salt).ok()?,
        iterations: iterations.parse().ok().filter(|n| *n > 0)?,
        stored_key,
        server_key,
    })
}

/// A secret that no password fits.
fn made_up() -> ScramSecret {
    ScramSecret::Verifier {
        salt: rand::random::<[u8; SALT_BYTES]>().to_vec(),
        iterations: SCRAM_ITERATIONS,
        stored_key: rand::random::<[u8; HASH_BYTES]>().to_vec(),
        server_key: rand::random::<[u8; HASH_BYTES]>().to_vec(),
    }
}

fn scram_error(error: PgWireError, user: &str) -> Error {
    match error {
        PgWireError::InvalidPassword(_) => Error::new(
            SqlState::INVALID_PASSWORD,
            format!("password authentication failed for user \"{user}\""),
        ),
        other => Error::new(SqlState::PROTOCOL_VIOLATION, "malformed SCRAM message")
            .detail(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_verifiers() {
        let good = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$\
                    MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=:\
                    MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        assert!(is_verifier(good));
        for bad in [
            "",
            "md5abc",
            "SCRAM-SHA-256$4096:salt",
            "SCRAM-SHA-256$0:c2FsdA==$MDE=:MDE=",
            &good.replace("256$", "512$"),
        ] {
            assert!(!is_verifier(bad), "{bad}");
        }
    }
}
