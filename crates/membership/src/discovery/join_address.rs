//! Where other nodes may be, as a user writes it.

use std::fmt;
use std::str::FromStr;

/// Of a node's address for other nodes, where none is given.
pub const DEFAULT_PORT: u16 = 5451;
/// In one list of addresses. Three of a large cluster are enough to find it.
pub const MAX_JOIN_ADDRESSES: usize = 64;
/// Of a name, by RFC 1035.
const MAX_NAME_BYTES: usize = 253;

/// An address of `--join`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JoinAddress {
    /// One node: `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`.
    Node { host: String, port: u16 },
    /// All nodes that a name of the domain name system leads to: `dns:NAME`, `dns:NAME:PORT`. Without a port
    /// the name's SRV records are asked first.
    Dns { name: String, port: Option<u16> },
}

impl JoinAddress {
    /// Of a list with commas. Addresses that are there twice count once.
    pub fn parse_list(text: &str) -> Result<Vec<JoinAddress>, String> {
        let mut list = Vec::new();
        for word in text.split(',').map(str::trim) {
            let address = word.parse()?;
            if !list.contains(&address) {
                list.push(address);
            }
        }
        if list.len() > MAX_JOIN_ADDRESSES {
            return Err(format!("at most {MAX_JOIN_ADDRESSES} addresses, please"));
        }
        Ok(list)
    }
}

impl fmt::Display for JoinAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinAddress::Node { host, port } => f.write_str(&host_port(host, *port)),
            JoinAddress::Dns { name, port: None } => write!(f, "dns:{name}"),
            JoinAddress::Dns {
                name,
                port: Some(port),
            } => write!(f, "dns:{name}:{port}"),
        }
    }
}

/// An address to connect to; an IPv6 one gets its brackets.
pub fn host_port(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

impl FromStr for JoinAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is not an address like host:5451: {why}");
        if let Some(rest) = text.strip_prefix("dns:") {
            let (name, port) = split_port(rest).map_err(|why| wrong(&why))?;
            check_name(name).map_err(|why| wrong(&why))?;
            let name = name.to_ascii_lowercase();
            return Ok(JoinAddress::Dns { name, port });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("no `]`"))?;
                let address: std::net::Ipv6Addr =
                    host.parse().map_err(|_| wrong("no IPv6 address in `[]`"))?;
                let port = split_port(rest).map_err(|why| wrong(&why))?;
                if !port.0.is_empty() {
                    return Err(wrong("what stands behind `]` is no port"));
                }
                (address.to_string(), port.1)
            }
            None => {
                let (host, port) = split_port(text).map_err(|why| wrong(&why))?;
                check_name(host).map_err(|why| wrong(&why))?;
                (host.to_ascii_lowercase(), port)
            }
        };
        let port = port.unwrap_or(DEFAULT_PORT);
        Ok(JoinAddress::Node { host, port })
    }
}

/// What stands before the port, and the port.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let Some((host, port)) = text.split_once(':') else {
        return Ok((text, None));
    };
    if port.contains(':') {
        return Err("an IPv6 address is written in `[]`".to_owned());
    }
    match port.parse() {
        Ok(0) | Err(_) => Err(format!("`{port}` is not a port")),
        Ok(port) => Ok((host, Some(port))),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err("there is no name in it".to_owned());
    }
    match name.chars().find(|c| !plain(*c)) {
        Some(c) => Err(format!("a name has no `{c}`")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a text is read as, or the complaint.
    fn read(text: &str) -> String {
        match text.parse::<JoinAddress>() {
            Ok(address) => address.to_string(),
            Err(complaint) => complaint,
        }
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("db1", "db1:5451"),
            ("db1:6000", "db1:6000"),
            ("DB1.example.com", "db1.example.com:5451"),
            ("10.0.0.1", "10.0.0.1:5451"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("[::1]", "[::1]:5451"),
            ("[2001:DB8:0::1]:7", "[2001:db8::1]:7"),
            ("dns:db.svc.local", "dns:db.svc.local"),
            ("dns:_phantomdb._tcp.db.svc", "dns:_phantomdb._tcp.db.svc"),
            ("dns:db.svc.local:7", "dns:db.svc.local:7"),
        ] {
            assert_eq!(read(text), expected, "{text}");
            assert_eq!(read(expected), expected);
        }
    }

    #[test]
    fn complaints_say_what_is_wrong() {
        for (text, why) in [
            ("", "there is no name in it"),
            (":5451", "there is no name in it"),
            ("dns:", "there is no name in it"),
            ("dns::7", "there is no name in it"),
            ("db1:", "`` is not a port"),
            ("db1:0", "`0` is not a port"),
            ("db1:70000", "`70000` is not a port"),
            ("::1", "an IPv6 address is written in `[]`"),
            ("2001:db8::1:5451", "an IPv6 address is written in `[]`"),
            ("[::1", "no `]`"),
            ("[db1]:5451", "no IPv6 address in `[]`"),
            ("[::1]5451", "what stands behind `]` is no port"),
            ("http//db1", "a name has no `/`"),
            ("db 1", "a name has no ` `"),
        ] {
            let expected = format!("`{text}` is not an address like host:5451: {why}");
            assert_eq!(read(text), expected);
        }
    }

    #[test]
    fn lists() {
        let list = JoinAddress::parse_list("a, b:5451,a:5451, [::1]").expect("a good list");
        let shown: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a:5451", "b:5451", "[::1]:5451"]);
        assert!(JoinAddress::parse_list("a,,b").is_err());
        let many: Vec<String> = (0..=MAX_JOIN_ADDRESSES)
            .map(|at| format!("n{at}"))
            .collect();
        assert!(JoinAddress::parse_list(&many.join(",")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(address) = text.parse::<JoinAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
