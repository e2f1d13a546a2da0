//! A node as a child process.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// For everything that a node does at once on a quiet machine; a busy one may take its time.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);

const PROGRAM: &str = env!("CARGO_BIN_EXE_phantomdb");

pub struct Node {
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: PathBuf,
    pub sql: SocketAddr,
    pub http: SocketAddr,
}

pub type Connection = tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>;

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// Lines of stdout after the first.
    pub more_stdout: Vec<String>,
    pub stderr: String,
}

/// `phantomdb start` on a folder, not yet run.
pub fn start(folder: &Path) -> Command {
    start_on(folder, "127.0.0.1:0")
}

/// The same with another address for SQL.
pub fn start_on(folder: &Path, sql_addr: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("start").args(arguments(folder, sql_addr));
    command
}

/// What `start` is given: ports that the system chooses, and an end when the test ends.
pub fn arguments(folder: &Path, sql_addr: &str) -> Vec<String> {
    let folder = folder.join("data").display().to_string();
    let addresses = ["--sql-addr", sql_addr, "--http-addr", "127.0.0.1:0"];
    let mut arguments = vec![
        "--until-stdin-ends".to_string(),
        "--data".to_string(),
        folder,
    ];
    arguments.extend(addresses.map(str::to_string));
    arguments
}

pub fn program() -> &'static str {
    PROGRAM
}

impl Node {
    /// A node on `folder`, ready. What it says on stderr goes to a file there.
    pub fn start(folder: &Path) -> Node {
        Node::run(start(folder), folder).unwrap_or_else(|ended| panic!("no start: {ended:?}"))
    }

    /// Runs a command until its ready line, or until it ends without one.
    pub fn run(mut command: Command, folder: &Path) -> Result<Node, Ended> {
        let stderr = folder.join("stderr");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let (sender, stdout) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).all(|l| sender.send(l).is_ok()));
        let ready = match stdout.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("not ready after {DEADLINE:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(ended(&mut child, &stdout, &stderr));
            }
        };
        // PhantomDB 0.1.0 is ready: postgres://phantom@HOST:PORT/phantom (http://HOST:PORT/metrics)
        let address = |before: &str, after: char| -> SocketAddr {
            let (_, rest) = ready.split_once(before).expect("the ready line's shape");
            let (address, _) = rest.split_once(after).expect("the ready line's shape");
            address.parse().expect("an address")
        };
        let (sql, http) = (address("phantom@", '/'), address("http://", '/'));
        Ok(Node {
            child,
            stdout,
            stderr,
            sql,
            http,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub async fn connect(&self) -> Client {
        self.try_connect().await.expect("a connection").0
    }

    /// A client, and what its connection ends with.
    pub async fn try_connect(&self) -> Result<(Client, Connection), tokio_postgres::Error> {
        let url = format!("postgres://phantom@{}/phantom", self.sql);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        Ok((client, tokio::spawn(connection)))
    }

    /// Status line and body of `GET path`.
    pub fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.http).expect("HTTP listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP's shape");
        let status = head.lines().next().unwrap_or_default().to_string();
        (status, body.to_string())
    }

    /// The value of a metric, named with its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, body) = self.get("/metrics");
        let value = body.lines().find_map(|line| {
            let (found, value) = line.rsplit_once(' ')?;
            (found == name).then(|| value.parse().expect("a number"))
        });
        value.unwrap_or_else(|| panic!("no {name} in\n{body}"))
    }

    /// The next lines that it says after its ready line.
    pub fn said(&self, lines: usize) -> Vec<String> {
        let line = |_| self.stdout.recv_timeout(DEADLINE).expect("a line");
        (0..lines).map(line).collect()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.pid().to_string()])
            .status();
        assert!(sent.expect("kill is there").success());
    }

    /// Pauses it, and returns once it does nothing any more: on a busy machine that takes a moment.
    pub async fn pause(&self) {
        self.signal("STOP");
        let stat = format!("/proc/{}/stat", self.pid());
        let is_paused = || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        let began = Instant::now();
        while !is_paused() {
            assert!(began.elapsed() < DEADLINE, "it goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the end.
    pub fn ended(mut self) -> Ended {
        ended(&mut self.child, &self.stdout, &self.stderr)
    }

    /// Stops it as an operator does.
    pub fn stop(self) {
        self.signal("TERM");
        let ended = self.ended();
        assert!(ended.status.success(), "{ended:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(child: &mut Child, stdout: &mpsc::Receiver<String>, stderr: &Path) -> Ended {
    let status = eventually("the process ends", || {
        child.try_wait().expect("a child of this process")
    });
    Ended {
        status,
        more_stdout: stdout.iter().collect(),
        stderr: std::fs::read_to_string(stderr).expect("a file"),
    }
}

/// Asks until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "not after {DEADLINE:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// SQLSTATE of what the server ended a connection with.
pub async fn last_words(connection: Connection) -> String {
    let ended = tokio::time::timeout(DEADLINE, connection).await;
    let ended = ended.expect("the connection ends").expect("no panic");
    ended.map_or_else(|error| state(&error).to_string(), |()| "none".to_string())
}

/// SQLSTATE of the server's error.
pub fn state(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("none", |code| code.code())
}
