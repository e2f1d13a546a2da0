//! The first packets of a connection: encryption, cancel request or startup parameters.
//!
//! ```text
//! SSLRequest ──► 'S' + TLS handshake, or 'N' ─┐
//! GSSENCRequest ──► 'N' ──────────────────────┼──► StartupMessage ──► authentication
//! CancelRequest ──► the other session is told, the connection closes
//! ```

use crate::wire::backend::Output;
use crate::wire::frontend::Reader;
use crate::wire::input::Input;
use crate::wire::limits::MAX_STARTUP_BYTES;
use crate::wire::stream::{Stream, Transport};
use bytes::Bytes;
use sql::instance::StartupParams;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;
use types::{Error, Result, SqlState};

/// The codes that stand in the version's place of special packets.
pub const CANCEL_REQUEST: u32 = 80_877_102;
pub const SSL_REQUEST: u32 = 80_877_103;
pub const GSSENC_REQUEST: u32 = 80_877_104;

const PROTOCOL_MAJOR: u32 = 3;
/// The newest minor version spoken here. 3.2 only adds longer cancel keys.
const PROTOCOL_MINOR: u32 = 0;

/// What the client wants of the connection.
#[derive(Debug)]
pub enum Opening {
    Session(StartupParams),
    Cancel {
        pid: i32,
        secret: i32,
    },
    /// Closed before it said.
    Closed,
}

/// Why a connection does not get to its startup.
pub enum Refusal<S> {
    /// To be told as FATAL.
    Told(Stream<S>, Error),
    /// There is nobody to tell, or no common language.
    Silent,
}

/// Goes through encryption requests to the packet that says what the connection is for.
pub async fn open<S: Transport>(
    stream: S,
    input: &mut Input,
    output: &mut Output,
    tls: Option<&TlsAcceptor>,
) -> Result<(Stream<S>, Opening), Refusal<S>> {
    let mut stream = Stream::Plain(stream);
    let (mut asked_tls, mut asked_gss) = (false, false);
    loop {
        let packet = match next_packet(&mut stream, input).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok((stream, Opening::Closed)),
            Err(error) => return Err(Refusal::Told(stream, error)),
        };
        let code = Reader::new(&packet).u32().unwrap_or(0);
        match code {
            SSL_REQUEST if !asked_tls => {
                asked_tls = true;
                output.encryption_answer(tls.is_some());
                send(&mut stream, output).await?;
                if let (Some(acceptor), Stream::Plain(_)) = (tls, &stream) {
                    stream = encrypt(stream, input, acceptor).await?;
                }
            }
            GSSENC_REQUEST if !asked_gss => {
                asked_gss = true;
                output.encryption_answer(false);
                send(&mut stream, output).await?;
            }
            CANCEL_REQUEST => {
                return match cancel_request(&packet) {
                    Ok(cancel) => Ok((stream, cancel)),
                    Err(_) => Err(Refusal::Silent),
                };
            }
            _ => {
                return match startup(&packet, output) {
                    Ok(parameters) => Ok((stream, Opening::Session(parameters))),
                    Err(error) => Err(Refusal::Told(stream, error)),
                };
            }
        }
    }
}

/// Takes a client's side of TLS after `S` was answered.
pub async fn encrypt<S: Transport>(
    stream: Stream<S>,
    input: &Input,
    acceptor: &TlsAcceptor,
) -> Result<Stream<S>, Refusal<S>> {
    if !input.is_empty() {
        // Bytes sent in the clear must not pass for encrypted ones.
        let error = Error::new(
            SqlState::PROTOCOL_VIOLATION,
            "received unencrypted data after SSL request",
        );
        return Err(Refusal::Told(stream, error));
    }
    let Stream::Plain(plain) = stream else {
        return Ok(stream);
    };
    match acceptor.accept(plain).await {
        Ok(encrypted) => Ok(Stream::Tls(Box::new(encrypted.into()))),
        Err(error) => {
            tracing::info!(%error, "TLS handshake failed");
            Err(Refusal::Silent)
        }
    }
}

/// The next packet of the startup phase. None: the client is gone.
pub async fn next_packet<S: Transport>(
    stream: &mut Stream<S>,
    input: &mut Input,
) -> Result<Option<Bytes>> {
    loop {
        if let Some(packet) = input.next_startup(MAX_STARTUP_BYTES)? {
            return Ok(Some(packet));
        }
        if !matches!(input.fill(stream).await, Ok(true)) {
            return Ok(None);
        }
    }
}

