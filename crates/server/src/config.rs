//! What a node is started with: defaults, then the file, then the environment, then the command
//! line; the later wins.

use crate::cli::StartArgs;
use crate::discovery::settings::{
    Advertised, ClusterFile, ClusterName, ClusterSettings, Discover, JoinList, Text,
};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;
use types::Locality;

const DEFAULT_DATA: &str = "phantomdb-data";
const DEFAULT_SQL_ADDR: &str = "127.0.0.1:5450";
const DEFAULT_RPC_ADDR: &str = "127.0.0.1:5451";
const DEFAULT_HTTP_ADDR: &str = "127.0.0.1:5452";

/// Decompressed blocks kept in memory.
const DEFAULT_CACHE: Bytes = Bytes(storage::CACHE_DEFAULT_BYTES);
/// Decoded columns kept between queries: those in use of some million rows. An idle node has none.
const DEFAULT_COLUMN_CACHE: Bytes = Bytes(256 << 20);
/// Memory of statements that sort, join or aggregate, and of buffered writes, all together.
const DEFAULT_MEMORY_LIMIT: Bytes = Bytes(4 << 30);
/// PostgreSQL's default is 100; a session here is a task, not a process.
const DEFAULT_MAX_CONNECTIONS: usize = 1000;
/// How far back a snapshot may reach.
const DEFAULT_GC_TTL: Period = Period(Duration::from_secs(4 * 3600));
const DEFAULT_LOG: &str = "warn";

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub data: PathBuf,
    pub sql_addr: SocketAddr,
    /// For other nodes.
    pub rpc_addr: SocketAddr,
    pub rpc_addr_is_given: bool,
    pub cluster: ClusterSettings,
    /// `ca.crt`, `node.crt` and `node.key`.
    pub certs_dir: Option<PathBuf>,
    /// `None`: no HTTP.
    pub http_addr: Option<SocketAddr>,
    pub cache_bytes: u64,
    /// A part of the statements' memory.
    pub column_cache_bytes: u64,
    pub memory_limit_bytes: u64,
    pub max_connections: usize,
    pub max_message_bytes: usize,
    pub gc_ttl: Duration,
    /// Of the scrub, in a second.
    pub scrub_bytes: u64,
    /// A larger shard is split; 0: none is.
    pub shard_max_bytes: u64,
    /// A store that is too damaged to be opened is set aside, and the node begins as a new one.
    pub replace_damaged_store: bool,
    /// Certificate and key for SQL clients, PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub insecure: bool,
    /// Stop when the standard input ends.
    pub until_stdin_ends: bool,
    /// A `tracing` filter.
    pub log: String,
}

/// The file's layout: every key is optional, unknown ones are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    data: Option<PathBuf>,
    sql_addr: Option<Address>,
    rpc_addr: Option<Address>,
    certs_dir: Option<PathBuf>,
    http_addr: Option<Address>,
    cache_size: Option<Bytes>,
    column_cache_size: Option<Bytes>,
    memory_limit: Option<Bytes>,
    max_connections: Option<usize>,
    max_message_size: Option<Bytes>,
    gc_ttl: Option<Period>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    insecure: Option<bool>,
    log: Option<String>,
    join: Option<JoinList>,
    discover: Option<Discover>,
    cluster_name: Option<ClusterName>,
    bootstrap: Option<bool>,
    locality: Option<Text<Locality>>,
    advertise_addr: Option<Advertised>,
    advertise_sql_addr: Option<Advertised>,
    max_clock_offset: Option<Period>,
    time_until_dead: Option<Period>,
    unavailable_after: Option<Period>,
    scrub_rate: Option<Bytes>,
    shard_max_bytes: Option<Bytes>,
}

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("{path}: {source}")]
    Parse {
        path: String,
        source: Box<toml::de::Error>,
    },
    #[error("--tls-cert and --tls-key come together")]
    HalfOfTls,
    #[error("{0} must be at least {1}")]
    TooSmall(&'static str, &'static str),
    #[error("--sql-addr must be an address; only --http-addr may be none")]
    NoSqlAddress,
    #[error(
        "--replace-damaged-store needs --join or --discover, and no --bootstrap: the data comes from other nodes"
    )]
    NobodyToCopyFrom,
    #[error("{0}")]
    Cluster(String),
}

