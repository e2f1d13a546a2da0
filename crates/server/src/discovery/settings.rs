//! What the command line and the file say about the cluster.

use crate::config::Period;
use clap::{Args, ValueEnum};
use membership::discovery::join_address::MAX_JOIN_ADDRESSES;
use membership::discovery::{JoinAddress, host_port};
use serde::Deserialize;
use std::str::FromStr;
use std::time::Duration;
use types::Locality;

const DEFAULT_CLUSTER_NAME: &str = "phantomdb";
/// Of a cluster's name, in bytes: it stands in a label of the local network.
const MAX_CLUSTER_NAME_BYTES: usize = 63;

/// How far apart the clocks of nodes may be. Machines that are kept in step by NTP stay far below.
const DEFAULT_CLOCK_OFFSET: Period = Period(Duration::from_millis(500));
/// Below it no ordinary network can keep clocks.
const MIN_CLOCK_OFFSET: Duration = Duration::from_millis(1);
/// Above it reads and leases would wait for longer than a failover takes.
const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(10);
/// A restart or a reboot takes less; copying a node's data takes as long or longer.
const DEFAULT_UNTIL_DEAD: Period = Period(Duration::from_secs(5 * 60));
/// A node is suspect after a second; below twice that a slow answer would set data in motion.
const MIN_UNTIL_DEAD: Duration = Duration::from_secs(2);
/// Much longer than an election.
const DEFAULT_UNAVAILABLE_AFTER: Period = Period(node::gateway::PATIENCE);
/// An election may take as long.
const MIN_UNAVAILABLE_AFTER: Duration = Duration::from_secs(1);

/// Of `phantomdb start`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Other nodes, with commas between them: host, host:port, `[v6]:port`, or `dns:NAME[:PORT]` for all
    /// nodes behind a name (without port, its SRV records are asked first). A node with an empty
    /// folder joins the cluster of whichever answers, and waits until one has a cluster
    #[arg(
        long,
        value_name = "ADDRS",
        env = "PHANTOMDB_JOIN",
        value_delimiter = ','
    )]
    pub join: Vec<JoinAddress>,

    /// Find other nodes without a list: lan = on the local network, by multicast DNS
    #[arg(long, value_name = "WHERE", env = "PHANTOMDB_DISCOVER")]
    pub discover: Option<Discover>,

    /// Nodes of another name are strangers [default: phantomdb]
    #[arg(long, value_name = "NAME", env = "PHANTOMDB_CLUSTER_NAME")]
    pub cluster_name: Option<ClusterName>,

    /// With --join or --discover and an empty folder: found a new cluster, once every address has
    /// answered and none has one. Of several nodes with it, the smallest address does so
    #[arg(long)]
    pub bootstrap: bool,

    /// Where the node stands, from the widest place to the narrowest: region=eu,zone=eu-1
    #[arg(long, value_name = "TIERS", env = "PHANTOMDB_LOCALITY")]
    pub locality: Option<Locality>,

    /// Address that other nodes are told [default: --rpc-addr, or the machine's if that is 0.0.0.0]
    #[arg(long, value_name = "ADDR", env = "PHANTOMDB_ADVERTISE_ADDR")]
    pub advertise_addr: Option<Advertised>,

    /// Address that clients are told [default: --sql-addr, or the machine's if that is 0.0.0.0]
    #[arg(long, value_name = "ADDR", env = "PHANTOMDB_ADVERTISE_SQL_ADDR")]
    pub advertise_sql_addr: Option<Advertised>,

    /// How long a node may be silent before its replicas are made again elsewhere; the same on all nodes
    /// [default: 5m]
    #[arg(long, value_name = "TIME", env = "PHANTOMDB_TIME_UNTIL_DEAD")]
    pub time_until_dead: Option<Period>,

    /// How long a shard may be without a quorum before statements that need it fail [default: 5s]
    #[arg(long, value_name = "TIME", env = "PHANTOMDB_UNAVAILABLE_AFTER")]
    pub unavailable_after: Option<Period>,

    /// How far apart the clocks of two nodes may be; the same on all nodes [default: 500ms]
    #[arg(long, value_name = "TIME", env = "PHANTOMDB_MAX_CLOCK_OFFSET")]
    pub max_clock_offset: Option<Period>,
}

/// The same of the file.
#[derive(Clone, Debug, Default)]
pub struct ClusterFile {
    pub join: Option<JoinList>,
    pub discover: Option<Discover>,
    pub cluster_name: Option<ClusterName>,
    pub bootstrap: Option<bool>,
    pub locality: Option<Text<Locality>>,
    pub advertise_addr: Option<Advertised>,
    pub advertise_sql_addr: Option<Advertised>,
    pub max_clock_offset: Option<Period>,
    pub time_until_dead: Option<Period>,
    pub unavailable_after: Option<Period>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    pub join: Vec<JoinAddress>,
    /// Find nodes on the local network.
    pub lan: bool,
    pub cluster_name: String,
    pub bootstrap: bool,
    pub locality: Locality,
    /// `host:port`
    pub advertise_addr: Option<String>,
    /// `host:port`
    pub advertise_sql_addr: Option<String>,
    pub max_clock_offset: Duration,
    pub time_until_dead: Duration,
    pub unavailable_after: Duration,
}

