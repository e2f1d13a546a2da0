//! The shape of the workspace, as a check: what may depend on what, and what must not be in the tree.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::peer::workspace_folder;
use crate::report;

/// The largest file that belongs in a source tree, in bytes: more is data, which is generated instead.
const FILE_LIMIT_BYTES: u64 = 1024 * 1024;

/// Which crates of the workspace a crate may use, besides `types`, which all may. A crate that is not
/// named here may use none: a new crate is placed by adding its line. See ARCHITECTURE.md for the picture.
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("storage", &[]),
    ("membership", &["storage"]),
    ("consensus", &["storage", "membership"]),
    ("sharding", &[]),
    // The coordinator reaches shards through a trait of its own; the lock table and the commit live here.
    ("txn", &["storage", "sharding", "consensus"]),
    (
        "replication",
        &["storage", "membership", "consensus", "sharding", "txn"],
    ),
    (
        "cluster",
        &[
            "storage",
            "membership",
            "consensus",
            "sharding",
            "txn",
            "replication",
        ],
    ),
    (
        "node",
        &[
            "storage",
            "membership",
            "consensus",
            "sharding",
            "txn",
            "replication",
            "cluster",
        ],
    ),
    ("sql", &["txn", "sharding"]),
    // The shell builds the parts and hands them to each other, so it names their types too.
    ("server", WHOLE_NODE),
    ("sim", WHOLE_NODE),
    ("xtask", &["sim"]),
];

/// What a process around a node is put together from.
const WHOLE_NODE: &[&str] = &[
    "sql",
    "node",
    "storage",
    "txn",
    "sharding",
    "consensus",
    "membership",
    "replication",
    "cluster",
];

/// Packages that may use everything: they only test.
const FREE: &[&str] = &["fuzz", "tests"];

/// Prints what is out of order; true if nothing is.
pub fn run() -> Result<bool> {
    let complaints = complaints(workspace_folder())?;
    let mut table = report::table(&["check", "complaints"]);
    for (check, found) in &complaints {
        table.add_row([(*check).to_owned(), found.len().to_string()]);
    }
    println!("{table}");
    for complaint in complaints.values().flatten() {
        println!("{complaint}");
    }
    Ok(complaints.values().all(Vec::is_empty))
}

type Complaints = BTreeMap<&'static str, Vec<String>>;

fn complaints(root: &Path) -> Result<Complaints> {
    let files = tracked_files(root)?;
    Ok(BTreeMap::from([
        (
            "dependency direction",
            against_direction(&dependencies(root)?),
        ),
        ("absolute paths of a machine", machine_paths(root, &files)),
        ("file sizes", too_large(root, &files)),
        ("paths in ARCHITECTURE.md", missing_terms(root)?),
    ]))
}

/// The files that git knows; deleted ones that are still in its index are left out.
fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = output_of(root, Command::new("git").args(["ls-files", "-z"]))?;
    let names = String::from_utf8_lossy(&listed);
    Ok(names
        .split('\0')
        .filter(|n| !n.is_empty())
        .map(PathBuf::from)
        .filter(|p| root.join(p).is_file())
        .collect())
}

fn output_of(root: &Path, command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .current_dir(root)
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Nothing for an ordinary dependency, else `dev` or `build`.
    kind: Option<String>,
    /// Only dependencies inside the workspace have a path.
    path: Option<PathBuf>,
}

/// (crate, what it uses inside the workspace): tests of a crate may use more than the crate does.
fn dependencies(root: &Path) -> Result<Vec<(String, String)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = [
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
        "--offline",
    ];
    let metadata: Metadata =
        serde_json::from_slice(&output_of(root, Command::new(cargo).args(arguments))?)?;
    let pairs = metadata.packages.into_iter().flat_map(|package| {
        let inside = |d: &Dependency| d.path.is_some() && d.kind.as_deref() != Some("dev");
        let name = package.name;
        package
            .dependencies
            .into_iter()
            .filter(inside)
            .map(move |d| (name.clone(), d.name))
    });
    Ok(pairs.collect())
}

