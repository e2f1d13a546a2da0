//! Stories of searching nodes: one node against answers that the test gives, and several that ask each other.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn options(address: &str, join: &str) -> Options {
    let list = JoinAddress::parse_list(join);
    Options {
        join: match join.is_empty() {
            true => Vec::new(),
            false => list.expect("a good list"),
        },
        cluster_name: "shop".to_owned(),
        address: address.to_owned(),
        node: address
            .bytes()
            .fold(7u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte)),
        ..Options::default()
    }
}

fn founder(address: &str, join: &str) -> Options {
    Options {
        bootstrap: true,
        ..options(address, join)
    }
}

fn found(cluster: u128) -> Answer {
    Answer::Found {
        cluster,
        store: StoreId(1),
        peers: vec!["z:5451".to_owned()],
    }
}

fn searching(address: &str, bootstrap: bool) -> Answer {
    Answer::Searching {
        node: 99,
        address: address.to_owned(),
        bootstrap,
        founders: Vec::new(),
    }
}

/// Everything that is to be done now.
fn due(discovery: &mut Discovery, now: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    loop {
        match discovery.next(now) {
            Action::WaitUntil(until) => {
                assert!(until > now, "a wait must end later");
                return actions;
            }
            action @ (Action::Ask(_) | Action::Resolve(_)) => actions.push(action),
            end => {
                actions.push(end);
                return actions;
            }
        }
    }
}

fn ask(address: &str) -> Action {
    Action::Ask(address.to_owned())
}

#[test]
fn what_a_node_begins_with() {
    let used = Options {
        cluster: Some(5),
        ..founder("a:5451", "b")
    };
    let lan = Options {
        lan: true,
        ..options("a:5451", "")
    };
    for (options, beginning) in [
        (options("a:5451", ""), Beginning::Found),
        (founder("a:5451", ""), Beginning::Found),
        (options("a:5451", "b"), Beginning::Search),
        (founder("a:5451", "b"), Beginning::Search),
        (lan, Beginning::Search),
        (used, Beginning::Reopen),
    ] {
        assert_eq!(options.beginning(), beginning, "{options:?}");
    }
}

#[test]
fn joins_whoever_has_a_cluster() {
    let mut discovery = Discovery::new(options("a:5451", "a,b,c"), 0);
    // Its own address is not asked.
    assert_eq!(due(&mut discovery, 0), [ask("b:5451"), ask("c:5451")]);
    discovery.failed("b:5451", "connection refused".to_owned(), 10, 0);
    assert_eq!(due(&mut discovery, 20), []);
    discovery.answered("c:5451", found(5), 30, 0);
    let join = Action::Join(Found {
        cluster: 5,
        store: StoreId(1),
        address: "c:5451".to_owned(),
        peers: vec!["z:5451".to_owned()],
    });
    assert_eq!(discovery.next(30), join);
    assert_eq!(discovery.next(9999), join);
}

#[test]
fn without_bootstrap_a_node_waits_for_ever_and_says_so() {
    let mut discovery = Discovery::new(options("a:5451", "b,c"), 0);
    let mut asked = BTreeMap::new();
    for now in (0..600_000).step_by(50) {
        for action in due(&mut discovery, now) {
            let Action::Ask(address) = action else {
                panic!("{action:?}");
            };
            *asked.entry(address.clone()).or_insert(0) += 1;
            match address.as_str() {
                "b:5451" => discovery.answered(&address, searching(&address, false), now, now),
                _ => discovery.failed(&address, "no route to host".to_owned(), now, now),
            }
        }
    }
    // Ten minutes: twice a second who searches, too, and every five seconds who is silent.
    assert!((900..1600).contains(&asked["b:5451"]), "{asked:?}");
    assert!((100..170).contains(&asked["c:5451"]), "{asked:?}");
    assert_eq!(
        discovery.waiting_for(),
        "searching for the cluster `shop`; none was found yet\n\
         \u{20} b:5451: searches, too\n\
         \u{20} c:5451: no route to host\n\
         If the cluster is new, start one node with --bootstrap, or without --join and --discover."
    );
}

#[test]
fn a_founder_waits_for_every_answer() {
    let mut discovery = Discovery::new(founder("a:5451", "a,b,c"), 0);
    assert_eq!(due(&mut discovery, 0), [ask("b:5451"), ask("c:5451")]);
    discovery.answered("b:5451", searching("b:5451", false), 10, 0);
    discovery.failed("c:5451", "connection refused".to_owned(), 10, 0);
    assert_eq!(due(&mut discovery, 100), []);
    // A minute later, c is still silent: it may be the cluster.
    let actions = due(&mut discovery, 60_000);
    assert_eq!(actions, [ask("b:5451"), ask("c:5451")]);
    discovery.answered("b:5451", searching("b:5451", false), 60_010, 0);
    discovery.answered("c:5451", searching("c:5451", false), 60_010, 0);
    assert_eq!(discovery.next(60_010), Action::Found);
}

