//! Pictures as text, the same in every run: fixed decimals, and the text color of the page around them.

use std::fmt::Write as _;

/// The one color of its own, readable on light and dark pages.
pub(crate) const ACCENT: &str = "#d2691e";

/// A picture in pixels, `x` to the right and `y` down.
pub(crate) struct Picture {
    text: String,
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line looks.
#[derive(Clone, Copy)]
pub(crate) struct Pen {
    pub(crate) color: &'static str,
    pub(crate) width: f64,
    pub(crate) opacity: f64,
    pub(crate) dashed: bool,
}

impl Pen {
    /// In the color of the text.
    pub(crate) const fn text(width: f64, opacity: f64) -> Self {
        Self {
            color: "currentColor",
            width,
            opacity,
            dashed: false,
        }
    }

    pub(crate) const fn accent(width: f64) -> Self {
        Self {
            color: ACCENT,
            width,
            opacity: 1.0,
            dashed: false,
        }
    }

    pub(crate) const fn dashed(mut self) -> Self {
        self.dashed = true;
        self
    }
}

impl Picture {
    /// An empty picture; `name` is what a screen reader says.
    pub(crate) fn new(width: u32, height: u32, name: &str) -> Self {
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{name}\" font-family=\"sans-serif\" font-size=\"12\">\n"
        );
        Self { text }
    }

    /// A line through the points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], pen: Pen) {
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{x:.1} {y:.1}");
        }
        self.path(&path, pen);
    }

    pub(crate) fn circle(&mut self, (x, y): (f64, f64), radius: f64, pen: Pen) {
        let look = look(pen);
        let _ = writeln!(
            self.text,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" {look}/>"
        );
    }

    /// A filled dot.
    pub(crate) fn dot(&mut self, (x, y): (f64, f64), radius: f64) {
        let _ = writeln!(
            self.text,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{ACCENT}\"/>"
        );
    }

    /// A line with a head at its end.
    pub(crate) fn arrow(&mut self, from: (f64, f64), to: (f64, f64), pen: Pen) {
        self.line(&[from, to], pen);
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        if length < 1.0 {
            return;
        }
        let (ux, uy) = (dx / length, dy / length);
        let side = |sign: f64| {
            let (back, out) = (7.0, 3.5 * sign);
            (to.0 - back * ux - out * uy, to.1 - back * uy + out * ux)
        };
        let head = Pen {
            dashed: false,
            ..pen
        };
        self.line(&[side(1.0), to, side(-1.0)], head);
    }

    pub(crate) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.text,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"currentColor\">{text}</text>"
        );
    }

    pub(crate) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn path(&mut self, path: &str, pen: Pen) {
        let look = look(pen);
        let _ = writeln!(self.text, "<path d=\"{path}\" {look}/>");
    }
}

fn look(pen: Pen) -> String {
    let Pen {
        color,
        width,
        opacity,
        dashed,
    } = pen;
    let dashes = if dashed {
        " stroke-dasharray=\"3 3\""
    } else {
        ""
    };
    format!(
        "fill=\"none\" stroke=\"{color}\" stroke-width=\"{width:.1}\" stroke-opacity=\"{opacity:.2}\"{dashes}"
    )
}

/// Three significant digits, as short as can be: `0.0178`, `12.3`, `4096`.
pub(crate) fn short(x: f64) -> String {
    if x == 0.0 {
        return "0".to_owned();
    }
    let digits = x.abs().log10().floor();
    if digits < -4.0 {
        return format!("{x:.2e}");
    }
    let decimals = (2.0 - digits).max(0.0) as usize;
    let text = format!("{x:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (x, want) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (0.017_783, "0.0178"),
            (12.345, "12.3"),
            (4096.0, "4096"),
            (-0.5, "-0.5"),
            (0.000_02, "2.00e-5"),
        ] {
            assert_eq!(short(x), want);
        }
    }
}
