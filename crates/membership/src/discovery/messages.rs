//! The question that a searching node asks, and what it can be told.
//!
//! ```text
//! version 1 │ kind │ field, length, value │ … │ CRC-32
//! ```
//!
//! Whoever asks may be of a later version, or an earlier one: fields that are not known are stepped over.

use bytes::Bytes;
use types::StoreId;
use types::codec::{Reader, put_field, put_number_field, seal, unseal};

const VERSION: u8 = 1;
/// Addresses in one answer.
pub const MAX_ADDRESSES: usize = 64;

const QUESTION: u8 = 1;
const FOUND: u8 = 2;
const SEARCHING: u8 = 3;
const REFUSED: u8 = 4;

const NODE: u64 = 1;
const ADDRESS: u64 = 2;
const BOOTSTRAP: u64 = 3;
const CLUSTER: u64 = 4;
const CLUSTER_NAME: u64 = 5;
const PROGRAM_VERSION: u64 = 6;
const STORE: u64 = 7;
const PEER: u64 = 8;
const REASON: u64 = 9;

/// "Which cluster are you of?"
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// A random number of the asking process.
    pub node: u64,
    /// Where the asking node can be reached.
    pub address: String,
    /// It may found a cluster.
    pub bootstrap: bool,
    /// The cluster that it belongs to, if it does.
    pub cluster: Option<u128>,
    pub cluster_name: String,
    /// Of its program.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Found {
        cluster: u128,
        /// Of the node that answers.
        store: StoreId,
        /// Addresses of other nodes of the cluster.
        peers: Vec<String>,
    },
    /// The answering node has no cluster either.
    Searching {
        /// Its random number.
        node: u64,
        /// Where it can be reached.
        address: String,
        /// It may found a cluster.
        bootstrap: bool,
        /// Addresses of others that may, as far as it has heard.
        founders: Vec<String>,
    },
    /// The reason, for a person.
    Refused(String),
}

/// A node that is in a cluster, and so can answer.
#[derive(Clone, Debug)]
pub struct Member {
    pub cluster: u128,
    pub cluster_name: String,
    pub store: StoreId,
    /// Addresses of other nodes of the cluster.
    pub peers: Vec<String>,
}

impl Member {
    pub fn answer(&self, question: &Question) -> Answer {
        if question.cluster_name != self.cluster_name {
            return Answer::Refused(format!(
                "this node's cluster is `{}`, not `{}`",
                self.cluster_name, question.cluster_name
            ));
        }
        if question
            .cluster
            .is_some_and(|cluster| cluster != self.cluster)
        {
            return Answer::Refused(format!(
                "this node belongs to another cluster of the same name, {:032x}",
                self.cluster
            ));
        }
        Answer::Found {
            cluster: self.cluster,
            store: self.store,
            peers: self.peers.clone(),
        }
    }
}

impl Question {
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION, QUESTION];
        put_number_field(&mut out, NODE, self.node);
        put_field(&mut out, ADDRESS, self.address.as_bytes());
        put_number_field(&mut out, BOOTSTRAP, u64::from(self.bootstrap));
        if let Some(cluster) = self.cluster {
            put_field(&mut out, CLUSTER, &cluster.to_le_bytes());
        }
        put_field(&mut out, CLUSTER_NAME, self.cluster_name.as_bytes());
        put_field(&mut out, PROGRAM_VERSION, self.version.as_bytes());
        seal(&mut out, 0);
        out.into()
    }

    /// `None` if it is damaged, or no question.
    pub fn decode(message: &Bytes) -> Option<Question> {
        let (QUESTION, mut reader) = open(message)? else {
            return None;
        };
        let mut question = Question::default();
        while reader.left() > 0 {
            let (name, mut value) = reader.field()?;
            match name {
                NODE => question.node = value.rest_as_number()?,
                ADDRESS => question.address = value.rest_as_text()?,
                BOOTSTRAP => question.bootstrap = value.rest_as_number()? != 0,
                CLUSTER => question.cluster = Some(cluster(value)?),
                CLUSTER_NAME => question.cluster_name = value.rest_as_text()?,
                PROGRAM_VERSION => question.version = value.rest_as_text()?,
                _ => {}
            }
        }
        Some(question)
    }
}

impl Answer {
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        match self {
            Answer::Found {
                cluster,
                store,
                peers,
            } => {
                out.push(FOUND);
                put_field(&mut out, CLUSTER, &cluster.to_le_bytes());
                put_number_field(&mut out, STORE, store.0);
                put_addresses(&mut out, peers);
            }
            Answer::Searching {
                node,
                address,
                bootstrap,
                founders,
            } => {
                out.push(SEARCHING);
                put_number_field(&mut out, NODE, *node);
                put_field(&mut out, ADDRESS, address.as_bytes());
                put_number_field(&mut out, BOOTSTRAP, u64::from(*bootstrap));
                put_addresses(&mut out, founders);
            }
            Answer::Refused(reason) => {
                out.push(REFUSED);
                put_field(&mut out, REASON, reason.as_bytes());
            }
        }
        seal(&mut out, 0);
        out.into()
    }

    /// `None` if it is damaged, no answer, or lacks what it must say.
    pub fn decode(message: &Bytes) -> Option<Answer> {
        let (kind, mut reader) = open(message)?;
        let mut fields = Fields::default();
        while reader.left() > 0 {
            let (name, value) = reader.field()?;
            fields.read(name, value)?;
        }
        match kind {
            FOUND => Some(Answer::Found {
                cluster: fields.cluster?,
                store: fields.store?,
                peers: fields.addresses,
            }),
            SEARCHING => Some(Answer::Searching {
                node: fields.node?,
                address: fields.address,
                bootstrap: fields.bootstrap,
                founders: fields.addresses,
            }),
            REFUSED => Some(Answer::Refused(fields.reason)),
            _ => None,
        }
    }
}

