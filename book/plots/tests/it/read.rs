//! Reads a figure as a person does: values by the numbers at the ticks.

use base64::Engine as _;
use llm_blocks_plots::find;
use roxmltree::{Document, Node};

/// The SVG of a figure.
pub(crate) fn svg(name: &str) -> String {
    (find(name).unwrap().draw)().unwrap().svg()
}

/// The elements of this name.
pub(crate) fn all<'a>(document: &'a Document<'_>, name: &'static str) -> Vec<Node<'a, 'a>> {
    document
        .descendants()
        .filter(|node| node.has_tag_name(name))
        .collect()
}

/// A number of an element.
pub(crate) fn number(node: Node<'_, '_>, attribute: &str) -> f64 {
    node.attribute(attribute).unwrap().parse().unwrap()
}

/// The number that a text shows.
pub(crate) fn shown(text: &str) -> f64 {
    text.replace('−', "-").parse().unwrap()
}

/// From a coordinate to the value there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    at: (f64, f64),
    value: (f64, f64),
}

impl Axis {
    /// The axes below the `n`-th plot (from 0) and to its left.
    pub(crate) fn pair(document: &Document<'_>, n: usize) -> (Self, Self) {
        let labels = |anchor: &str| {
            document
                .descendants()
                .filter(|node| {
                    node.has_tag_name("g") && node.attribute("text-anchor") == Some(anchor)
                })
                .nth(n)
                .unwrap()
        };
        // From the middle of a number to its baseline: 5.
        let across = Self::new(labels("middle"), "x", 0.0);
        (across, Self::new(labels("end"), "y", -5.0))
    }

    fn new(labels: Node<'_, '_>, coordinate: &str, shift: f64) -> Self {
        let marks: Vec<(f64, f64)> = labels
            .children()
            .filter(Node::is_element)
            .map(|text| {
                let at = number(text, coordinate) + shift;
                (at, shown(text.text().unwrap()))
            })
            .collect();
        let (first, last) = (marks[0], marks[marks.len() - 1]);
        let axis = Self {
            at: (first.0, last.0),
            value: (first.1, last.1),
        };
        // All ticks lie on that line.
        for (at, value) in marks {
            assert!(
                (axis.value(at) - value).abs() <= axis.hundredth(),
                "{axis:?}"
            );
        }
        axis
    }

    /// The value at a coordinate.
    pub(crate) fn value(self, at: f64) -> f64 {
        let share = (at - self.at.0) / (self.at.1 - self.at.0);
        self.value.0 + share * (self.value.1 - self.value.0)
    }

    /// What a hundredth of a pixel is worth: coordinates have two decimals, of points and of ticks.
    pub(crate) fn hundredth(self) -> f64 {
        0.01 * ((self.value.1 - self.value.0) / (self.at.1 - self.at.0)).abs()
    }
}

/// The points of a curve.
pub(crate) fn points(polyline: Node<'_, '_>) -> Vec<(f64, f64)> {
    polyline
        .attribute("points")
        .unwrap()
        .split_whitespace()
        .map(|pair| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
        .collect()
}

/// The cells of an embedded image: width, and the step of each cell of 255.
pub(crate) fn cells(image: Node<'_, '_>) -> (usize, Vec<u8>) {
    let text = image.attribute("href").unwrap();
    let text = text.strip_prefix("data:image/png;base64,").unwrap();
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().unwrap();
    assert_eq!(reader.info().color_type, png::ColorType::Indexed);
    let mut cells = vec![0; reader.output_buffer_size().unwrap()];
    let width = reader.next_frame(&mut cells).unwrap().width;
    (width as usize, cells)
}
