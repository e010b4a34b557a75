//! The few SVG shapes that the figures need, as text that is the same on any machine.
//!
//! Not `plotters`, whose SVG has whole-pixel coordinates and fixed colors: a curve would have steps, and its text would
//! be black on a dark page.

use std::fmt::Write as _;

use crate::heatmap::Pixels;

/// Points of a polyline in one line of text.
const POINTS_A_LINE: usize = 8;

/// What is drawn so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Canvas {
    body: String,
}

/// Which end of a text stands at its place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    /// Everything as SVG elements, a line each.
    pub(crate) fn into_body(self) -> String {
        self.body
    }

    /// What `draw` draws, with attributes in common.
    pub(crate) fn group(&mut self, attributes: &str, draw: impl FnOnce(&mut Self)) {
        self.write(format_args!("<g {attributes}>"));
        draw(self);
        self.write(format_args!("</g>"));
    }

    /// A straight line.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), attributes: &str) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(number);
        self.write(format_args!(
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"{}/>",
            spaced(attributes)
        ));
    }

    /// A rectangle by its upper left corner and its size.
    pub(crate) fn rect(&mut self, at: (f64, f64), size: (f64, f64), attributes: &str) {
        let [x, y, width, height] = [at.0, at.1, size.0, size.1].map(number);
        self.write(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"{}/>",
            spaced(attributes)
        ));
    }

    /// A disc.
    pub(crate) fn circle(&mut self, center: (f64, f64), radius: f64, attributes: &str) {
        let [x, y, radius] = [center.0, center.1, radius].map(number);
        self.write(format_args!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"{}/>",
            spaced(attributes)
        ));
    }

    /// Points joined by straight lines.
    pub(crate) fn polyline(&mut self, points: &[(f64, f64)], attributes: &str) {
        self.write(format_args!(
            "<polyline fill=\"none\" stroke-linejoin=\"round\"{} points=\"",
            spaced(attributes)
        ));
        for some in points.chunks(POINTS_A_LINE) {
            let words: Vec<String> = some
                .iter()
                .map(|&(x, y)| format!("{},{}", number(x), number(y)))
                .collect();
            self.write(format_args!("{}", words.join(" ")));
        }
        self.write(format_args!("\"/>"));
    }

    /// A text on its baseline.
    pub(crate) fn text(&mut self, at: (f64, f64), anchor: Anchor, text: &str, attributes: &str) {
        let [x, y] = [at.0, at.1].map(number);
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        self.write(format_args!(
            "<text x=\"{x}\" y=\"{y}\"{anchor}{}>{}</text>",
            spaced(attributes),
            escape(text)
        ));
    }

    /// Colored cells, each a rectangle with sharp edges.
    pub(crate) fn image(&mut self, at: (f64, f64), size: (f64, f64), pixels: &Pixels) {
        let [x, y, width, height] = [at.0, at.1, size.0, size.1].map(number);
        self.write(format_args!(
            "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" preserveAspectRatio=\"none\" \
             style=\"image-rendering: pixelated\" href=\"{}\"/>",
            pixels.data_url()
        ));
    }

    fn write(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{line}");
    }
}

fn spaced(attributes: &str) -> String {
    if attributes.is_empty() {
        String::new()
    } else {
        format!(" {attributes}")
    }
}

/// A coordinate with at most two decimals.
///
/// Sines may differ in the last bit from machine to machine. A coordinate that lies in the middle between two decimals
/// must not fall to both sides for that, so it is first rounded far above that bit.
pub(crate) fn number(value: f64) -> String {
    let steady = (value * 1e6).round() / 1e6;
    let text = format!("{steady:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

/// A text that is no markup.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_at_most_two_decimals() {
        for (value, text) in [
            (0.0, "0"),
            (-0.001, "0"),
            (12.0, "12"),
            (100.0, "100"),
            (1.5, "1.5"),
            (2.0 / 3.0, "0.67"),
            (-7.25, "-7.25"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_bit_does_not_decide_a_tie() {
        let tie = 10.125;
        for value in [tie, tie + 1e-12, tie - 1e-12] {
            assert_eq!(number(value), number(tie));
        }
    }

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escape("a < b & \"c\""), "a &lt; b &amp; &quot;c&quot;");
    }
}