/// Of all answers.
#[derive(Default)]
struct Fields {
    node: Option<u64>,
    address: String,
    bootstrap: bool,
    cluster: Option<u128>,
    store: Option<StoreId>,
    addresses: Vec<String>,
    reason: String,
}

impl Fields {
    fn read(&mut self, name: u64, mut value: Reader) -> Option<()> {
        match name {
            NODE => self.node = Some(value.rest_as_number()?),
            ADDRESS => self.address = value.rest_as_text()?,
            BOOTSTRAP => self.bootstrap = value.rest_as_number()? != 0,
            CLUSTER => self.cluster = Some(cluster(value)?),
            STORE => self.store = Some(StoreId(value.rest_as_number()?)),
            PEER if self.addresses.len() < MAX_ADDRESSES => {
                self.addresses.push(value.rest_as_text()?);
            }
            REASON => self.reason = value.rest_as_text()?,
            _ => {}
        }
        Some(())
    }
}

fn open(message: &Bytes) -> Option<(u8, Reader)> {
    let mut reader = Reader::new(unseal(message)?);
    if reader.u8()? != VERSION {
        return None;
    }
    Some((reader.u8()?, reader))
}

fn cluster(mut value: Reader) -> Option<u128> {
    let bytes = value.take(value.left())?;
    Some(u128::from_le_bytes(bytes.as_ref().try_into().ok()?))
}

fn put_addresses(out: &mut Vec<u8>, addresses: &[String]) {
    for address in addresses.iter().take(MAX_ADDRESSES) {
        put_field(out, PEER, address.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn question()(
            node in any::<u64>(),
            address in ".{0,20}",
            bootstrap in any::<bool>(),
            cluster in any::<Option<u128>>(),
            cluster_name in ".{0,20}",
            version in ".{0,8}",
        ) -> Question {
            Question { node, address, bootstrap, cluster, cluster_name, version }
        }
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let addresses = || proptest::collection::vec(".{0,20}", 0..4);
        prop_oneof![
            (any::<u128>(), any::<u64>(), addresses()).prop_map(|(cluster, store, peers)| {
                Answer::Found {
                    cluster,
                    store: StoreId(store),
                    peers,
                }
            }),
            (any::<u64>(), ".{0,20}", any::<bool>(), addresses()).prop_map(
                |(node, address, bootstrap, founders)| Answer::Searching {
                    node,
                    address,
                    bootstrap,
                    founders,
                }
            ),
            ".{0,40}".prop_map(Answer::Refused),
        ]
    }

    fn with_field_of_the_future(message: &Bytes) -> Bytes {
        let mut newer = unseal(message).expect("a good message").to_vec();
        put_field(&mut newer, 1000, b"from the future");
        seal(&mut newer, 0);
        newer.into()
    }

    proptest! {
        #[test]
        fn come_back_as_they_were(question in question(), answer in answer()) {
            for message in [question.encode(), with_field_of_the_future(&question.encode())] {
                prop_assert_eq!(Question::decode(&message), Some(question.clone()));
                prop_assert_eq!(Answer::decode(&message), None);
            }
            for message in [answer.encode(), with_field_of_the_future(&answer.encode())] {
                prop_assert_eq!(Answer::decode(&message), Some(answer.clone()));
                prop_assert_eq!(Question::decode(&message), None);
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(kind in 0..6u8, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut message = vec![VERSION, kind];
            message.extend_from_slice(&bytes);
            seal(&mut message, 0);
            for message in [Bytes::from(bytes), message.into()] {
                Question::decode(&message);
                Answer::decode(&message);
            }
        }
    }

    #[test]
    fn members_answer_their_own_and_refuse_strangers() {
        let member = Member {
            cluster: 7,
            cluster_name: "shop".to_owned(),
            store: StoreId(3),
            peers: vec!["b:5451".to_owned()],
        };
        let asks = |name: &str, cluster| {
            member.answer(&Question {
                cluster_name: name.to_owned(),
                cluster,
                ..Question::default()
            })
        };
        let found = Answer::Found {
            cluster: 7,
            store: StoreId(3),
            peers: vec!["b:5451".to_owned()],
        };
        assert_eq!(asks("shop", None), found);
        assert_eq!(asks("shop", Some(7)), found);
        assert!(matches!(asks("shop", Some(8)), Answer::Refused(_)));
        assert!(matches!(asks("bank", Some(7)), Answer::Refused(_)));
        assert!(matches!(asks("bank", None), Answer::Refused(_)));
    }
}