fn default_shard_bytes() -> u64 {
    node::ManagerOptions::default().shard_max_bytes
}

fn default_scrub_bytes() -> u64 {
    node::scrub::ScrubOptions::default().bytes_a_second
}

impl Config {
    pub fn load(args: &StartArgs) -> Result<Config, ConfigError> {
        let file = match &args.config {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        Config::merge(args, file)
    }

    fn merge(args: &StartArgs, mut file: File) -> Result<Config, ConfigError> {
        let cluster = ClusterSettings::merge(&args.cluster, file.take_cluster());
        let address = |given: &Option<Address>, file: Option<Address>, default: &str| {
            given
                .clone()
                .or(file)
                .or_else(|| default.parse().ok())
                .unwrap_or(Address(None))
        };
        let certs_dir = args.certs_dir.clone().or(file.certs_dir);
        let tls_cert = args.tls_cert.clone().or(file.tls_cert);
        let tls_key = args.tls_key.clone().or(file.tls_key);
        let tls = match (tls_cert, tls_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => certs_dir.as_deref().map(crate::rpc::tls::node_files),
            _ => return Err(ConfigError::HalfOfTls),
        };
        let config = Config {
            data: args
                .data
                .clone()
                .or(file.data)
                .unwrap_or_else(|| DEFAULT_DATA.into()),
            sql_addr: address(&args.sql_addr, file.sql_addr, DEFAULT_SQL_ADDR)
                .0
                .ok_or(ConfigError::NoSqlAddress)?,
            rpc_addr_is_given: args.rpc_addr.is_some() || file.rpc_addr.is_some(),
            rpc_addr: address(&args.rpc_addr, file.rpc_addr, DEFAULT_RPC_ADDR)
                .0
                .ok_or(ConfigError::NoSqlAddress)?,
            certs_dir,
            http_addr: address(&args.http_addr, file.http_addr, DEFAULT_HTTP_ADDR).0,
            cluster: cluster.map_err(ConfigError::Cluster)?,
            cache_bytes: args
                .cache_size
                .or(file.cache_size)
                .unwrap_or(DEFAULT_CACHE)
                .0,
            column_cache_bytes: args
                .column_cache_size
                .or(file.column_cache_size)
                .unwrap_or(DEFAULT_COLUMN_CACHE)
                .0,
            memory_limit_bytes: args
                .memory_limit
                .or(file.memory_limit)
                .unwrap_or(DEFAULT_MEMORY_LIMIT)
                .0,
            max_connections: args
                .max_connections
                .or(file.max_connections)
                .unwrap_or(DEFAULT_MAX_CONNECTIONS),
            max_message_bytes: file
                .max_message_size
                .map_or(crate::wire::limits::MAX_MESSAGE_BYTES, |Bytes(bytes)| {
                    usize::try_from(bytes).unwrap_or(usize::MAX)
                }),
            gc_ttl: args.gc_ttl.or(file.gc_ttl).unwrap_or(DEFAULT_GC_TTL).0,
            scrub_bytes: args
                .scrub_rate
                .or(file.scrub_rate)
                .map_or_else(default_scrub_bytes, |rate| rate.0),
            shard_max_bytes: args
                .shard_max_bytes
                .or(file.shard_max_bytes)
                .map_or_else(default_shard_bytes, |bytes| bytes.0),
            replace_damaged_store: args.replace_damaged_store,
            tls,
            insecure: args.insecure || file.insecure.unwrap_or(false),
            until_stdin_ends: args.until_stdin_ends,
            log: args
                .log
                .clone()
                .or(file.log)
                .unwrap_or_else(|| DEFAULT_LOG.to_string()),
        };
        config.checked()
    }

    /// Of the memory limit, what statements may use to sort, join and aggregate.
    pub fn query_memory_bytes(&self) -> usize {
        usize::try_from(self.memory_limit_bytes / 8 * 5).unwrap_or(usize::MAX)
    }

    /// Of the statements' memory, what columns may keep between them: at most half.
    pub fn column_cache_bytes(&self) -> usize {
        let bytes = usize::try_from(self.column_cache_bytes).unwrap_or(usize::MAX);
        bytes.min(self.query_memory_bytes() / 2)
    }

    /// Of the memory limit, what open transactions may keep of their writes.
    pub fn transaction_memory_bytes(&self) -> usize {
        usize::try_from(self.memory_limit_bytes / 8 * 3).unwrap_or(usize::MAX)
    }

    /// Bounds below which a node can't work.
    fn checked(self) -> Result<Config, ConfigError> {
        if self.cache_bytes < 1 << 20 {
            return Err(ConfigError::TooSmall("cache-size", "1MiB"));
        }
        if self.memory_limit_bytes < 64 << 20 {
            return Err(ConfigError::TooSmall("memory-limit", "64MiB"));
        }
        let finds_others = self.cluster.lan || !self.cluster.join.is_empty();
        if self.replace_damaged_store && (!finds_others || self.cluster.bootstrap) {
            return Err(ConfigError::NobodyToCopyFrom);
        }
        if self.max_connections == 0 {
            return Err(ConfigError::TooSmall("max-connections", "1"));
        }
        if self.max_message_bytes < 64 << 10 {
            return Err(ConfigError::TooSmall("max-message-size", "64KiB"));
        }
        Ok(self)
    }
}

impl File {
    fn take_cluster(&mut self) -> ClusterFile {
        ClusterFile {
            join: self.join.take(),
            discover: self.discover.take(),
            cluster_name: self.cluster_name.take(),
            bootstrap: self.bootstrap.take(),
            locality: self.locality.take(),
            advertise_addr: self.advertise_addr.take(),
            advertise_sql_addr: self.advertise_sql_addr.take(),
            max_clock_offset: self.max_clock_offset.take(),
            time_until_dead: self.time_until_dead.take(),
            unavailable_after: self.unavailable_after.take(),
        }
    }

