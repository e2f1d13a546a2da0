//! SQL on whichever node answers.

use crate::shell::connection::Connection;
use crate::shell::report;
use std::time::{Duration, Instant};
use tokio_postgres::Config;

/// How long nodes are tried before an operator is told that none answers: longer than a lease takes to pass on.
const REACH_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one node may take to answer: it asks all others first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two rounds through the nodes.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How long one node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

pub type Rows = Vec<Vec<Option<String>>>;

/// See the module.
pub struct Client {
    config: Config,
    open: Option<Connection>,
    /// `host:port` of nodes that were met.
    known: Vec<String>,
}

impl Client {
    /// Connects to the node of the URL.
    pub async fn connect(url: &str) -> Result<Client, String> {
        let mut config = Connection::config(url).map_err(|error| text(&error))?;
        config.application_name("phantomdb operator");
        config.connect_timeout(CONNECT_TIMEOUT);
        let open = Connection::open(config.clone()).await;
        let open = open.map_err(|error| format!("cannot connect: {}", text(&error)))?;
        Ok(Client {
            config,
            open: Some(open),
            known: Vec::new(),
        })
    }

    /// Nodes to go on with when the one that is connected goes away.
    pub fn remember<'a>(&mut self, addresses: impl Iterator<Item = &'a str>) {
        self.known = addresses.map(str::to_owned).collect();
    }

    /// All rows of a query, from another node if need be. What it does may be done twice.
    pub async fn query(&mut self, sql: &str) -> Result<Rows, String> {
        let began = Instant::now();
        loop {
            let failure = match &self.open {
                None => "no node answers".to_owned(),
                Some(connection) => {
                    match tokio::time::timeout(ANSWER_TIMEOUT, connection.query(sql)).await {
                        Ok(Ok(rows)) => return Ok(rows),
                        Ok(Err(error)) if is_final(&error) => {
                            return Err(report::error_text(&error, sql));
                        }
                        Ok(Err(error)) => text(&error),
                        Err(_) => format!("no answer within {ANSWER_TIMEOUT:?}"),
                    }
                }
            };
            if began.elapsed() > REACH_TIMEOUT {
                return Err(failure);
            }
            self.open = self.reconnect().await;
            if self.open.is_none() {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn reconnect(&self) -> Option<Connection> {
        if let Ok(connection) = Connection::open(self.config.clone()).await {
            return Some(connection);
        }
        for address in &self.known {
            let Some(config) = self.config_for(address) else {
                continue;
            };
            if let Ok(connection) = Connection::open(config).await {
                return Some(connection);
            }
        }
        None
    }

    /// The same role and database at another address.
    fn config_for(&self, address: &str) -> Option<Config> {
        let (host, port) = address.rsplit_once(':')?;
        let mut config = Config::new();
        config
            .host(host.trim_start_matches('[').trim_end_matches(']'))
            .port(port.parse().ok()?)
            .connect_timeout(CONNECT_TIMEOUT)
            .application_name("phantomdb operator")
            .ssl_mode(self.config.get_ssl_mode());
        if let Some(user) = self.config.get_user() {
            config.user(user);
        }
        if let Some(password) = self.config.get_password() {
            config.password(password);
        }
        if let Some(database) = self.config.get_dbname() {
            config.dbname(database);
        }
        Some(config)
    }
}

/// Another node would say the same.
fn is_final(error: &tokio_postgres::Error) -> bool {
    const PASSING: [&str; 5] = ["57P01", "57P03", "40001", "40003", "08006"];
    error
        .code()
        .is_some_and(|code| !PASSING.contains(&code.code()))
}

fn text(error: &tokio_postgres::Error) -> String {
    report::error_text(error, "")
}
