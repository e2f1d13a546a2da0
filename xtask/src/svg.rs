//! Drawings as SVG text, written by hand: a chart needs rectangles, lines and words.

use std::fmt::Write;

/// Colours and places that the charts have in common.
pub mod common {
    /// What is measured.
    pub const CURVE: &str = "#3b6ea5";
    /// The same, less important.
    pub const PALE: &str = "#b9c9dc";
    /// Axes and titles.
    pub const LINE: &str = "#1c1e21";
    /// What must not be passed.
    pub const LIMIT: &str = "#b3412e";
    /// Words beside the axes.
    pub const WORDS: &str = "#555a61";
    /// Left edge of the plot, in pixels: room for numbers.
    pub const LEFT: f64 = 70.0;
    /// Height of the plot, in pixels.
    pub const HEIGHT: f64 = 260.0;
}

/// SVG text being written.
pub struct Drawing(String);

impl Drawing {
    /// An empty white page, in pixels.
    pub fn new(width: f64, height: f64) -> Drawing {
        let mut drawing = Drawing(String::new());
        drawing.line(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">"
        ));
        drawing.rect(0.0, 0.0, width, height, "#ffffff");
        drawing
    }

    /// The whole file.
    pub fn end(mut self) -> String {
        self.line("</svg>");
        self.0
    }

    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    }

    /// A vertical line.
    pub fn mark(&mut self, x: f64, from: f64, to: f64, colour: &str, dashes: &str) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x:.1}\" y1=\"{from:.1}\" x2=\"{x:.1}\" y2=\"{to:.1}\" stroke=\"{colour}\" \
             stroke-width=\"1.5\" stroke-dasharray=\"{dashes}\"/>"
        );
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: &str, size: &str, colour: &str, text: &str) {
        let escaped = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{colour}\">{escaped}</text>"
        );
    }

    /// A horizontal line.
    pub fn level(&mut self, y: f64, from: f64, to: f64, colour: &str, dashes: &str) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" \
             stroke-width=\"1\" stroke-dasharray=\"{dashes}\"/>"
        );
    }

    /// A line through points.
    pub fn curve(&mut self, points: &[(f64, f64)], colour: &str) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            self.0,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            points.join(" ")
        );
    }
}
