//! Starts that must not be: the reason is told, and the exit code is not 0.

use crate::node::{Ended, Node, start, start_on};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::path::Path;
use std::process::Command;

/// Runs a command that must end without having been ready.
fn refused(command: Command, folder: &Path) -> Ended {
    let ended = Node::run(command, folder).err().expect("it must not start");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    ended
}

#[test]
fn one_folder_has_one_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Node::start(folder.path());
    let elsewhere = tempfile::tempdir().expect("a folder for its stderr");
    let ended = refused(start(folder.path()), elsewhere.path());
    let holder = format!("process {}", first.pid());
    let data = folder.path().join("data").display().to_string();
    assert!(
        ended.stderr.contains(&holder) && ended.stderr.contains(&data),
        "{} not in {}",
        holder,
        ended.stderr
    );
    first.stop();
}

#[test]
fn other_machines_need_tls_and_a_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let exposed = |more: &[&str]| {
        let mut command = start_on(folder.path(), "0.0.0.0:0");
        command.args(more);
        command
    };
    let ended = refused(exposed(&[]), folder.path());
    for part in [
        "0.0.0.0:0",
        "TLS is not configured",
        "Hint:",
        "--tls-cert",
        "--insecure",
    ] {
        assert!(
            ended.stderr.contains(part),
            "{part} is not in {}",
            ended.stderr
        );
    }

    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_string()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
    std::fs::write(&certificate, cert.pem()).expect("a file");
    std::fs::write(&key, signing_key.serialize_pem()).expect("a file");
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let ended = refused(exposed(&tls), folder.path());
    assert!(
        ended.stderr.contains("no role has a password"),
        "{}",
        ended.stderr
    );
}
