//! Where a value stands on paper, and the lines and words that say so.

use crate::canvas::{Anchor, Canvas, number};

/// From the middle of a line of text to its baseline, at the size of tick labels.
pub(crate) const HALF_TEXT: f64 = 5.0;

/// A rectangle on paper.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Place {
    pub(crate) fn right(self) -> f64 {
        self.x + self.width
    }

    pub(crate) fn bottom(self) -> f64 {
        self.y + self.height
    }

    pub(crate) fn middle(self) -> (f64, f64) {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }
}

/// A straight map from values to paper.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    from: (f64, f64),
    to: (f64, f64),
}

impl Scale {
    /// The first value goes to the first coordinate, the second to the second.
    pub(crate) const fn new(from: (f64, f64), to: (f64, f64)) -> Self {
        Self { from, to }
    }

    /// Where a value stands.
    pub(crate) fn at(self, value: f64) -> f64 {
        let share = (value - self.from.0) / (self.from.1 - self.from.0);
        self.to.0 + share * (self.to.1 - self.to.0)
    }
}

/// The lines of a grid are faint.
const GRID: &str = "stroke=\"currentColor\" stroke-opacity=\"0.15\"";

/// A thin line around a place.
pub(crate) fn outline(canvas: &mut Canvas, place: Place) {
    canvas.rect(
        (place.x, place.y),
        (place.width, place.height),
        "fill=\"none\" stroke=\"currentColor\" stroke-opacity=\"0.5\"",
    );
}

/// The axis below a place: ticks, their numbers, and the name with its unit.
pub(crate) fn below(canvas: &mut Canvas, place: Place, scale: Scale, ticks: &[f64], label: &str) {
    let y = place.bottom();
    canvas.group("stroke=\"currentColor\"", |canvas| {
        for &tick in ticks {
            let x = scale.at(tick);
            canvas.line((x, y), (x, y + 5.0), "");
        }
    });
    canvas.group("text-anchor=\"middle\"", |canvas| {
        for &tick in ticks {
            canvas.text((scale.at(tick), y + 22.0), Anchor::Start, &signed(tick), "");
        }
    });
    canvas.text((place.middle().0, y + 43.0), Anchor::Middle, label, "");
}

/// The axis to the left of a place. `room` is the distance of its name, for the widest number.
pub(crate) fn left(
    canvas: &mut Canvas,
    place: Place,
    scale: Scale,
    ticks: &[f64],
    label: &str,
    room: f64,
) {
    canvas.group("stroke=\"currentColor\"", |canvas| {
        for &tick in ticks {
            let y = scale.at(tick);
            canvas.line((place.x - 5.0, y), (place.x, y), "");
        }
    });
    canvas.group("text-anchor=\"end\"", |canvas| {
        for &tick in ticks {
            let y = scale.at(tick) + HALF_TEXT;
            canvas.text((place.x - 8.0, y), Anchor::Start, &signed(tick), "");
        }
    });
    let (x, y) = (place.x - room, place.middle().1);
    let turn = format!("transform=\"rotate(-90 {} {})\"", number(x), number(y));
    canvas.text((x, y), Anchor::Middle, label, &turn);
}

/// Faint lines at the ticks of both axes.
pub(crate) fn grid(
    canvas: &mut Canvas,
    place: Place,
    (across, up): (Scale, Scale),
    (x_ticks, y_ticks): (&[f64], &[f64]),
) {
    canvas.group(GRID, |canvas| {
        for &tick in x_ticks {
            let x = across.at(tick);
            canvas.line((x, place.y), (x, place.bottom()), "");
        }
        for &tick in y_ticks {
            let y = up.at(tick);
            canvas.line((place.x, y), (place.right(), y), "");
        }
    });
}

/// A number with a real minus sign.
pub(crate) fn signed(value: f64) -> String {
    number(value).replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_a_scale_meet() {
        let scale = Scale::new((-1.0, 3.0), (300.0, 100.0));
        assert_eq!(scale.at(-1.0), 300.0);
        assert_eq!(scale.at(3.0), 100.0);
        assert_eq!(scale.at(1.0), 200.0);
    }

    #[test]
    fn negative_numbers_have_a_minus_and_no_hyphen() {
        assert_eq!(signed(-4.5), "−4.5");
        assert_eq!(signed(0.0), "0");
    }
}
