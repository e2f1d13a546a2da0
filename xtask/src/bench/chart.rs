//! The ratios as a bar chart, written as SVG by hand: one bar a workload, marks for floor and goal.

use super::plan::Target;
use super::result::Measured;
use crate::svg::Drawing;

const LABEL_WIDTH: f64 = 250.0;
const PLOT_WIDTH: f64 = 520.0;
const RIGHT_MARGIN: f64 = 90.0;
const ROW_HEIGHT: f64 = 34.0;
const BAR_HEIGHT: f64 = 18.0;
const TOP: f64 = 92.0;
const LINE_HEIGHT: f64 = 16.0;
/// A ratio beyond this is drawn up to it, with its number beside it: the interesting part is around 1.
const LONGEST_RATIO: f64 = 4.0;

const GOOD: &str = "#2f7d4f";
const BETWEEN: &str = "#3b6ea5";
const BELOW: &str = "#b3412e";
const PLAIN: &str = "#8a8f98";

/// The chart as a whole file.
pub fn svg(title: &str, measured: &[Measured], facts: &[String]) -> String {
    let bottom = TOP + ROW_HEIGHT * measured.len() as f64;
    let width = LABEL_WIDTH + PLOT_WIDTH + RIGHT_MARGIN;
    let height = bottom + 40.0 + LINE_HEIGHT * facts.len() as f64;
    let mut out = Drawing::new(width, height);
    out.text(16.0, 28.0, "start", "18", "#1c1e21", title);
    out.text(
        16.0,
        48.0,
        "start",
        "12",
        "#555a61",
        "medians; longer is better for every kind of figure",
    );
    legend(&mut out);
    axis(&mut out, bottom);
    for (row, result) in measured.iter().enumerate() {
        bar(&mut out, result, TOP + ROW_HEIGHT * row as f64);
    }
    for (number, fact) in facts.iter().enumerate() {
        let y = bottom + 40.0 + LINE_HEIGHT * number as f64;
        out.text(16.0, y, "start", "11", "#555a61", fact);
    }
    out.end()
}

fn x_of(ratio: f64) -> f64 {
    LABEL_WIDTH + PLOT_WIDTH * ratio.min(LONGEST_RATIO) / LONGEST_RATIO
}

fn legend(out: &mut Drawing) {
    let entries = [
        (GOOD, "goal reached"),
        (BETWEEN, "floor reached"),
        (BELOW, "below the floor"),
        (PLAIN, "no floor"),
    ];
    for (number, (colour, name)) in entries.into_iter().enumerate() {
        let x = 16.0 + 130.0 * number as f64;
        out.rect(x, 60.0, 12.0, 12.0, colour);
        out.text(x + 17.0, 70.5, "start", "12", "#1c1e21", name);
    }
    let x = 16.0 + 130.0 * 4.0;
    out.mark(x, 58.0, 74.0, "#1c1e21", "");
    out.text(x + 7.0, 70.5, "start", "12", "#1c1e21", "floor");
    out.mark(x + 60.0, 58.0, 74.0, "#1c1e21", "3 2");
    out.text(x + 67.0, 70.5, "start", "12", "#1c1e21", "goal");
}

fn axis(out: &mut Drawing, bottom: f64) {
    for half in 0..=(LONGEST_RATIO * 2.0) as u32 {
        let ratio = f64::from(half) / 2.0;
        let x = x_of(ratio);
        let colour = if ratio == 1.0 { "#1c1e21" } else { "#dfe2e6" };
        out.mark(x, TOP - 6.0, bottom, colour, "");
        if ratio.fract() == 0.0 {
            out.text(
                x,
                bottom + 16.0,
                "middle",
                "12",
                "#555a61",
                &format!("{ratio:.0}x"),
            );
        }
    }
}

fn bar(out: &mut Drawing, result: &Measured, top: f64) {
    let middle = top + BAR_HEIGHT / 2.0 + 4.5;
    out.text(
        LABEL_WIDTH - 10.0,
        middle,
        "end",
        "13",
        "#1c1e21",
        &result.name,
    );
    let Some(ratio) = result.ratio() else {
        out.text(LABEL_WIDTH + 6.0, middle, "start", "13", BELOW, "failed");
        return;
    };
    let colour = match result.verdict() {
        "goal" | "ok" => GOOD,
        "floor" => BETWEEN,
        "BELOW" => BELOW,
        _ => PLAIN,
    };
    let end = x_of(ratio);
    out.rect(
        LABEL_WIDTH,
        top,
        (end - LABEL_WIDTH).max(1.0),
        BAR_HEIGHT,
        colour,
    );
    let mut number_at = end;
    if let Target::Ratio { floor, goal } = result.target {
        out.mark(
            x_of(floor),
            top - 4.0,
            top + BAR_HEIGHT + 4.0,
            "#1c1e21",
            "",
        );
        out.mark(
            x_of(goal),
            top - 4.0,
            top + BAR_HEIGHT + 4.0,
            "#1c1e21",
            "3 2",
        );
        // The number must not lie on a mark that stands just behind the bar's end.
        let covered = |mark: f64| mark >= number_at && mark < number_at + 45.0;
        if let Some(mark) = [x_of(goal), x_of(floor)]
            .into_iter()
            .find(|mark| covered(*mark))
        {
            number_at = mark;
        }
    }
    let beyond = if ratio > LONGEST_RATIO { " →" } else { "" };
    out.text(
        number_at + 6.0,
        middle,
        "start",
        "13",
        "#1c1e21",
        &format!("{ratio:.2}{beyond}"),
    );
}
