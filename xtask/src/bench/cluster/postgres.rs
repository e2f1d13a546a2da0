//! PostgreSQL with two standbys, one of which must have synced before a commit is acknowledged.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bench::pgbench::At;
use crate::peer::{Place, Program, Server, connect, postgres};

const STANDBYS: [&str; 2] = ["s1", "s2"];
/// Longest wait for both standbys to stream.
const STREAM_LIMIT: Duration = Duration::from_secs(60);
const STREAM_POLL: Duration = Duration::from_millis(100);

/// The standbys are dropped before their primary.
pub struct PostgresTrio {
    standbys: Vec<Server>,
    primary: Server,
}

impl PostgresTrio {
    pub async fn start(program: &Program, folder: &Path) -> Result<PostgresTrio> {
        let bin = program.path();
        let mut place = Place::loopback()?;
        let names = STANDBYS.join(", ");
        place.arguments = setting("synchronous_standby_names", &format!("ANY 1 ({names})"));
        let data = folder.join("postgres-primary");
        let mut primary = Server::spawn_at(program, &data, &place)?;
        primary.wait_ready().await?;
        let mut standbys = Vec::new();
        for name in STANDBYS {
            let data = folder.join(format!("postgres-{name}"));
            postgres::base_backup(bin, &place, &data, name)?;
            let mut of_standby = Place::loopback()?;
            let upstream = format!(
                "host={} port={} user={} application_name={name}",
                place.host,
                place.sql_port,
                primary.user()
            );
            of_standby.arguments = setting("primary_conninfo", &upstream);
            let mut standby = Server::spawn_at(program, &data, &of_standby)?;
            standby.wait_ready().await?;
            standbys.push(standby);
        }
        let trio = PostgresTrio { standbys, primary };
        trio.wait_streaming().await?;
        Ok(trio)
    }

    async fn wait_streaming(&self) -> Result<()> {
        let session = connect(&self.primary.dsn()).await?;
        let deadline = Instant::now() + STREAM_LIMIT;
        loop {
            let row = session
                .query_one(
                    "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'quorum'",
                    &[],
                )
                .await?;
            if row.get::<_, i64>(0) == STANDBYS.len() as i64 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the standbys do not stream\n{}",
                self.primary.log_tail()
            );
            tokio::time::sleep(STREAM_POLL).await;
        }
    }

    /// Clients connect to the primary; the CPU time of all three counts.
    pub fn at(&self) -> At {
        let mut at = At::of(&self.primary);
        at.pids.extend(self.standbys.iter().map(Server::pid));
        at
    }

    pub async fn facts(&self, program: &Program) -> Result<String> {
        let session = connect(&self.primary.dsn()).await?;
        let mut settings = Vec::new();
        for name in ["synchronous_standby_names", "synchronous_commit", "fsync"] {
            let row = session.query_one(&format!("SHOW {name}"), &[]).await?;
            settings.push(format!("{name} = {}", row.get::<_, String>(0)));
        }
        Ok(format!(
            "PostgreSQL: {} with two standbys, its defaults and {}",
            program.version()?,
            settings.join(", ")
        ))
    }
}

fn setting(name: &str, value: &str) -> Vec<String> {
    vec!["-c".to_owned(), format!("{name}={value}")]
}
