//! The command line.

use crate::config::{Address, Bytes, Period};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(
    name = "phantomdb",
    version,
    about = "A distributed SQL database that speaks PostgreSQL",
    arg_required_else_help = true,
    after_help = "Examples:
  phantomdb demo                          a node with sample data, and a SQL shell on it
  phantomdb start --data ./data           a node; connect with any PostgreSQL client
  phantomdb sql                           a SQL shell on the node of this machine
  phantomdb sql -e 'SELECT version()'     one statement, then exit"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Start(Box<StartArgs>),
    /// Run a node with sample data in a temporary folder, and open a SQL shell on it
    Demo(DemoArgs),
    /// Open a SQL shell, or run statements
    Sql(SqlArgs),
    /// Print the version
    Version,
}

#[derive(Clone, Debug, Default, Args)]
#[command(after_help = "Examples:
  phantomdb start
  phantomdb start --data /var/lib/phantomdb --cache-size 1GiB
  phantomdb start --sql-addr 0.0.0.0:5450 --tls-cert server.crt --tls-key server.key
  phantomdb start --config phantomdb.toml

A configuration file has the same names:
  data = \"/var/lib/phantomdb\"
  sql-addr = \"127.0.0.1:5450\"
  cache-size = \"1GiB\"
  gc-ttl = \"4h\"

Clients on this machine need no password. Another listen address than a loopback one needs
TLS and a role with a password (CREATE ROLE ann LOGIN PASSWORD '…'), or --insecure.")]
pub struct StartArgs {
    /// Folder of the data; made if it is not there [default: ./phantomdb-data]
    #[arg(long, value_name = "DIR", env = "PHANTOMDB_DATA")]
    pub data: Option<PathBuf>,

    /// Address for PostgreSQL clients [default: 127.0.0.1:5450]
    #[arg(long, value_name = "ADDR", env = "PHANTOMDB_SQL_ADDR")]
    pub sql_addr: Option<Address>,

    /// Address for other nodes; not opened before there are any [default: 127.0.0.1:5451]
    #[arg(long, value_name = "ADDR", env = "PHANTOMDB_RPC_ADDR")]
    pub rpc_addr: Option<Address>,

    /// Address for /health, /ready and /metrics, or `none` [default: 127.0.0.1:5452]
    #[arg(long, value_name = "ADDR", env = "PHANTOMDB_HTTP_ADDR")]
    pub http_addr: Option<Address>,

    /// Configuration file (TOML); the command line wins over it
    #[arg(long, value_name = "FILE", env = "PHANTOMDB_CONFIG")]
    pub config: Option<PathBuf>,

    /// Memory for blocks read from disk [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "PHANTOMDB_CACHE_SIZE")]
    pub cache_size: Option<Bytes>,

    /// Memory for columns of tables that queries have read, kept for the next query; it counts
    /// as memory of statements, which take it back when they need it; 0: keep none [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "PHANTOMDB_COLUMN_CACHE_SIZE")]
    pub column_cache_size: Option<Bytes>,

    /// Memory for running statements and buffered writes [default: 4GiB]
    #[arg(long, value_name = "SIZE", env = "PHANTOMDB_MEMORY_LIMIT")]
    pub memory_limit: Option<Bytes>,

    /// Most sessions at a time [default: 1000]
    #[arg(long, value_name = "N", env = "PHANTOMDB_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,

    /// How long old versions of rows are kept [default: 4h]
    #[arg(long, value_name = "TIME", env = "PHANTOMDB_GC_TTL")]
    pub gc_ttl: Option<Period>,

    /// Certificate chain for TLS, a PEM file
    #[arg(long, value_name = "FILE", env = "PHANTOMDB_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// Private key for TLS, a PEM file
    #[arg(long, value_name = "FILE", env = "PHANTOMDB_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// Let everybody in without a password, from any machine
    #[arg(long)]
    pub insecure: bool,

    /// Stop when the standard input ends: a parent's node does not outlive it
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,

    /// What to log on stderr: error, warn, info, debug, or a filter like node=debug [default: warn]
    #[arg(long, value_name = "LEVEL", env = "PHANTOMDB_LOG")]
    pub log: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  phantomdb demo
  phantomdb demo --keep
  echo 'SELECT count(*) FROM orders;' | phantomdb demo")]
pub struct DemoArgs {
    /// Number of nodes; more than one is not there yet
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: u32,

    /// Leave the folder in place on exit
    #[arg(long)]
    pub keep: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  phantomdb sql
  phantomdb sql postgres://ann@db.example.com:5450/shop
  phantomdb sql -e 'SELECT 1' -e 'SELECT 2'
  phantomdb sql -f schema.sql
  cat schema.sql | phantomdb sql

With -e, -f or a pipe, the first error ends the run with exit code 1.")]
pub struct SqlArgs {
    /// Where to connect
    #[arg(
        value_name = "URL",
        env = "PHANTOMDB_URL",
        default_value = "postgres://phantom@127.0.0.1:5450/phantom"
    )]
    pub url: String,

    /// Run this statement and exit; may be given several times
    #[arg(short = 'e', long, value_name = "SQL")]
    pub execute: Vec<String>,

    /// Run the statements of this file and exit; may be given several times
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }
}