#[test]
fn a_founder_joins_rather_than_founds() {
    let mut discovery = Discovery::new(founder("a:5451", "b,c"), 0);
    due(&mut discovery, 0);
    discovery.answered("b:5451", searching("b:5451", false), 10, 0);
    discovery.answered("c:5451", found(5), 10, 0);
    assert!(matches!(discovery.next(10), Action::Join(_)));
}

#[test]
fn a_founder_alone_on_its_list_founds() {
    let mut discovery = Discovery::new(founder("a:5451", "a"), 0);
    assert_eq!(discovery.next(0), Action::Found);
}

#[test]
fn the_smallest_address_founds() {
    let mut discovery = Discovery::new(founder("b:5451", "a,b"), 0);
    due(&mut discovery, 0);
    discovery.answered("a:5451", searching("a:5451", true), 10, 0);
    assert_eq!(due(&mut discovery, 20), []);
    // The other was told not to found after all.
    assert_eq!(due(&mut discovery, 1000), [ask("a:5451")]);
    discovery.answered("a:5451", searching("a:5451", false), 1010, 0);
    assert_eq!(discovery.next(1010), Action::Found);
}

#[test]
fn two_founders_of_one_address_stop() {
    let mut discovery = Discovery::new(founder("127.0.0.1:5451", "a"), 0);
    due(&mut discovery, 0);
    discovery.answered("a:5451", searching("127.0.0.1:5451", true), 10, 0);
    let Action::Stop(reason) = discovery.next(10) else {
        panic!("it goes on");
    };
    assert!(reason.contains("--advertise-addr"), "{reason}");
}

#[test]
fn a_node_that_asked_itself_knows_it() {
    let mine = founder("a:5451", "alias,b");
    let answer = Answer::Searching {
        node: mine.node,
        address: mine.address.clone(),
        bootstrap: true,
        founders: Vec::new(),
    };
    let mut discovery = Discovery::new(mine, 0);
    due(&mut discovery, 0);
    discovery.answered("alias:5451", answer, 10, 0);
    discovery.answered("b:5451", searching("b:5451", false), 10, 0);
    assert_eq!(discovery.next(10), Action::Found);
}

