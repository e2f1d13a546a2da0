//! Which address a node tells others.

use membership::discovery::host_port;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses of documentation networks (RFC 5737, RFC 3849): nothing is ever sent there, but the system
/// says from which address of this machine it would be.
const SOMEWHERE_V4: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
const SOMEWHERE_V6: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9);

/// The one that was given, or the one that the node listens on; if that is every address of the machine, the
/// one that leads out of it.
pub fn advertised(given: Option<&str>, listens_on: SocketAddr) -> String {
    if let Some(address) = given {
        return address.to_owned();
    }
    let ip = match listens_on.ip() {
        ip if ip.is_unspecified() => outward(ip),
        ip => ip,
    };
    host_port(&ip.to_string(), listens_on.port())
}

/// Of the default route, of either family that `unspecified` covers; a loopback address if there is none.
fn outward(unspecified: IpAddr) -> IpAddr {
    let v4 = || source((Ipv4Addr::UNSPECIFIED, 0), SOMEWHERE_V4);
    match unspecified {
        IpAddr::V4(_) => v4().unwrap_or(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => source((Ipv6Addr::UNSPECIFIED, 0), SOMEWHERE_V6)
            .or_else(v4)
            .unwrap_or(Ipv6Addr::LOCALHOST.into()),
    }
}

fn source<A: std::net::ToSocketAddrs>(from: A, to: A) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_can_use() {
        let shown =
            |given, listens_on: &str| advertised(given, listens_on.parse().expect("an address"));
        assert_eq!(shown(Some("db1:7"), "0.0.0.0:5451"), "db1:7");
        assert_eq!(shown(None, "10.0.0.1:5451"), "10.0.0.1:5451");
        assert_eq!(shown(None, "[2001:db8::1]:5451"), "[2001:db8::1]:5451");
        for everything in ["0.0.0.0:5451", "[::]:5451"] {
            let address: SocketAddr = shown(None, everything).parse().expect("an address");
            assert!(!address.ip().is_unspecified());
            assert_eq!(address.port(), 5451);
        }
    }
}