async fn send<S: Transport>(stream: &mut Stream<S>, output: &mut Output) -> Result<(), Refusal<S>> {
    let sent = stream.write_all(output.bytes()).await;
    output.clear();
    sent.map_err(|_| Refusal::Silent)
}

fn cancel_request(packet: &Bytes) -> Result<Opening> {
    let mut reader = Reader::new(packet);
    reader.u32()?;
    let (pid, secret) = (reader.u32()? as i32, reader.u32()? as i32);
    reader.finish()?;
    Ok(Opening::Cancel { pid, secret })
}

/// Decodes a StartupMessage. Writes NegotiateProtocolVersion if the client asks for more than 3.0.
fn startup(packet: &Bytes, output: &mut Output) -> Result<StartupParams> {
    let mut reader = Reader::new(packet);
    let version = reader.u32()?;
    let (major, minor) = (version >> 16, version & 0xffff);
    if major != PROTOCOL_MAJOR {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "unsupported frontend protocol {major}.{minor}: server supports \
                 {PROTOCOL_MAJOR}.0 to {PROTOCOL_MAJOR}.{PROTOCOL_MINOR}"
            ),
        ));
    }
    let mut parameters = StartupParams::default();
    let mut unknown_extensions = Vec::new();
    loop {
        let name = reader.text()?;
        if name.is_empty() {
            break;
        }
        let value = reader.text()?;
        match name {
            "user" => parameters.user = value.to_string(),
            "database" => parameters.database = value.to_string(),
            "application_name" => parameters.application_name = value.to_string(),
            "options" => parameters.options.extend(command_line_options(value)?),
            "replication" => {
                if !matches!(value, "false" | "off" | "no" | "0") {
                    return Err(Error::unsupported("the replication protocol"));
                }
            }
            name if name.starts_with("_pq_.") => unknown_extensions.push(name.to_string()),
            name => parameters
                .options
                .push((name.to_string(), value.to_string())),
        }
    }
    if !reader.is_empty() {
        return Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            "invalid startup packet layout: expected terminator as last byte",
        ));
    }
    if minor > PROTOCOL_MINOR || !unknown_extensions.is_empty() {
        let newest = (PROTOCOL_MAJOR << 16 | PROTOCOL_MINOR) as i32;
        output.negotiate_protocol_version(newest, &unknown_extensions);
    }
    if parameters.user.is_empty() {
        return Err(Error::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    Ok(parameters)
}

/// `-c name=value`, `-cname=value` and `--name=value`, as the server's command line would take
/// them. A backslash keeps the next character (a space, say) from its meaning.
fn command_line_options(text: &str) -> Result<Vec<(String, String)>> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);

    let mut options = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--")
                .or_else(|| word.strip_prefix("-c"))
                .map(str::to_string)
        };
        let pair = setting.as_deref().and_then(|s| s.split_once('='));
        let Some((name, value)) = pair else {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                format!("invalid command-line argument for server process: {word}"),
            ));
        };
        options.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u32, pairs: &[(&str, &str)]) -> Bytes {
        let mut bytes = version.to_be_bytes().to_vec();
        for (name, value) in pairs {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        bytes.push(0);
        bytes.into()
    }

    #[test]
    fn reads_parameters_and_options() {
        let mut output = Output::default();
        let packet = packet(
            0x30000,
            &[
                ("user", "ann"),
                ("options", r"-c search_path=a,\ b --statement-timeout=5s"),
                ("DateStyle", "ISO"),
            ],
        );
        let parameters = startup(&packet, &mut output).expect("well formed");
        assert_eq!(parameters.database, "");
        let options: Vec<(&str, &str)> = parameters
            .options
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            options,
            [
                ("search_path", "a, b"),
                ("statement_timeout", "5s"),
                ("DateStyle", "ISO")
            ]
        );
        assert!(output.is_empty());
    }

    #[test]
    fn negotiates_down() {
        let mut output = Output::default();
        let packet = packet(0x30002, &[("user", "ann"), ("_pq_.magic", "1")]);
        startup(&packet, &mut output).expect("a newer minor version is no error");
        assert_eq!(output.bytes()[0], b'v');
        assert!(output.bytes().ends_with(b"_pq_.magic\0"));
    }

    #[test]
    fn refuses_other_major_versions_and_missing_user() {
        let mut output = Output::default();
        let old = startup(&packet(0x20000, &[]), &mut output).expect_err("version 2");
        assert_eq!(old.state, SqlState::FEATURE_NOT_SUPPORTED);
        let nobody = startup(&packet(0x30000, &[("database", "d")]), &mut output);
        assert_eq!(
            nobody.expect_err("no user").state,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        );
    }
}