fn against_direction(pairs: &[(String, String)]) -> Vec<String> {
    let forbidden = |user: &str, used: &str| {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == user);
        used != "types"
            && !FREE.contains(&user)
            && !allowed.is_some_and(|(_, allowed)| allowed.contains(&used))
    };
    pairs
        .iter()
        .filter(|(user, used)| forbidden(user, used))
        .map(|(user, used)| format!("crate {user} may not depend on {used}"))
        .collect()
}

/// Paths that hold only on the machine where they were written.
fn machine_paths(root: &Path, files: &[PathBuf]) -> Vec<String> {
    // Put together so that this file does not name one itself.
    let prefixes = [
        ["/", "root/"].concat(),
        ["/", "home/"].concat(),
        ["/", "Users/"].concat(),
        ["/", "work/"].concat(),
    ];
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let starts = prefixes
                .iter()
                .flat_map(|prefix| line.match_indices(prefix.as_str()));
            // Inside a longer path or an address (docs/root/, https://x/home/) it is no absolute path.
            let absolute = |at: usize| {
                line[..at]
                    .chars()
                    .next_back()
                    .is_none_or(|c| !c.is_alphanumeric() && !"_-./*}".contains(c))
            };
            if starts.into_iter().any(|(at, _)| absolute(at)) {
                found.push(format!(
                    "{}:{}: absolute path: {}",
                    file.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    found
}

fn too_large(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let size = |file: &PathBuf| fs::metadata(root.join(file)).map_or(0, |m| m.len());
    files
        .iter()
        .filter(|file| size(file) > FILE_LIMIT_BYTES)
        .map(|file| {
            format!(
                "{} has {} bytes, more than {FILE_LIMIT_BYTES}",
                file.display(),
                size(file)
            )
        })
        .collect()
}

/// Every path in backticks inside a table row of ARCHITECTURE.md must exist.
fn missing_terms(root: &Path) -> Result<Vec<String>> {
    let page = root.join("ARCHITECTURE.md");
    if !page.exists() {
        return Ok(vec!["ARCHITECTURE.md is missing".to_owned()]);
    }
    let text = fs::read_to_string(page)?;
    let missing = table_paths(&text)
        .into_iter()
        .filter(|path| !root.join(path).exists());
    Ok(missing
        .map(|path| format!("ARCHITECTURE.md names {path}, which does not exist"))
        .collect())
}

fn table_paths(page: &str) -> Vec<String> {
    let rows = page
        .lines()
        .filter(|line| line.trim_start().starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    quoted
        .filter(|text| text.contains('/') && !text.contains(' '))
        .flat_map(expand_braces)
        .collect()
}

/// `a/{b,c}.rs` stands for `a/b.rs` and `a/c.rs`.
fn expand_braces(path: &str) -> Vec<String> {
    match path
        .split_once('{')
        .and_then(|(head, rest)| Some((head, rest.split_once('}')?)))
    {
        Some((head, (inner, tail))) => inner
            .split(',')
            .map(|part| format!("{head}{part}{tail}"))
            .collect(),
        None => vec![path.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let complaints = complaints(workspace_folder()).expect("the checks run");
        let found: Vec<_> = complaints.into_values().flatten().collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn an_upward_dependency_is_refused() {
        let pair = |user: &str, used: &str| (user.to_owned(), used.to_owned());
        let pairs = [
            pair("storage", "sql"),
            pair("sql", "txn"),
            pair("storage", "types"),
            pair("new", "sql"),
        ];
        assert_eq!(
            against_direction(&pairs),
            [
                "crate storage may not depend on sql",
                "crate new may not depend on sql"
            ]
        );
    }

    #[test]
    fn paths_are_taken_from_tables_only() {
        let page = "see `a/b.rs`\n| shard map | `crates/sharding/src/{shard_map,router}.rs` | what `it is` |\n";
        assert_eq!(
            table_paths(page),
            [
                "crates/sharding/src/shard_map.rs",
                "crates/sharding/src/router.rs"
            ]
        );
    }
}