    fn read(path: &Path) -> Result<File, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.display().to_string(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.display().to_string(),
            source: Box::new(source),
        })
    }
}

/// A socket address, a `localhost:port`, or `none`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address(pub Option<SocketAddr>);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Address(None));
        }
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_string(),
        };
        match numeric.parse() {
            Ok(address) => Ok(Address(Some(address))),
            Err(_) => Err(format!("`{text}` is not an address like 127.0.0.1:5450")),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A size such as `64MiB`, `1GB` or a plain number of bytes. Units count in 1024.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(format!("`{text}` is not a size like 64MiB or 2GB")),
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(1 << shift))
            .map(Bytes)
            .ok_or_else(|| format!("`{text}` is not a size like 64MiB or 2GB"))
    }
}

impl TryFrom<toml::Value> for Bytes {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        plain(value).parse()
    }
}

/// A duration such as `4h`, `30m` or `90s`; a plain number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let millis = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("`{text}` is not a duration like 4h or 90s")),
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(millis))
            .map(|millis| Period(Duration::from_millis(millis)))
            .ok_or_else(|| format!("`{text}` is not a duration like 4h or 90s"))
    }
}

impl TryFrom<toml::Value> for Period {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        plain(value).parse()
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn plain(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!("64MiB".parse(), Ok(Bytes(64 << 20)));
        assert_eq!("2 gb".parse(), Ok(Bytes(2 << 30)));
        assert_eq!("4096".parse(), Ok(Bytes(4096)));
        assert!("64 apples".parse::<Bytes>().is_err());
        assert!("99999999999999999999".parse::<Bytes>().is_err());
        assert_eq!("4h".parse(), Ok(Period(Duration::from_secs(14_400))));
        assert_eq!("90".parse(), Ok(Period(Duration::from_secs(90))));
        assert!("soon".parse::<Period>().is_err());
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file: File = toml::from_str(
            "sql-addr = 'localhost:6000'\nhttp-addr = 'none'\ncache-size = '128MiB'\n\
             gc-ttl = 60\nmax-connections = 5",
        )
        .expect("a good file");
        let args = StartArgs {
            max_connections: Some(7),
            ..StartArgs::default()
        };
        let config = Config::merge(&args, file).expect("good settings");
        assert_eq!(config.sql_addr.port(), 6000);
        assert_eq!(config.http_addr, None);
        assert_eq!(config.cache_bytes, 128 << 20);
        assert_eq!(config.gc_ttl, Duration::from_secs(60));
        assert_eq!(config.max_connections, 7);
        assert_eq!(config.rpc_addr.port(), 5451);
    }

