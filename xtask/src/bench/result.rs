//! Samples, medians, ratios and verdicts.

use anyhow::Result;
use comfy_table::Table;

use super::plan::{Target, Unit, Workload};
use crate::report;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Postgres,
    Etcd,
    Phantom,
}

impl Side {
    /// The sides of a comparison with PostgreSQL.
    pub const BOTH: [Side; 2] = [Side::Postgres, Side::Phantom];

    pub fn name(self) -> &'static str {
        match self {
            Side::Postgres => "PostgreSQL",
            Side::Etcd => "etcd",
            Side::Phantom => "PhantomDB",
        }
    }
}

/// One measurement, in the workload's unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub value: f64,
    /// The server's CPU time for one transaction, where there are transactions to divide by.
    pub server_cpu_micros: Option<f64>,
}

impl From<f64> for Sample {
    fn from(value: f64) -> Sample {
        Sample {
            value,
            server_cpu_micros: None,
        }
    }
}

/// The samples of one side.
#[derive(Default)]
struct Samples {
    good: Vec<f64>,
    failures: Vec<String>,
    server_cpu_micros: Vec<f64>,
    broken: bool,
}

/// One workload with its samples of both sides.
pub struct Measured {
    pub name: String,
    unit: Unit,
    pub target: Target,
    /// Whom PhantomDB is compared with.
    pub peer: Side,
    of_peer: Samples,
    of_phantom: Samples,
}

impl Measured {
    pub fn new(workload: &Workload) -> Measured {
        Measured::against(
            Side::Postgres,
            &workload.name,
            workload.unit,
            workload.target,
        )
    }

    pub fn against(peer: Side, name: &str, unit: Unit, target: Target) -> Measured {
        Measured {
            name: name.to_owned(),
            unit,
            target,
            peer,
            of_peer: Samples::default(),
            of_phantom: Samples::default(),
        }
    }

    /// The two sides, the peer first.
    pub fn sides(&self) -> [Side; 2] {
        [self.peer, Side::Phantom]
    }

    /// Takes a sample and says it in words.
    pub fn add(&mut self, side: Side, sample: Result<Sample>) -> String {
        let unit = self.unit;
        match sample {
            Ok(Sample {
                value,
                server_cpu_micros,
            }) => {
                let samples = self.side_mut(side);
                samples.good.push(value);
                samples.server_cpu_micros.extend(server_cpu_micros);
                format!("{} {}", number(value), unit.name())
            }
            Err(error) => {
                let text = format!("{error:#}");
                self.side_mut(side).failures.push(text.clone());
                format!("FAILED: {text}")
            }
        }
    }

    /// Notes that the workload cannot run on a side at all.
    pub fn broken(&mut self, side: Side, error: String) {
        let samples = self.side_mut(side);
        samples.broken = true;
        samples.failures.push(error);
    }

    pub fn is_broken(&self, side: Side) -> bool {
        self.side(side).broken
    }

    /// The median, if the workload never failed on that side.
    pub fn median(&self, side: Side) -> Option<f64> {
        let samples = self.side(side);
        samples
            .failures
            .is_empty()
            .then(|| median(&samples.good))
            .flatten()
    }

    /// How many times as good PhantomDB is.
    pub fn ratio(&self) -> Option<f64> {
        let (peer, phantom) = (self.median(self.peer)?, self.median(Side::Phantom)?);
        Some(if self.unit.more_is_better() {
            phantom / peer
        } else {
            peer / phantom
        })
    }

    pub fn reaches_floor(&self) -> bool {
        self.median(Side::Phantom)
            .is_some_and(|phantom| match self.target {
                Target::Ratio { floor, .. } => self.ratio().is_some_and(|ratio| ratio >= floor),
                Target::AtMost(limit) => phantom <= limit,
                Target::None => true,
            })
    }

