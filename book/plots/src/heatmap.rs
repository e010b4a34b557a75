//! Tables of numbers as colored cells, with the bar that says which color is which number.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ndarray::{Array2, ArrayView2};

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::{ColorMap, step};
use crate::error::{PlotError, finite};

/// Width of a color bar.
pub(crate) const BAR: f64 = 14.0;

/// Cells of at most 256 colors, packed as PNG.
#[derive(Clone, Debug)]
pub(crate) struct Pixels {
    png: Vec<u8>,
}

impl Pixels {
    /// A cell for each value, `low` in the first color and `high` in the last, the first row on top.
    pub(crate) fn new(
        values: &ArrayView2<'_, f64>,
        (low, high): (f64, f64),
        map: ColorMap,
    ) -> Result<Self, PlotError> {
        let mut steps = Vec::with_capacity(values.len());
        for &value in values {
            let value = finite(value, "a cell of a table")?;
            steps.push(step((value - low) / (high - low)));
        }
        let size = |axis: usize| u32::try_from(values.len_of(ndarray::Axis(axis))).unwrap_or(0);
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, size(1), size(0));
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(map.palette().concat());
        // `fdeflate`: the others go through `flate2`, whose bytes depend on a backend that any crate may choose.
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&steps)?;
        writer.finish()?;
        Ok(Self { png })
    }

    /// As the address of an image.
    pub(crate) fn data_url(&self) -> String {
        format!(
            "data:image/png;base64,{}",
            BASE64_STANDARD.encode(&self.png)
        )
    }
}

/// Draws a bar with the colors from `low` below to `high` above, and ticks to its right.
pub(crate) fn color_bar(
    canvas: &mut Canvas,
    place: Place,
    range: (f64, f64),
    map: ColorMap,
    ticks: &[f64],
    label: &str,
) -> Result<(), PlotError> {
    let (low, high) = range;
    let shades = Array2::from_shape_fn((256, 1), |(row, _)| {
        low + (high - low) * (255 - row) as f64 / 255.0
    });
    let pixels = Pixels::new(&shades.view(), range, map)?;
    canvas.image((place.x, place.y), (place.width, place.height), &pixels);
    axes::outline(canvas, place);
    let scale = Scale::new(range, (place.bottom(), place.y));
    let end = place.right();
    canvas.group("stroke=\"currentColor\"", |canvas| {
        for &tick in ticks {
            let y = scale.at(tick);
            canvas.line((end, y), (end + 4.0, y), "");
        }
    });
    for &tick in ticks {
        let y = scale.at(tick) + axes::HALF_TEXT;
        canvas.text((end + 7.0, y), Anchor::Start, &axes::signed(tick), "");
    }
    canvas.text(
        (place.x + place.width / 2.0, place.y - 14.0),
        Anchor::Middle,
        label,
        "",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_value_without_a_place_is_refused() {
        for got in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = Pixels::new(&array![[0.0, got]].view(), (0.0, 1.0), ColorMap::Cool);
            let Err(PlotError::NotFinite { what, got: said }) = error else {
                panic!("{error:?}");
            };
            assert_eq!(what, "a cell of a table");
            assert_eq!(said.to_bits(), got.to_bits());
        }
    }

    #[test]
    fn a_table_without_cells_is_no_png() {
        let none = Array2::zeros((0, 3));
        let error = Pixels::new(&none.view(), (0.0, 1.0), ColorMap::Cool);
        assert!(matches!(error, Err(PlotError::Encode(_))), "{error:?}");
    }
}
