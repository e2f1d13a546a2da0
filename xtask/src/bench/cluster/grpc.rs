//! etcd's own protocol, as far as a put needs it: one gRPC call over HTTP/2.
//!
//! The message is two byte strings, so it is written by hand (`PutRequest` in etcd's `rpc.proto`: key = 1, value = 2;
//! the encoding and the frame are described in the protobuf and gRPC documentation).

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Tags of length-delimited fields.
const KEY_TAG: u8 = 1 << 3 | 2;
const VALUE_TAG: u8 = 2 << 3 | 2;

/// One connection; dropping it closes it.
pub struct Channel {
    requests: SendRequest<Bytes>,
    driver: JoinHandle<()>,
    uri: String,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Channel {
    pub async fn connect(endpoint: SocketAddr) -> Result<Channel> {
        let stream = TcpStream::connect(endpoint).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        let driver = tokio::spawn(async move {
            // A broken connection reaches whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Channel {
            requests,
            driver,
            uri: format!("http://{endpoint}/etcdserverpb.KV/Put"),
        })
    }

    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let request = http::Request::post(&self.uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut ready = self.requests.clone().ready().await?;
        let (response, mut body) = ready.send_request(request, false)?;
        body.send_data(put_frame(key, value), true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "HTTP {}", response.status());
        let status_at_once = response.headers().get("grpc-status").cloned();
        let mut answer = response.into_body();
        while let Some(chunk) = answer.data().await {
            let length = chunk?.len();
            answer.flow_control().release_capacity(length)?;
        }
        let trailers = answer.trailers().await?;
        let status = trailers
            .as_ref()
            .and_then(|trailers| trailers.get("grpc-status").cloned())
            .or(status_at_once)
            .context("an answer without status")?;
        if status != "0" {
            let message = trailers
                .as_ref()
                .and_then(|trailers| trailers.get("grpc-message"))
                .map(|message| String::from_utf8_lossy(message.as_bytes()).into_owned());
            bail!("gRPC status {status:?}: {}", message.unwrap_or_default());
        }
        Ok(())
    }
}

/// The message behind its gRPC header: not compressed, four bytes of length.
fn put_frame(key: &[u8], value: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    for (tag, bytes) in [(KEY_TAG, key), (VALUE_TAG, value)] {
        message.put_u8(tag);
        put_varint(&mut message, bytes.len());
        message.put_slice(bytes);
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_what_protobuf_writes() {
        // echo 'key: "k" value: "vv"' | protoc --encode … gives 0a 01 6b 12 02 76 76.
        let frame = put_frame(b"k", b"vv");
        assert_eq!(&frame[..], b"\x00\x00\x00\x00\x07\x0a\x01k\x12\x02vv");
        let long = put_frame(b"", &[0; 300]);
        assert_eq!(&long[5..10], b"\x0a\x00\x12\xac\x02");
    }
}