#[test]
fn a_founder_that_was_heard_of_must_answer_or_stay_silent_for_a_minute() {
    let mut discovery = Discovery::new(founder("b:5451", "m"), 0);
    due(&mut discovery, 0);
    let heard_of = Answer::Searching {
        node: 99,
        address: "m:5451".to_owned(),
        bootstrap: false,
        founders: vec!["x:5451".to_owned(), "b:5451".to_owned()],
    };
    discovery.answered("m:5451", heard_of, 10, 0);
    assert_eq!(due(&mut discovery, 20), [ask("x:5451")]);
    discovery.failed("x:5451", "connection refused".to_owned(), 30, 0);
    for now in (1000..FOUNDER_SILENT_MILLIS).step_by(1000) {
        for action in due(&mut discovery, now) {
            match action {
                Action::Ask(address) if address == "m:5451" => {
                    discovery.answered(&address, searching(&address, false), now, 0);
                }
                Action::Ask(address) => discovery.failed(&address, "silent".to_owned(), now, 0),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(discovery.next(FOUNDER_SILENT_MILLIS + 10), Action::Found);
}

#[test]
fn names_are_resolved_again_and_lead_elsewhere() {
    let name: JoinAddress = "dns:db.svc".parse().expect("a name");
    let mut discovery = Discovery::new(founder("a:5451", "dns:db.svc"), 0);
    assert_eq!(due(&mut discovery, 0), [Action::Resolve(name.clone())]);
    assert_eq!(due(&mut discovery, 0), []);
    discovery.resolved(&name, Err("no such name".to_owned()), 10, 0);
    assert_eq!(due(&mut discovery, 1000), [Action::Resolve(name.clone())]);
    let addresses = vec!["a:5451".to_owned(), "b:5451".to_owned()];
    discovery.resolved(&name, Ok(addresses), 1010, 0);
    assert_eq!(due(&mut discovery, 1010), [ask("b:5451")]);
    discovery.failed("b:5451", "timed out".to_owned(), 1020, 0);
    let later = 1010 + 2 * RESOLVE_MILLIS;
    assert_eq!(
        due(&mut discovery, later),
        [Action::Resolve(name.clone()), ask("b:5451")]
    );
    // b is gone, c took its place.
    let addresses = vec!["a:5451".to_owned(), "c:5451".to_owned()];
    discovery.resolved(&name, Ok(addresses), later, 0);
    assert_eq!(due(&mut discovery, later), [ask("c:5451")]);
    discovery.answered("c:5451", searching("c:5451", false), later, 0);
    assert_eq!(discovery.next(later), Action::Found);
}

#[test]
fn a_name_that_leads_nowhere_founds_nothing() {
    let name: JoinAddress = "dns:db.svc".parse().expect("a name");
    let mut discovery = Discovery::new(founder("a:5451", "dns:db.svc"), 0);
    due(&mut discovery, 0);
    discovery.resolved(&name, Ok(Vec::new()), 10, 0);
    assert_eq!(due(&mut discovery, 20), []);
    assert!(discovery.waiting_for().contains("leads to no address"));
}

#[test]
fn a_node_of_a_cluster_takes_no_other() {
    let mine = Options {
        cluster: Some(5),
        ..founder("a:5451", "b,c")
    };
    let mut discovery = Discovery::new(mine, 0);
    due(&mut discovery, 0);
    discovery.answered("b:5451", found(6), 10, 0);
    discovery.answered("c:5451", searching("c:5451", false), 10, 0);
    assert_eq!(due(&mut discovery, 20), []);
    assert!(
        discovery
            .waiting_for()
            .contains("it belongs to another cluster")
    );
    assert_eq!(due(&mut discovery, 1000), [ask("c:5451")]);
    discovery.answered("c:5451", found(5), 1000, 0);
    assert!(matches!(discovery.next(1000), Action::Join(found) if found.cluster == 5));
}

fn sighting(address: &str, name: &str, cluster: Option<u128>) -> Sighting {
    Sighting {
        address: address.to_owned(),
        cluster_name: name.to_owned(),
        cluster,
    }
}

#[test]
fn on_a_local_network_a_node_listens_before_it_asks() {
    let mine = Options {
        lan: true,
        ..options("a:5451", "")
    };
    let mut discovery = Discovery::new(mine, 0);
    discovery.sighted(&sighting("a:5451", "shop", None), 10);
    discovery.sighted(&sighting("b:5451", "shop", Some(5)), 10);
    discovery.sighted(&sighting("c:5451", "bank", Some(6)), 10);
    assert_eq!(due(&mut discovery, LAN_LISTEN_MILLIS - 1), []);
    assert_eq!(due(&mut discovery, LAN_LISTEN_MILLIS), [ask("b:5451")]);
}

#[test]
fn two_clusters_of_one_name_on_a_local_network_are_for_a_person() {
    let mine = Options {
        lan: true,
        ..founder("a:5451", "")
    };
    let mut discovery = Discovery::new(mine, 0);
    discovery.sighted(&sighting("b:5451", "shop", Some(5)), 10);
    discovery.sighted(&sighting("c:5451", "shop", Some(6)), 10);
    assert!(matches!(discovery.next(10), Action::Stop(reason) if reason.contains("c:5451")));
}

#[test]
fn a_founder_alone_on_its_network_founds_after_listening() {
    let mine = || Options {
        lan: true,
        ..founder("a:5451", "")
    };
    let mut alone = Discovery::new(mine(), 0);
    assert_eq!(due(&mut alone, LAN_LISTEN_MILLIS - 1), []);
    assert_eq!(alone.next(LAN_LISTEN_MILLIS), Action::Found);

    let mut in_company = Discovery::new(mine(), 0);
    in_company.sighted(&sighting("b:5451", "shop", None), 10);
    assert_eq!(due(&mut in_company, LAN_LISTEN_MILLIS), [ask("b:5451")]);
    in_company.answered("b:5451", searching("b:5451", false), LAN_LISTEN_MILLIS, 0);
    assert_eq!(in_company.next(LAN_LISTEN_MILLIS), Action::Found);
}

#[test]
fn another_name_is_refused() {
    let mut discovery = Discovery::new(options("a:5451", "b"), 0);
    let mut question = options("b:5451", "a").question();
    question.cluster_name = "bank".to_owned();
    assert!(matches!(
        discovery.asked(&question, 0),
        Some(Answer::Refused(_))
    ));
}

/// How long a node takes to open its store.
const ENTER_MILLIS: u64 = 300;

/// Nodes that ask each other; each is up from some time on.
struct World {
    nodes: BTreeMap<String, (u64, Options, Discovery)>,
    /// Those that know their cluster, and when they can tell others of it.
    entering: BTreeMap<String, (u64, u128)>,
    members: BTreeMap<String, Member>,
    founded: u128,
}

impl World {
    fn new(nodes: Vec<(u64, Options)>) -> World {
        let nodes = nodes.into_iter().map(|(up, options)| {
            let discovery = Discovery::new(options.clone(), up);
            (options.address.clone(), (up, options, discovery))
        });
        World {
            nodes: nodes.collect(),
            entering: BTreeMap::new(),
            members: BTreeMap::new(),
            founded: 0,
        }
    }

    fn run(&mut self, until: u64) {
        for now in (0..until).step_by(100) {
            let names: Vec<String> = self.nodes.keys().cloned().collect();
            for name in names {
                self.step(&name, now);
            }
        }
    }

    /// One node asks everybody whom it wants to ask now.
    fn step(&mut self, name: &str, now: u64) {
        if let Some((at, cluster)) = self.entering.get(name)
            && *at <= now
        {
            self.enter(name, *cluster);
        }
        while !self.entering.contains_key(name) {
            let (up, options, discovery) = self.nodes.get_mut(name).expect("a node");
            if *up > now {
                return;
            }
            match discovery.next(now) {
                Action::Ask(address) => {
                    let question = options.question();
                    let answer = self.ask(&address, &question, now);
                    let (_, _, discovery) = self.nodes.get_mut(name).expect("a node");
                    match answer {
                        Some(answer) => discovery.answered(&address, answer, now, now),
                        None => discovery.failed(&address, "silent".to_owned(), now, now),
                    }
                }
                Action::WaitUntil(_) => return,
                Action::Found => {
                    self.founded += 1;
                    let entered = (now + ENTER_MILLIS, self.founded);
                    self.entering.insert(name.to_owned(), entered);
                }
                Action::Join(found) => {
                    let entered = (now + ENTER_MILLIS, found.cluster);
                    self.entering.insert(name.to_owned(), entered);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, address: &str, question: &Question, now: u64) -> Option<Answer> {
        if let Some(member) = self.members.get(address) {
            return Some(member.answer(question));
        }
        let (up, _, discovery) = self.nodes.get_mut(address)?;
        (*up <= now).then(|| discovery.asked(question, now))?
    }

    fn enter(&mut self, name: &str, cluster: u128) {
        let member = Member {
            cluster,
            cluster_name: "shop".to_owned(),
            store: StoreId(1),
            peers: Vec::new(),
        };
        self.members.insert(name.to_owned(), member);
    }

    fn clusters(&self) -> BTreeSet<u128> {
        self.members.values().map(|member| member.cluster).collect()
    }
}

#[test]
fn the_same_command_line_on_all_nodes_makes_one_cluster() {
    let nodes = ["a:5451", "b:5451", "c:5451"];
    let nodes = nodes.map(|address| (0, founder(address, "a,b,c")));
    let mut world = World::new(nodes.into());
    world.run(10_000);
    assert_eq!(world.members.len(), 3);
    assert_eq!(world.founded, 1);
}

/// The one that begins does not wait for the other, of which it has not heard, and the other has the smaller address.
#[test]
fn a_founder_that_has_begun_is_waited_for() {
    for late in [0, 100, 200, 300, 400] {
        let first = (0, founder("b:5451", "b"));
        let second = (late, founder("a:5451", "b"));
        let mut world = World::new(vec![first, second]);
        world.run(20_000);
        assert_eq!((world.members.len(), world.clusters().len()), (2, 1));
    }
}

#[test]
fn founders_that_share_only_a_friend_make_one_cluster() {
    let mut world = World::new(vec![
        (0, options("m:5451", "a")),
        (0, founder("a:5451", "m")),
        (0, founder("b:5451", "m")),
    ]);
    world.run(20_000);
    assert_eq!(world.members.len(), 3);
    assert_eq!(world.founded, 1);
}

#[test]
fn halves_without_a_founder_wait_and_never_merge_by_accident() {
    let mut world = World::new(vec![
        (0, options("a:5451", "b")),
        (0, options("b:5451", "a")),
        (0, founder("c:5451", "d")),
        (0, options("d:5451", "c")),
    ]);
    world.run(20_000);
    let names: Vec<&String> = world.members.keys().collect();
    assert_eq!(names, ["c:5451", "d:5451"]);
    assert_eq!(world.clusters().len(), 1);
}

proptest! {
    /// With one list on all nodes, whoever may found and whenever each comes up, there is one cluster; all
    /// are in it if anybody may found.
    #[test]
    fn one_list_makes_one_cluster(
        starts in proptest::collection::vec((0..8000u64, any::<bool>()), 1..6),
    ) {
        let names: Vec<String> = (0..starts.len()).map(|at| format!("n{at}:5451")).collect();
        let list = names.join(",");
        let may_found = starts.iter().any(|(_, bootstrap)| *bootstrap);
        let nodes = names.iter().zip(starts).map(|(name, (up, bootstrap))| {
            (up, Options { bootstrap, ..options(name, &list) })
        });
        let mut world = World::new(nodes.collect());
        world.run(30_000);
        prop_assert_eq!(world.founded, u128::from(may_found));
        prop_assert_eq!(world.members.len(), if may_found { names.len() } else { 0 });
    }
}
