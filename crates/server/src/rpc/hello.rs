//! What two nodes tell each other before anything else, and when they must not talk.

use crate::rpc::limits::MAX_ADDRESS_BYTES;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;
use std::time::Duration;
use thiserror::Error;
use types::StoreId;

/// The protocol of these frames. A change that older nodes would misread takes the next number.
pub const PROTOCOL: u16 = 1;

/// How many major versions apart two nodes may be: upgrades go one version at a time.
const MAX_MAJOR_DISTANCE: u16 = 1;

/// The first bytes of a handshake in every version of the protocol, followed by its number.
const MAGIC: [u8; 4] = *b"PHDB";

const HAS_CLUSTER: u8 = 1;
const HAS_STORE: u8 = 2;
const IS_LINK: u8 = 4;

/// What a node says of itself. It changes once: a joining node gets its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// None while joining.
    pub cluster: Option<u128>,
    /// None while joining. Never there without a cluster.
    pub store: Option<StoreId>,
    /// Where others reach this node, as `host:port`.
    pub address: String,
}

/// A version of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

impl Version {
    /// Of this program.
    pub fn own() -> Self {
        let number = |text: &str| text.parse().expect("cargo's versions are numbers");
        Version {
            major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            patch: number(env!("CARGO_PKG_VERSION_PATCH")),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A peer's one connection for all its messages and calls. A new one takes the place of the last.
    Link,
    /// One call of a node that has no peers yet.
    Call,
}

/// The body of Hello and Welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub protocol: u16,
    pub version: Version,
    pub purpose: Purpose,
    pub identity: Identity,
    /// The sender's wall clock: microseconds since the Unix epoch.
    pub wall_micros: i64,
}

/// Why two nodes must not talk. The texts are read on both sides, so they say "this node" of none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("this is no handshake between nodes")]
    Malformed,
    #[error("protocol version {theirs} is unknown: the node at {at} speaks version {PROTOCOL}")]
    Protocol { theirs: u16, at: String },
    #[error(
        "the versions are too far apart, {ours} and {theirs}: upgrade one major version at a time"
    )]
    Version { ours: Version, theirs: Version },
    #[error("the nodes belong to different clusters, {ours:032x} and {theirs:032x}")]
    OtherCluster { ours: u128, theirs: u128 },
    #[error("both sides are store {0}: a node called itself, or its data folder was copied")]
    OwnStore(StoreId),
    #[error("the node at {at} is store {found} where store {expected} was expected")]
    WrongStore {
        expected: StoreId,
        found: StoreId,
        at: String,
    },
    #[error("the node at {at} is joining where store {expected} was expected")]
    StillJoining { expected: StoreId, at: String },
    #[error("the clocks are {} ms apart, more than --max-clock-offset allows ({} ms)", offset.as_millis(), most.as_millis())]
    Clock { offset: Duration, most: Duration },
}

impl Hello {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.identity.address.len());
        out.put_slice(&MAGIC);
        out.put_u16_le(self.protocol);
        let Version {
            major,
            minor,
            patch,
        } = self.version;
        for number in [major, minor, patch] {
            out.put_u16_le(number);
        }
        let mut flags = 0;
        flags |= self.identity.cluster.map_or(0, |_| HAS_CLUSTER);
        flags |= self.identity.store.map_or(0, |_| HAS_STORE);
        flags |= if self.purpose == Purpose::Link {
            IS_LINK
        } else {
            0
        };
        out.put_u8(flags);
        out.put_u128_le(self.identity.cluster.unwrap_or(0));
        out.put_u64_le(self.identity.store.map_or(0, |store| store.0));
        out.put_i64_le(self.wall_micros);
        let address = &self.identity.address.as_bytes();
        let address = &address[..address.len().min(MAX_ADDRESS_BYTES)];
        out.put_u16_le(address.len() as u16);
        out.put_slice(address);
        out.freeze()
    }

    /// Reads a Hello of `at`'s opposite. Later versions may append fields.
    pub fn decode(mut body: Bytes, at: &str) -> Result<Hello, Refusal> {
        let malformed = |_| Refusal::Malformed;
        let mut magic = [0; MAGIC.len()];
        body.try_copy_to_slice(&mut magic).map_err(malformed)?;
        if magic != MAGIC {
            return Err(Refusal::Malformed);
        }
        let protocol = body.try_get_u16_le().map_err(malformed)?;
        if protocol != PROTOCOL {
            return Err(Refusal::Protocol {
                theirs: protocol,
                at: at.to_string(),
            });
        }
        let version = Version {
            major: body.try_get_u16_le().map_err(malformed)?,
            minor: body.try_get_u16_le().map_err(malformed)?,
            patch: body.try_get_u16_le().map_err(malformed)?,
        };
        let flags = body.try_get_u8().map_err(malformed)?;
        let cluster = body.try_get_u128_le().map_err(malformed)?;
        let store = body.try_get_u64_le().map_err(malformed)?;
        let wall_micros = body.try_get_i64_le().map_err(malformed)?;
        let length = usize::from(body.try_get_u16_le().map_err(malformed)?);
        if length > MAX_ADDRESS_BYTES || length > body.len() {
            return Err(Refusal::Malformed);
        }
        let address = String::from_utf8(body.split_to(length).to_vec());
        let identity = Identity {
            cluster: (flags & HAS_CLUSTER != 0).then_some(cluster),
            store: (flags & HAS_STORE != 0).then_some(StoreId(store)),
            address: address.map_err(|_| Refusal::Malformed)?,
        };
        if identity.store.is_some() && identity.cluster.is_none() {
            return Err(Refusal::Malformed);
        }
        Ok(Hello {
            protocol,
            version,
            purpose: if flags & IS_LINK != 0 {
                Purpose::Link
            } else {
                Purpose::Call
            },
            identity,
            wall_micros,
        })
    }
}

