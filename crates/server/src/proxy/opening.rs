//! The first packets of a client, up to the one that says what it wants.

use crate::wire::input::Input;
use crate::wire::startup::{
    CANCEL_REQUEST, GSSENC_REQUEST, Refusal, SSL_REQUEST, encrypt, next_packet,
};
use crate::wire::stream::Stream;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// What a client that asks for TLS is told.
#[derive(Clone, Copy)]
pub enum Encryption<'a> {
    /// There is none.
    None,
    /// It ends here.
    Here(&'a TlsAcceptor),
    /// It is for a node to answer.
    Nodes,
}

/// What a client wants.
pub enum Opening {
    Session(Client),
    /// It wants TLS with a node.
    NodesTls(TcpStream, Input),
    /// A CancelRequest with its length.
    Cancel(Stream<TcpStream>, Vec<u8>),
    /// Closed before it said.
    Closed,
}

/// A client with its first words to a node.
pub struct Client {
    pub stream: Stream<TcpStream>,
    /// The StartupMessage with its length.
    pub startup: Vec<u8>,
    /// What it has sent already after that.
    pub rest: Vec<u8>,
}

/// Goes through encryption requests to the packet that says what the connection is for.
pub async fn open(
    stream: TcpStream,
    mut input: Input,
    encryption: Encryption<'_>,
) -> Result<Opening, Refusal<TcpStream>> {
    let mut stream = Stream::Plain(stream);
    let (mut asked_tls, mut asked_gss) = (false, false);
    loop {
        let packet = match next_packet(&mut stream, &mut input).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Opening::Closed),
            Err(error) => return Err(Refusal::Told(stream, error)),
        };
        let code = packet
            .first_chunk()
            .map_or(0, |code| u32::from_be_bytes(*code));
        match (code, encryption) {
            (SSL_REQUEST, Encryption::Here(acceptor)) if !asked_tls => {
                asked_tls = true;
                send(&mut stream, b"S").await?;
                stream = encrypt(stream, &input, acceptor).await?;
            }
            (SSL_REQUEST, Encryption::None) if !asked_tls => {
                asked_tls = true;
                send(&mut stream, b"N").await?;
            }
            (SSL_REQUEST, Encryption::Nodes) if !asked_tls => {
                return match stream {
                    Stream::Plain(stream) => Ok(Opening::NodesTls(stream, input)),
                    Stream::Tls(_) => Err(Refusal::Silent),
                };
            }
            (GSSENC_REQUEST, _) if !asked_gss => {
                asked_gss = true;
                send(&mut stream, b"N").await?;
            }
            (CANCEL_REQUEST, _) => return Ok(Opening::Cancel(stream, with_length(&packet))),
            _ => {
                return Ok(Opening::Session(Client {
                    stream,
                    startup: with_length(&packet),
                    rest: input.take_rest().to_vec(),
                }));
            }
        }
    }
}

async fn send(stream: &mut Stream<TcpStream>, answer: &[u8]) -> Result<(), Refusal<TcpStream>> {
    stream
        .write_all(answer)
        .await
        .map_err(|_| Refusal::Silent)?;
    stream.flush().await.map_err(|_| Refusal::Silent)
}

/// The packet as it stands in the stream.
fn with_length(packet: &[u8]) -> Vec<u8> {
    let length = packet.len() as u32 + 4;
    [&length.to_be_bytes(), packet].concat()
}
