//! The process that runs inputs. It tells its parent by lines on stdout:
//!
//! ```text
//! at INDEX                    twice a second
//! found KEY<tab>FILE<tab>WHAT  a complaint, once for each key
//! ```
//!
//! What ends the process (an overflowed stack, an input out of time or memory) leaves the input in the
//! file `current`: its index in the first eight bytes, then the input.

use crate::corpus::Corpus;
use crate::{Target, TargetName, complaints, mutate};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An input may take this long. Statements have a timeout of two seconds, several to an input.
const INPUT_TIMEOUT: Duration = Duration::from_secs(20);

/// Resident memory of the process, in bytes, that no input may need: budgets of queries and
/// transactions are far below.
const MEMORY_BYTES: u64 = 3 << 30;

/// Resident memory at which a new process takes over, in bytes: engines in memory keep what they had.
const TIRED_BYTES: u64 = 1 << 30;

const WATCH_PAUSE: Duration = Duration::from_millis(50);
const REPORT_PAUSE: Duration = Duration::from_millis(500);

/// Exit codes that tell why a worker ended; a signal tells the rest.
pub const EXIT_HANG: i32 = 71;
pub const EXIT_MEMORY: i32 = 72;
/// Nothing is wrong; the next process goes on.
pub const EXIT_TIRED: i32 = 73;

const PAGE_BYTES: u64 = 4096;

pub struct Run {
    pub target: TargetName,
    pub seed: u64,
    pub first: u64,
    pub time: Duration,
    /// Where inputs go.
    pub folder: PathBuf,
}

/// Runs inputs until the time is over. Returns the exit code.
pub fn run(run: &Run) -> io::Result<i32> {
    let corpus = Corpus::load(run.target)?;
    complaints::record_panics();
    fs::create_dir_all(&run.folder)?;
    let current = File::create(run.folder.join("current"))?;
    let mut target = run.target.target()?;
    let watch = Watch::start();
    let began = Instant::now();
    let mut known = BTreeSet::new();
    let mut index = run.first;
    let mut reported = Instant::now();
    while began.elapsed() < run.time {
        let input = mutate::input(run.target, &corpus, run.seed, index);
        current.set_len(0)?;
        current.write_all_at(&index.to_le_bytes(), 0)?;
        current.write_all_at(&input, 8)?;
        watch.begin();
        target.run(&input);
        watch.end();
        for complaint in complaints::take() {
            if known.insert(complaint.key.clone()) {
                let file = save(&run.folder, run.target, &complaint.key, &input)?;
                let what = complaint.what.replace(['\n', '\t'], " ");
                say(&format!(
                    "found {}\t{}\t{what}",
                    complaint.key,
                    file.display()
                ))?;
            }
        }
        index += 1;
        if reported.elapsed() > REPORT_PAUSE {
            reported = Instant::now();
            say(&format!("at {index}"))?;
            if resident_bytes() > TIRED_BYTES {
                return Ok(EXIT_TIRED);
            }
        }
    }
    say(&format!("at {index}"))?;
    Ok(0)
}

/// Runs saved inputs and says what they do. `true`: nothing wrong.
pub fn replay(name: TargetName, files: &[PathBuf]) -> io::Result<bool> {
    complaints::record_panics();
    let mut target: Box<dyn Target> = name.target()?;
    let watch = Watch::start();
    let mut good = true;
    for file in files {
        let input = fs::read(file)?;
        watch.begin();
        let began = Instant::now();
        target.run(&input);
        watch.end();
        let found = complaints::take();
        good &= found.is_empty();
        say(&format!("{}: {:?}", file.display(), began.elapsed()))?;
        for complaint in found {
            say(&format!("  {}", complaint.what))?;
        }
    }
    Ok(good)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Saves an input under a name that its complaint decides, so that the same bug is one file.
pub fn save(folder: &Path, target: TargetName, key: &str, input: &[u8]) -> io::Result<PathBuf> {
    let name: String = key
        .rsplit("/registry/src/")
        .next()
        .unwrap_or(key)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(80)
        .collect();
    let path = folder.join(format!("{}-{name}", target.as_str()));
    fs::write(&path, input)?;
    Ok(path)
}

/// Ends the process when an input takes too long or too much.
struct Watch {
    began: Instant,
    /// Milliseconds after `began` when the input under way began; 0: none is.
    input_began: Arc<AtomicU64>,
}

impl Watch {
    fn start() -> Watch {
        let began = Instant::now();
        let input_began = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&input_began);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(WATCH_PAUSE);
                if resident_bytes() > MEMORY_BYTES {
                    std::process::exit(EXIT_MEMORY);
                }
                let since = seen.load(Ordering::Relaxed);
                let took = (began.elapsed().as_millis() as u64).saturating_sub(since);
                if since > 0 && took > INPUT_TIMEOUT.as_millis() as u64 {
                    std::process::exit(EXIT_HANG);
                }
            }
        });
        Watch { began, input_began }
    }

    fn begin(&self) {
        let now = self.began.elapsed().as_millis() as u64;
        self.input_began.store(now.max(1), Ordering::Relaxed);
    }

    fn end(&self) {
        self.input_began.store(0, Ordering::Relaxed);
    }
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}
