//! Following a node that gives away what it has.

use super::client::Client;
use super::picture::{self, Node};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Between two looks.
const POLL: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// No leases and no sessions.
    Drained,
    /// It has left the cluster.
    Gone,
}

impl Goal {
    /// What is left to give away; `None`: done.
    fn left(self, node: &Node) -> Option<u64> {
        let (leases, sessions) = (node.leases.unwrap_or(0), node.sessions.unwrap_or(0));
        let left = match self {
            Goal::Drained => leases + sessions,
            Goal::Gone => leases + node.replicas.unwrap_or(0),
        };
        let done = match self {
            Goal::Drained => left == 0,
            Goal::Gone => node.wanted == "gone",
        };
        (!done).then_some(left)
    }

    fn words(self, node: &Node) -> String {
        let leases = node.leases.unwrap_or(0);
        match self {
            Goal::Drained => {
                let sessions = node.sessions.unwrap_or(0);
                format!("{leases} leases and {sessions} sessions left")
            }
            Goal::Gone => {
                let replicas = node.replicas.unwrap_or(0);
                format!("{leases} leases and {replicas} replicas left")
            }
        }
    }
}

/// Waits until the node is there. An error if somebody else wants something else of it meanwhile.
pub async fn until(
    client: &mut Client,
    number: u64,
    goal: Goal,
    before: Option<Node>,
) -> Result<(), String> {
    let began = Instant::now();
    let wanted = match goal {
        Goal::Drained => "drain",
        Goal::Gone => "decommission",
    };
    let total = before.and_then(|node| goal.left(&node)).unwrap_or(0).max(1);
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    // A template of the program's own.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    loop {
        let nodes = picture::nodes(client).await?;
        let node = nodes.iter().find(|node| node.id == number);
        let node = node.ok_or_else(|| format!("node {number} is not there any more"))?;
        let Some(left) = goal.left(node) else {
            bar.finish_and_clear();
            let seconds = began.elapsed().as_secs_f64();
            let done = match goal {
                Goal::Drained => "is drained",
                Goal::Gone => "is decommissioned",
            };
            println!("node {number} {done} ({seconds:.1} s)");
            return Ok(());
        };
        if node.wanted != wanted && node.wanted != "gone" {
            bar.abandon();
            return Err(format!(
                "node {number} was told to {} meanwhile",
                node.wanted
            ));
        }
        bar.set_length(total.max(left));
        bar.set_position(total.max(left) - left);
        bar.set_message(goal.words(node));
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_drained_without_leases_and_sessions_and_gone_when_the_cluster_says_so() {
        let mut node = Node {
            replicas: Some(3),
            leases: Some(1),
            sessions: Some(2),
            wanted: "drain".to_owned(),
            ..Node::default()
        };
        assert_eq!(Goal::Drained.left(&node), Some(3));
        assert_eq!(Goal::Gone.left(&node), Some(4));
        (node.leases, node.sessions) = (Some(0), Some(0));
        assert_eq!(Goal::Drained.left(&node), None);
        // It holds nothing and has not left yet.
        node.replicas = None;
        assert_eq!(Goal::Gone.left(&node), Some(0));
        node.wanted = "gone".to_owned();
        assert_eq!(Goal::Gone.left(&node), None);
    }
}
