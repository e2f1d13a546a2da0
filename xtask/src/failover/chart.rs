//! The gaps as a chart: one bar a round, lines for the percentiles.

use super::{Round, gaps_of};
use crate::report::percentile;
use crate::svg::Drawing;
use crate::svg::common::{
    CURVE as ALL, HEIGHT as PLOT_HEIGHT, LEFT, LIMIT, LINE, PALE as CLIENT, WORDS,
};

const TOP: f64 = 60.0;
const STEP: f64 = 22.0;
const BAR: f64 = 14.0;
const RIGHT: f64 = 120.0;
const BOTTOM: f64 = 60.0;

/// The chart as a whole file.
pub fn svg(rounds: &[Round], limit_millis: Option<u64>) -> String {
    let plot_width = (STEP * rounds.len() as f64).max(240.0);
    let (width, bottom) = (LEFT + plot_width + RIGHT, TOP + PLOT_HEIGHT);
    let gaps = gaps_of(rounds);
    let highest = rounds
        .iter()
        .map(|round| round.client_gap_millis)
        .chain(gaps.iter().copied())
        .chain(limit_millis)
        .max()
        .unwrap_or(1)
        .max(1) as f64;
    let y = |millis: u64| bottom - PLOT_HEIGHT * millis as f64 / highest;
    let mut out = Drawing::new(width, bottom + BOTTOM);
    out.text(
        16.0,
        26.0,
        "start",
        "18",
        LINE,
        "Write gap when a node is lost, ms",
    );
    out.rect(16.0, 36.0, 12.0, 12.0, ALL);
    out.text(33.0, 46.5, "start", "12", LINE, "over all clients");
    out.rect(150.0, 36.0, 12.0, 12.0, CLIENT);
    out.text(167.0, 46.5, "start", "12", LINE, "longest of one client");
    for (number, round) in rounds.iter().enumerate() {
        let x = LEFT + STEP * number as f64 + (STEP - BAR) / 2.0;
        for (millis, colour) in [(round.client_gap_millis, CLIENT), (round.gap_millis, ALL)] {
            out.rect(x, y(millis), BAR, bottom - y(millis), colour);
        }
        let label = format!("n{}", round.victim);
        out.text(x + BAR / 2.0, bottom + 16.0, "middle", "10", WORDS, &label);
    }
    out.text(
        LEFT,
        bottom + 36.0,
        "start",
        "12",
        WORDS,
        "rounds, by the node that was lost",
    );
    out.level(bottom, LEFT, LEFT + plot_width, LINE, "");
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let millis = percentile(&gaps, share);
        out.level(y(millis), LEFT, LEFT + plot_width, LINE, "4 3");
        let words = format!("{name} {millis} ms");
        out.text(
            LEFT + plot_width + 6.0,
            y(millis) + 4.0,
            "start",
            "12",
            LINE,
            &words,
        );
    }
    if let Some(limit) = limit_millis {
        out.level(y(limit), LEFT, LEFT + plot_width, LIMIT, "");
        out.text(
            LEFT - 6.0,
            y(limit) + 4.0,
            "end",
            "12",
            LIMIT,
            &format!("limit {limit}"),
        );
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
    out.end()
}