impl ClusterSettings {
    /// The command line wins over the file.
    pub fn merge(args: &ClusterArgs, file: ClusterFile) -> Result<ClusterSettings, String> {
        let offset = args.max_clock_offset.or(file.max_clock_offset);
        let max_clock_offset = offset.unwrap_or(DEFAULT_CLOCK_OFFSET).0;
        if !(MIN_CLOCK_OFFSET..=MAX_CLOCK_OFFSET).contains(&max_clock_offset) {
            return Err("max-clock-offset must be 1ms to 10s".to_owned());
        }
        let until_dead = args.time_until_dead.or(file.time_until_dead);
        let time_until_dead = until_dead.unwrap_or(DEFAULT_UNTIL_DEAD).0;
        if time_until_dead < MIN_UNTIL_DEAD {
            return Err("time-until-dead must be at least 2s".to_owned());
        }
        let unavailable = args.unavailable_after.or(file.unavailable_after);
        let unavailable_after = unavailable.unwrap_or(DEFAULT_UNAVAILABLE_AFTER).0;
        if unavailable_after < MIN_UNAVAILABLE_AFTER {
            return Err("unavailable-after must be at least 1s".to_owned());
        }
        let join = match args.join.is_empty() {
            true => file.join.map(|list| list.0).unwrap_or_default(),
            false => args.join.clone(),
        };
        if join.len() > MAX_JOIN_ADDRESSES {
            return Err(format!("join has more than {MAX_JOIN_ADDRESSES} addresses"));
        }
        let name = args.cluster_name.clone().or(file.cluster_name);
        Ok(ClusterSettings {
            join,
            lan: args.discover.or(file.discover) == Some(Discover::Lan),
            cluster_name: name.map_or_else(|| DEFAULT_CLUSTER_NAME.to_owned(), |name| name.0),
            bootstrap: args.bootstrap || file.bootstrap.unwrap_or(false),
            locality: args
                .locality
                .clone()
                .or(file.locality.map(|locality| locality.0))
                .unwrap_or_default(),
            advertise_addr: args
                .advertise_addr
                .clone()
                .or(file.advertise_addr)
                .map(|address| address.0),
            advertise_sql_addr: args
                .advertise_sql_addr
                .clone()
                .or(file.advertise_sql_addr)
                .map(|address| address.0),
            max_clock_offset,
            time_until_dead,
            unavailable_after,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discover {
    Lan,
}

/// Letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ClusterName(pub String);

impl FromStr for ClusterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || text.len() > MAX_CLUSTER_NAME_BYTES || !text.chars().all(plain) {
            return Err(format!(
                "`{text}` is not a name of letters, digits, `-`, `_` and `.`, at most {MAX_CLUSTER_NAME_BYTES}"
            ));
        }
        Ok(ClusterName(text.to_owned()))
    }
}

impl TryFrom<String> for ClusterName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A `host:port` that others can connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Advertised(pub String);

impl FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let has_port = text
            .rsplit_once(':')
            .is_some_and(|(host, _)| !host.ends_with(':'));
        match text.parse()? {
            JoinAddress::Node { host, port } if has_port => Ok(Advertised(host_port(&host, port))),
            _ => Err(format!("`{text}` is not an address like host:5451")),
        }
    }
}

impl TryFrom<String> for Advertised {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A list of texts, or one text with commas.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Words")]
pub struct JoinList(pub Vec<JoinAddress>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<Words> for JoinList {
    type Error = String;

    fn try_from(words: Words) -> Result<Self, String> {
        let text = match words {
            Words::One(text) => text,
            Words::Many(list) => list.join(","),
        };
        match text.is_empty() {
            true => Ok(JoinList(Vec::new())),
            false => JoinAddress::parse_list(&text).map(JoinList),
        }
    }
}

/// Something that the file has as a text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "T: FromStr<Err = String>")]
pub struct Text<T>(pub T);

impl<T: FromStr<Err = String>> TryFrom<String> for Text<T> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_by_default() {
        let settings = ClusterSettings::merge(&ClusterArgs::default(), ClusterFile::default());
        let settings = settings.expect("good settings");
        assert!(settings.join.is_empty() && !settings.lan && !settings.bootstrap);
        assert_eq!(settings.cluster_name, "phantomdb");
        assert_eq!(settings.max_clock_offset, Duration::from_millis(500));
    }

    #[test]
    fn addresses_to_advertise_have_a_port() {
        for (text, expected) in [
            ("db1:5451", Some("db1:5451")),
            ("10.0.0.1:7", Some("10.0.0.1:7")),
            ("[::1]:7", Some("[::1]:7")),
            ("db1", None),
            ("[::1]", None),
            ("dns:db1:7", None),
            ("::1", None),
        ] {
            let address = text.parse::<Advertised>().ok();
            assert_eq!(address.as_ref().map(|a| a.0.as_str()), expected, "{text}");
        }
    }

    #[test]
    fn names_and_offsets_have_bounds() {
        for name in ["", "a b", "ü", &"x".repeat(64)] {
            assert!(name.parse::<ClusterName>().is_err(), "{name}");
        }
        for millis in [0, 10_001] {
            let args = ClusterArgs {
                max_clock_offset: Some(Period(Duration::from_millis(millis))),
                ..ClusterArgs::default()
            };
            assert!(ClusterSettings::merge(&args, ClusterFile::default()).is_err());
        }
    }
}
