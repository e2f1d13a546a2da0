//! `phantomdb proxy` in front of nodes. They are no cluster: each has its own data, which tells them apart.

mod cancel;
mod drain;
mod failures;
mod spread;
mod tls;

use crate::node::{Node, eventually, program};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio_postgres::Client;

/// Sessions of a node.
const SESSIONS: &str = "phantomdb_sql_connections";

/// Some nodes.
pub struct Nodes {
    pub nodes: Vec<Node>,
    _folders: Vec<TempDir>,
}

impl Nodes {
    pub fn start(count: usize) -> Nodes {
        let folders: Vec<TempDir> = (0..count)
            .map(|_| tempfile::tempdir().expect("a folder"))
            .collect();
        Nodes {
            nodes: folders
                .iter()
                .map(|folder| Node::start(folder.path()))
                .collect(),
            _folders: folders,
        }
    }

    /// The nodes as `--nodes` takes them.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.sql.to_string()).collect();
        addresses.join(",")
    }

    /// Sessions of each.
    pub fn sessions(&self) -> Vec<f64> {
        self.nodes
            .iter()
            .map(|node| node.metric(SESSIONS))
            .collect()
    }

    /// A list of them as a node of a cluster serves it.
    pub fn list(&self) -> List {
        let list = List::serve();
        list.set(self, &[]);
        list
    }
}

/// `phantomdb proxy` with these arguments, on ports that the system chooses.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(["proxy", "--until-stdin-ends", "--http-addr", "127.0.0.1:0"])
        .args(arguments);
    if !arguments.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command
}

/// A proxy, ready.
pub struct Proxy {
    pub node: Node,
    _folder: TempDir,
}

impl Proxy {
    pub fn start(arguments: &[&str]) -> Proxy {
        let folder = tempfile::tempdir().expect("a folder");
        let node = Node::run(command(arguments), folder.path());
        Proxy {
            node: node.unwrap_or_else(|ended| panic!("no start: {ended:?}")),
            _folder: folder,
        }
    }

    /// In front of nodes that are given.
    pub fn of(nodes: &Nodes) -> Proxy {
        Proxy::start(&["--nodes", &nodes.addresses()])
    }

    /// In front of the nodes of a list.
    pub fn joining(list: &List) -> Proxy {
        Proxy::start(&["--join", &format!("http://{}", list.address)])
    }

    /// Waits until the proxy knows as many nodes that take sessions.
    pub fn wait_for_nodes(&self, count: usize) {
        eventually("the proxy knows the nodes", || {
            let (_, table) = self.node.get("/stats");
            (table.matches(" up ").count() == count).then_some(())
        });
    }
}

/// Which node a session is on: the one that counts its statement. Nobody else may run any meanwhile.
pub async fn place(client: &Client, nodes: &Nodes) -> usize {
    let before = statements(nodes);
    client.batch_execute("SELECT 1").await.expect("an answer");
    let after = statements(nodes);
    let grown = |at: &usize| after[*at] > before[*at];
    (0..after.len()).find(grown).expect("a node has answered")
}

fn statements(nodes: &Nodes) -> Vec<f64> {
    let statements = |node: &Node| node.metric("phantomdb_sql_statements_total");
    nodes.nodes.iter().map(statements).collect()
}

/// A server with nothing but the page `/nodes`.
pub struct List {
    pub address: SocketAddr,
    json: Arc<Mutex<String>>,
}

impl List {
    fn serve() -> List {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let json = Arc::new(Mutex::new("[]".to_string()));
        let shown = Arc::clone(&json);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let asked = lines.next().unwrap_or_default();
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                assert!(asked.starts_with("GET /nodes "), "{asked}");
                let body = shown.lock().expect("no panic").clone();
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
                );
            }
        });
        List { address, json }
    }

    /// All nodes, those at `draining` as such.
    pub fn set(&self, nodes: &Nodes, draining: &[usize]) {
        let entry = |(at, node): (usize, &Node)| {
            let (id, sql, http, drains) = (at + 1, node.sql, node.http, draining.contains(&at));
            format!(
                r#"{{"id":{id},"sql":"{sql}","http":"{http}","rpc":"","state":"live","draining":{drains},"sessions":0}}"#
            )
        };
        let entries: Vec<String> = nodes.nodes.iter().enumerate().map(entry).collect();
        *self.json.lock().expect("no panic") = format!("[{}]", entries.join(","));
    }
}
