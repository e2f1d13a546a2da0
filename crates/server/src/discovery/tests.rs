//! Searching nodes in one process, and names and the local network over loopback.

use super::*;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record};
use membership::discovery::Member;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use types::StoreId;

const KIND: u8 = 9;

/// For anything here: much longer than it takes on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// Who answers at which address.
type Town = Arc<Mutex<BTreeMap<String, Resident>>>;

#[derive(Clone)]
enum Resident {
    Searching(Arc<Search>),
    Member(Arc<Member>),
}

struct Streets(Town);

impl Transport for Streets {
    fn send(&self, _: StoreId, _: bytes::Bytes) {}

    fn call(&self, _: StoreId, _: bytes::Bytes) -> BoxFuture<Result<bytes::Bytes, CallError>> {
        Box::pin(async { Err(CallError::Unsent("a search knows no stores".to_owned())) })
    }

    fn call_address(
        &self,
        address: &str,
        request: bytes::Bytes,
    ) -> BoxFuture<Result<bytes::Bytes, CallError>> {
        let resident = self.0.lock().get(address).cloned();
        assert_eq!(request[0], KIND);
        let request = request.slice(1..);
        Box::pin(async move {
            match resident {
                None => Err(CallError::Unsent("connection refused".to_owned())),
                Some(Resident::Searching(search)) => {
                    Ok(search.answer(&request).expect("a good question"))
                }
                Some(Resident::Member(member)) => {
                    let question = Question::decode(&request).expect("a good question");
                    Ok(member.answer(&question).encode())
                }
            }
        })
    }

    fn learn(&self, _: StoreId, _: &str) {}
}

fn options(address: &str, join: &str, node: u64) -> Options {
    Options {
        join: JoinAddress::parse_list(join).expect("a good list"),
        cluster_name: "shop".to_owned(),
        address: address.to_owned(),
        node,
        ..Options::default()
    }
}

fn world(town: &Town, say: impl Fn(&str) + Send + Sync + 'static) -> World {
    World {
        env: crate::env::real(),
        transport: Arc::new(Streets(Arc::clone(town))),
        kind: KIND,
        say: Box::new(say),
    }
}

/// Moves in and searches; once it knows its cluster it answers as a member.
async fn settle(town: Town, options: Options) -> Outcome {
    let address = options.address.clone();
    let search = Search::new(options, world(&town, |_| {}), None);
    let resident = Resident::Searching(Arc::clone(&search));
    town.lock().insert(address.clone(), resident);
    let outcome = search.run().await;
    let cluster = match &outcome {
        Outcome::Found => 0xf00d,
        Outcome::Join(found) => found.cluster,
        Outcome::Stop(reason) => panic!("{reason}"),
    };
    let member = Member {
        cluster,
        cluster_name: "shop".to_owned(),
        store: StoreId(1),
        peers: Vec::new(),
    };
    let resident = Resident::Member(Arc::new(member));
    town.lock().insert(address, resident);
    outcome
}

#[tokio::test]
async fn three_nodes_with_one_command_line_become_one_cluster() {
    let town = Town::default();
    let list = "a:5451,b:5451,c:5451";
    let mut nodes = Vec::new();
    for (node, address) in list.split(',').enumerate() {
        let options = Options {
            bootstrap: true,
            ..options(address, list, node as u64)
        };
        nodes.push(tokio::spawn(settle(Arc::clone(&town), options)));
    }
    let mut outcomes = Vec::new();
    for node in nodes {
        let outcome = timeout(LONG, node).await.expect("in time");
        outcomes.push(outcome.expect("the search goes well"));
    }
    assert_eq!(outcomes[0], Outcome::Found);
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, Outcome::Join(found) if found.cluster == 0xf00d));
    }
}

