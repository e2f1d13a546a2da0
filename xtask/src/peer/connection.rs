//! A wire connection for tasks: `tokio-postgres` with its connection task kept beside the client.

use std::error::Error as _;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error, NoTls};

/// A start-up that takes longer than this is a failure of the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client together with the task that moves its bytes; dropping it closes the connection.
pub struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Deref for Session {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects; the error is the driver's own, for those who look at its kind.
pub async fn try_connect(dsn: &str) -> Result<Session, Error> {
    let mut config: Config = dsn.parse()?;
    config.connect_timeout(CONNECT_TIMEOUT);
    let (client, connection) = config.connect(NoTls).await?;
    let driver = tokio::spawn(async move {
        // A broken connection reaches whoever uses the client; here it is only the end of the task.
        let _ = connection.await;
    });
    Ok(Session { client, driver })
}

/// Connects, with an error for a person.
pub async fn connect(dsn: &str) -> Result<Session> {
    try_connect(dsn)
        .await
        .map_err(|error| anyhow!(describe(&error)))
        .with_context(|| format!("cannot connect to {dsn}"))
}

/// What went wrong: SQLSTATE and message where the server spoke, else the whole chain of causes.
pub fn describe(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{}: {}", db.code().code(), db.message());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// The SQLSTATE, where the server spoke.
pub fn sqlstate(error: &Error) -> Option<&str> {
    error.code().map(|code| code.code())
}