/// Whether the node that is `ours` may talk to the one that said `theirs`. Clocks are judged apart.
pub fn judge(ours: &Identity, version: Version, theirs: &Hello) -> Result<(), Refusal> {
    if version.major.abs_diff(theirs.version.major) > MAX_MAJOR_DISTANCE {
        return Err(Refusal::Version {
            ours: version,
            theirs: theirs.version,
        });
    }
    if let (Some(ours), Some(theirs)) = (ours.cluster, theirs.identity.cluster)
        && ours != theirs
    {
        return Err(Refusal::OtherCluster { ours, theirs });
    }
    match ours.store {
        Some(own) if theirs.identity.store == Some(own) => Err(Refusal::OwnStore(own)),
        _ => Ok(()),
    }
}

/// Whether the other side is the store that was called.
pub fn judge_store(expected: StoreId, theirs: &Hello, at: &str) -> Result<(), Refusal> {
    let at = at.to_string();
    match theirs.identity.store {
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(Refusal::WrongStore {
            expected,
            found,
            at,
        }),
        None => Err(Refusal::StillJoining { expected, at }),
    }
}

/// Compares clocks: the other side read `theirs` at some moment between `before` and `after` of ours (all
/// in microseconds since the Unix epoch). Only what that window cannot explain counts.
pub fn judge_clock(theirs: i64, before: i64, after: i64, most: Duration) -> Result<(), Refusal> {
    let behind = before.saturating_sub(theirs);
    let ahead = theirs.saturating_sub(after);
    let offset = Duration::from_micros(behind.max(ahead).max(0).unsigned_abs());
    if offset > most {
        return Err(Refusal::Clock { offset, most });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello(cluster: Option<u128>, store: Option<u64>) -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: Version::own(),
            purpose: Purpose::Link,
            identity: Identity {
                cluster,
                store: store.map(StoreId),
                address: "db1.example.com:5451".to_string(),
            },
            wall_micros: -5,
        }
    }

    #[test]
    fn survives_the_trip() {
        for hello in [
            hello(Some(u128::MAX - 1), Some(7)),
            hello(Some(3), None),
            Hello {
                purpose: Purpose::Call,
                ..hello(None, None)
            },
        ] {
            let mut bytes = hello.encode().to_vec();
            assert_eq!(
                Hello::decode(bytes.clone().into(), "here"),
                Ok(hello.clone())
            );
            bytes.extend_from_slice(b"of a later version");
            assert_eq!(Hello::decode(bytes.into(), "here"), Ok(hello));
        }
    }

    #[test]
    fn a_newer_protocol_is_told_apart_from_nonsense() {
        let mut bytes = hello(None, None).encode().to_vec();
        bytes[4] = 9;
        let refused = Hello::decode(bytes.clone().into(), "db2:1").expect_err("version 9");
        assert!(matches!(refused, Refusal::Protocol { theirs: 9, .. }));
        assert!(refused.to_string().contains("db2:1"), "{refused}");
        bytes[0] = b'X';
        assert_eq!(Hello::decode(bytes.into(), ""), Err(Refusal::Malformed));
        // A store belongs to a cluster.
        let lost = hello(None, Some(1)).encode();
        assert_eq!(Hello::decode(lost, ""), Err(Refusal::Malformed));
    }

    #[test]
    fn who_may_talk() {
        let ours = hello(Some(1), Some(1)).identity;
        let judged = |theirs: Hello| judge(&ours, Version::own(), &theirs);
        assert_eq!(judged(hello(Some(1), Some(2))), Ok(()));
        assert_eq!(judged(hello(None, None)), Ok(()), "a joining node");
        assert!(matches!(
            judged(hello(Some(2), Some(2))),
            Err(Refusal::OtherCluster { ours: 1, theirs: 2 })
        ));
        let own = judged(hello(Some(1), Some(1)));
        assert_eq!(own, Err(Refusal::OwnStore(StoreId(1))));
        let joining = Identity::default();
        assert_eq!(judge(&joining, Version::own(), &hello(None, None)), Ok(()));
    }

    #[test]
    fn neighbouring_major_versions_understand_each_other() {
        let at = |major| Version {
            major,
            minor: 0,
            patch: 0,
        };
        let judged = |ours, theirs| {
            let theirs = Hello {
                version: at(theirs),
                ..hello(None, None)
            };
            judge(&Identity::default(), at(ours), &theirs)
        };
        assert_eq!(judged(3, 2), Ok(()));
        assert_eq!(judged(3, 4), Ok(()));
        assert!(matches!(judged(3, 5), Err(Refusal::Version { .. })));
        assert!(matches!(judged(3, 1), Err(Refusal::Version { .. })));
    }

    #[test]
    fn a_slow_network_is_no_wrong_clock() {
        let most = Duration::from_micros(500);
        // The answer took 2000 µs; the clock was read anywhere within.
        for theirs in [500, 1000, 3000, 3500] {
            assert_eq!(judge_clock(theirs, 1000, 3000, most), Ok(()), "{theirs}");
        }
        for theirs in [499, 3501, i64::MIN, i64::MAX] {
            judge_clock(theirs, 1000, 3000, most).expect_err("too far off");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, cut in 0..80_usize) {
            let _ = Hello::decode(bytes.into(), "");
            let mut good = hello(Some(1), Some(1)).encode();
            good.truncate(cut);
            let whole = cut >= hello(Some(1), Some(1)).encode().len();
            prop_assert_eq!(Hello::decode(good, "").is_ok(), whole);
        }
    }
}
