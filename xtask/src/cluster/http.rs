//! One HTTP request, as small as a health check.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A health check that takes longer says that the node is not healthy.
const LIMIT: Duration = Duration::from_secs(2);
/// The longest answer that is read, in bytes; metrics of a node are some 100 KiB.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Status code and body of a GET.
pub async fn get(host: &str, port: u16, path: &str) -> Result<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(LIMIT, asked)
        .await
        .with_context(|| format!("GET {path}: no answer within {LIMIT:?}"))??;
    parse(&answer).with_context(|| format!("GET {path}: not HTTP"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_taken_apart() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nno quorum";
        assert_eq!(parse(answer), Some((503, "no quorum".to_owned())));
        assert_eq!(parse("SSH-2.0"), None);
    }
}