    pub fn verdict(&self) -> &'static str {
        match self.target {
            _ if !self.failures().is_empty() => "FAILED",
            _ if self.sides().iter().any(|side| self.median(*side).is_none()) => "-",
            _ if !self.reaches_floor() => "BELOW",
            Target::Ratio { goal, .. } if self.ratio().is_some_and(|ratio| ratio >= goal) => "goal",
            Target::Ratio { .. } => "floor",
            Target::AtMost(_) => "ok",
            Target::None => "-",
        }
    }

    pub fn failures(&self) -> Vec<String> {
        let of = |side: Side| {
            let name = &self.name;
            self.side(side)
                .failures
                .iter()
                .map(move |text| format!("{name} on {}: {text}", side.name()))
        };
        self.sides().into_iter().flat_map(of).collect()
    }

    fn side(&self, side: Side) -> &Samples {
        match side {
            Side::Phantom => &self.of_phantom,
            _ => &self.of_peer,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut Samples {
        match side {
            Side::Phantom => &mut self.of_phantom,
            _ => &mut self.of_peer,
        }
    }
}

pub fn table(measured: &[Measured]) -> Table {
    let header = [
        "workload",
        "beside",
        "its figure",
        "PhantomDB",
        "unit",
        "ratio",
        "floor",
        "goal",
        "verdict",
    ];
    let mut table = report::table(&header);
    for result in measured {
        let (floor, goal) = match result.target {
            Target::Ratio { floor, goal } => (format!("{floor}"), format!("{goal}")),
            Target::AtMost(limit) => (format!("<= {limit} {}", result.unit.name()), "-".to_owned()),
            Target::None => ("-".to_owned(), "-".to_owned()),
        };
        let shown = |side: Side| match result.median(side) {
            Some(value) => number(value),
            None if result.side(side).failures.is_empty() => "-".to_owned(),
            None => "failed".to_owned(),
        };
        table.add_row([
            result.name.clone(),
            result.peer.name().to_owned(),
            shown(result.peer),
            shown(Side::Phantom),
            result.unit.name().to_owned(),
            result
                .ratio()
                .map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            floor,
            goal,
            result.verdict().to_owned(),
        ]);
    }
    table
}

/// What the servers spent on one transaction: on few cores it is what the rates come from. Nothing if no
/// workload has transactions.
pub fn cpu_table(measured: &[Measured]) -> Option<Table> {
    let mut table = report::table(&[
        "server CPU per transaction, microseconds",
        "beside",
        "its figure",
        "PhantomDB",
    ]);
    for result in measured {
        let shown = |side: Side| {
            median(&result.side(side).server_cpu_micros).map_or("-".to_owned(), number)
        };
        if result
            .sides()
            .iter()
            .any(|side| !result.side(*side).server_cpu_micros.is_empty())
        {
            table.add_row([
                result.name.clone(),
                result.peer.name().to_owned(),
                shown(result.peer),
                shown(Side::Phantom),
            ]);
        }
    }
    (table.row_count() > 0).then_some(table)
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Three or four digits that matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan;

    fn measured(name: &str, postgres: f64, phantom: f64) -> Measured {
        let workload = plan::workloads()
            .into_iter()
            .find(|w| w.name == name)
            .expect("the workload");
        let mut measured = Measured::new(&workload);
        measured.add(Side::Postgres, Ok(postgres.into()));
        measured.add(Side::Phantom, Ok(phantom.into()));
        measured
    }

    #[test]
    fn a_ratio_above_one_is_better_for_rates_and_for_times() {
        let rate = measured("select prepared, 8 clients", 100.0, 200.0);
        assert_eq!((rate.ratio(), rate.verdict()), (Some(2.0), "goal"));
        let time = measured("copy in of 1 M rows", 2.0, 3.0);
        assert_eq!(time.verdict(), "floor");
        assert_eq!(measured("copy in of 1 M rows", 2.0, 5.0).verdict(), "BELOW");
        assert_eq!(
            measured("create table, median", 1.0, 6.0).verdict(),
            "BELOW"
        );
    }

    #[test]
    fn one_failure_makes_the_workload_failed() {
        let mut rate = measured("select prepared, 8 clients", 100.0, 200.0);
        rate.add(Side::Phantom, Err(anyhow::anyhow!("gone")));
        assert_eq!((rate.verdict(), rate.reaches_floor()), ("FAILED", false));
    }
}