    #[test]
    fn the_cluster_may_stand_in_the_file_too() {
        let file = "join = ['db1', 'dns:db.svc:7']\ncluster-name = 'shop'\nlocality = 'region=eu,zone=a'\n\
                    discover = 'lan'\nbootstrap = true\nadvertise-addr = 'db3:5451'\n\
                    advertise-sql-addr = 'db3:5450'\nmax-clock-offset = '250ms'";
        let config = |args: &StartArgs| {
            let file = toml::from_str(file).expect("a good file");
            Config::merge(args, file).expect("good settings").cluster
        };
        let cluster = config(&StartArgs::default());
        let shown: Vec<String> = cluster.join.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["db1:5451", "dns:db.svc:7"]);
        assert_eq!(cluster.cluster_name, "shop");
        assert_eq!(cluster.locality.to_string(), "region=eu,zone=a");
        assert!(cluster.lan && cluster.bootstrap);
        assert_eq!(cluster.advertise_addr.as_deref(), Some("db3:5451"));
        assert_eq!(cluster.max_clock_offset, Duration::from_millis(250));

        let mut args = StartArgs::default();
        args.cluster.join = vec!["db9".parse().expect("an address")];
        args.cluster.locality = Some("zone=b".parse().expect("a locality"));
        let cluster = config(&args);
        assert_eq!(cluster.join.len(), 1);
        assert_eq!(cluster.locality.to_string(), "zone=b");
        for bad in [
            "join = 'a,,b'",
            "discover = 'wan'",
            "locality = 'eu'",
            "advertise-addr = 'a'",
        ] {
            assert!(toml::from_str::<File>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_keys_and_bad_values_are_errors() {
        assert!(toml::from_str::<File>("sqladdr = '127.0.0.1:1'").is_err());
        assert!(toml::from_str::<File>("cache-size = 'big'").is_err());
        let half = StartArgs {
            tls_cert: Some("cert.pem".into()),
            ..StartArgs::default()
        };
        assert!(matches!(
            Config::merge(&half, File::default()),
            Err(ConfigError::HalfOfTls)
        ));
    }

    #[test]
    fn a_store_is_replaced_only_where_others_have_its_data() {
        let mut args = StartArgs {
            replace_damaged_store: true,
            ..StartArgs::default()
        };
        let merged = Config::merge(&args, File::default());
        assert!(matches!(merged, Err(ConfigError::NobodyToCopyFrom)));
        args.cluster.join = vec!["db9".parse().expect("an address")];
        let config = Config::merge(&args, File::default()).expect("good settings");
        assert!(config.replace_damaged_store);
        args.cluster.bootstrap = true;
        assert!(Config::merge(&args, File::default()).is_err());
    }

    #[test]
    fn one_folder_of_certificates_serves_nodes_and_clients() {
        let file: File = toml::from_str("certs-dir = 'certs'").expect("a good file");
        let config = Config::merge(&StartArgs::default(), file).expect("good settings");
        assert_eq!(config.certs_dir, Some("certs".into()));
        let sql = ("certs/node.crt".into(), "certs/node.key".into());
        assert_eq!(config.tls, Some(sql));
        let own = StartArgs {
            certs_dir: Some("certs".into()),
            tls_cert: Some("sql.crt".into()),
            tls_key: Some("sql.key".into()),
            ..StartArgs::default()
        };
        let config = Config::merge(&own, File::default()).expect("good settings");
        assert_eq!(config.tls, Some(("sql.crt".into(), "sql.key".into())));
    }
}