#[tokio::test]
async fn a_node_that_waits_says_for_what() {
    let town = Town::default();
    let (said, mut saying) = tokio::sync::mpsc::channel(1);
    let say = move |text: &str| {
        let _ = said.try_send(text.to_owned());
    };
    let search = Search::new(options("a:5451", "b", 1), world(&town, say), None);
    let said = tokio::select! {
        outcome = search.run() => panic!("{outcome:?}"),
        said = timeout(LONG, saying.recv()) => said.expect("in time").expect("a text"),
    };
    assert!(said.contains("b:5451: connection refused"), "{said}");
    assert!(said.contains("--bootstrap"), "{said}");
}

/// A name server on loopback that knows two services of `shop.test`, for as long as the test runs.
async fn name_server() -> std::io::Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = socket.local_addr()?.port();
    tokio::spawn(async move {
        let mut packet = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut packet).await {
            let Ok(mut message) = Message::from_vec(&packet[..len]) else {
                continue;
            };
            message.metadata.message_type = MessageType::Response;
            let asked = message.queries[0].name().clone();
            if asked.to_utf8().starts_with("_phantomdb._tcp.shop.test") {
                for (host, port) in [("n1.shop.test.", 5451), ("n2.shop.test.", 6000)] {
                    let target = Name::from_utf8(host).expect("a name");
                    let service = RData::SRV(SRV::new(0, 0, port, target));
                    message.add_answer(Record::from_rdata(asked.clone(), 1, service));
                }
            } else {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
            let answer = message.to_vec().expect("a message");
            let _ = socket.send_to(&answer, from).await;
        }
    });
    Ok(port)
}

#[tokio::test]
async fn services_give_hosts_and_ports() {
    let port = name_server().await.expect("a socket on loopback");
    let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
    server.connections[0].port = port;
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let resolver = resolver.build().expect("a resolver");
    let asked = dns::services_by(&resolver, "_phantomdb._tcp.shop.test.");
    let found = timeout(LONG, asked).await.expect("in time");
    assert_eq!(
        found,
        Ok(vec![
            "n1.shop.test:5451".to_owned(),
            "n2.shop.test:6000".to_owned()
        ])
    );
    let asked = dns::services_by(&resolver, "_phantomdb._tcp.bank.test.");
    assert_eq!(timeout(LONG, asked).await.expect("in time"), Ok(Vec::new()));
}

#[tokio::test]
async fn names_lead_to_addresses() {
    let resolved = |name: &str| {
        let name = name.parse().expect("an address");
        async move { dns::resolve(&name).await }
    };
    // The name that every machine has, of either family.
    let found = resolved("dns:localhost:7000").await.expect("a known name");
    assert!(
        ["127.0.0.1:7000", "[::1]:7000"].contains(&found[0].as_str()),
        "{found:?}"
    );
    assert_eq!(resolved("db1:7").await, Ok(vec!["db1:7".to_owned()]));
    assert!(resolved("dns:no-such-host.invalid:7").await.is_err());
}

/// Two nodes of this machine see each other by multicast, if the machine lets them.
#[tokio::test]
async fn nodes_of_one_network_see_each_other() {
    let lan = Lan::start().expect("a thread");
    let other = Lan::start().expect("a thread");
    let announcement = lan::Announcement {
        node: rand::random(),
        cluster_name: "shop".to_owned(),
        member: Some((0xabc, StoreId(3))),
        address: "192.0.2.7:5451".to_owned(),
    };
    lan.announce(&announcement).expect("a good announcement");
    let expected = Sighting {
        address: announcement.address.clone(),
        cluster_name: "shop".to_owned(),
        cluster: Some(0xabc),
    };
    let sightings = other.sightings();
    let seen = async {
        loop {
            match sightings.next().await {
                // Others may be on this network.
                Some(sighting) if sighting == expected => return true,
                Some(_) => {}
                None => return false,
            }
        }
    };
    if timeout(Duration::from_secs(8), seen).await != Ok(true) {
        eprintln!("skipped: this machine does not pass multicast");
    }
}
