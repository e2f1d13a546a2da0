//! Writes a second over time, with marks where the cluster changed.

use super::Moment;
use crate::svg::Drawing;
use crate::svg::common::{CURVE, HEIGHT, LEFT, LINE, WORDS};

const TOP: f64 = 70.0;
const WIDTH: f64 = 700.0;
const MARGIN: f64 = 50.0;

/// The chart as a whole file.
pub fn svg(per_second: &[u64], moments: &[Moment]) -> String {
    let bottom = TOP + HEIGHT;
    let highest = per_second.iter().copied().max().unwrap_or(1).max(1) as f64;
    let seconds = per_second.len().max(2) as f64 - 1.0;
    let x = |second: f64| LEFT + WIDTH * (second / seconds).min(1.0);
    let mut out = Drawing::new(LEFT + WIDTH + MARGIN, bottom + MARGIN);
    out.text(
        16.0,
        26.0,
        "start",
        "18",
        LINE,
        "Writes a second while the cluster grows and shrinks",
    );
    let points: Vec<(f64, f64)> = per_second
        .iter()
        .enumerate()
        .map(|(second, writes)| (x(second as f64), bottom - HEIGHT * *writes as f64 / highest))
        .collect();
    out.curve(&points, CURVE);
    out.level(bottom, LEFT, LEFT + WIDTH, LINE, "");
    for moment in moments {
        let at = x(moment.at_micros as f64 / 1e6);
        out.mark(at, TOP - 8.0, bottom, LINE, "4 3");
        out.text(at, TOP - 14.0, "middle", "12", LINE, moment.name);
    }
    out.text(
        LEFT - 6.0,
        TOP + 4.0,
        "end",
        "12",
        WORDS,
        &format!("{highest:.0}"),
    );
    out.text(LEFT - 6.0, bottom + 4.0, "end", "12", WORDS, "0");
    out.text(LEFT, bottom + 20.0, "start", "12", WORDS, "0 s");
    out.text(
        LEFT + WIDTH,
        bottom + 20.0,
        "end",
        "12",
        WORDS,
        &format!("{seconds:.0} s"),
    );
    out.end()
}
