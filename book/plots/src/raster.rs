//! From SVG to PNG: the same drawing, with a font of our own, on a solid background.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use crate::error::PlotError;
use crate::figure::{Figure, Theme};

/// See `fonts/README.md`.
static FONT: &[u8] = include_bytes!("../fonts/Roboto-subset.ttf");

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(FONT.to_vec());
    Arc::new(fonts)
});

impl Figure {
    /// The narrowest picture.
    pub const MIN_WIDTH: u32 = 64;
    /// The widest picture.
    pub const MAX_WIDTH: u32 = 8192;

    /// The drawing as a PNG picture, `width` pixels wide and as high as that makes it.
    ///
    /// Needs no font of the machine. On the same machine it is always the same bytes.
    ///
    /// # Errors
    ///
    /// [`PlotError::Width`] unless the width is in [`Figure::MIN_WIDTH`]`..=`[`Figure::MAX_WIDTH`].
    ///
    /// # Example
    ///
    /// ```
    /// use llm_blocks_plots::Theme;
    ///
    /// let png = llm_blocks_plots::rope_decay()?.to_png(640, Theme::Dark)?;
    /// assert_eq!(png[..4], *b"\x89PNG");
    /// # Ok::<(), llm_blocks_plots::PlotError>(())
    /// ```
    pub fn to_png(&self, width: u32, theme: Theme) -> Result<Vec<u8>, PlotError> {
        let (least, most) = (Self::MIN_WIDTH, Self::MAX_WIDTH);
        if !(least..=most).contains(&width) {
            return Err(PlotError::Width {
                least,
                most,
                got: width,
            });
        }
        let options = Options {
            fontdb: Arc::clone(&FONTS),
            ..Options::default()
        };
        let tree = Tree::from_str(&self.svg_in(theme), &options)
            .map_err(|error| PlotError::Raster(error.to_string()))?;
        let (own_width, own_height) = self.size();
        let zoom = f64::from(width) / f64::from(own_width);
        let height = (f64::from(own_height) * zoom).round().max(1.0) as u32;
        let mut pixels = Pixmap::new(width, height)
            .ok_or_else(|| PlotError::Raster(format!("no room for {width} x {height} pixels")))?;
        let zoom_y = f64::from(height) / f64::from(own_height);
        let transform = Transform::from_scale(zoom as f32, zoom_y as f32);
        resvg::render(&tree, transform, &mut pixels.as_mut());
        pixels
            .encode_png()
            .map_err(|error| PlotError::Raster(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use resvg::usvg::{Group, Node, Rect, Text};

    use super::*;
    use crate::FIGURES;

    fn collect<'a>(group: &'a Group, texts: &mut Vec<&'a Text>) {
        for node in group.children() {
            match node {
                Node::Group(group) => collect(group, texts),
                Node::Text(text) => texts.push(text),
                _ => {}
            }
        }
    }

    fn with_texts(check: impl Fn(&Figure, &[&Text])) {
        for entry in &FIGURES {
            let figure = (entry.draw)().unwrap();
            let options = Options {
                fontdb: Arc::clone(&FONTS),
                ..Options::default()
            };
            let tree = Tree::from_str(&figure.svg_in(Theme::Light), &options).unwrap();
            let mut texts = Vec::new();
            collect(tree.root(), &mut texts);
            assert!(texts.len() > 10, "{}", entry.name);
            check(&figure, &texts);
        }
    }

    fn words(text: &Text) -> String {
        text.chunks().iter().map(|chunk| chunk.text()).collect()
    }

    #[test]
    fn the_font_has_every_character() {
        with_texts(|figure, texts| {
            for text in texts {
                let glyphs: Vec<_> = text
                    .layouted()
                    .iter()
                    .flat_map(|span| &span.positioned_glyphs)
                    .collect();
                assert_eq!(glyphs.len(), words(text).chars().count());
                for glyph in glyphs {
                    // Number 0 is the box for what a font lacks.
                    assert_ne!(glyph.id.0, 0, "{}: {}", figure.name(), glyph.text);
                }
            }
        });
    }

    #[test]
    fn texts_are_inside_and_do_not_touch() {
        let overlap = |a: Rect, b: Rect| {
            a.left() < b.right()
                && b.left() < a.right()
                && a.top() < b.bottom()
                && b.top() < a.bottom()
        };
        with_texts(|figure, texts| {
            let (width, height) = figure.size();
            for (index, text) in texts.iter().enumerate() {
                let place = text.abs_bounding_box();
                // A little air: fonts of other systems may be wider.
                assert!(
                    place.left() >= 2.0
                        && place.top() >= 2.0
                        && place.right() <= width as f32 - 2.0
                        && place.bottom() <= height as f32 - 2.0,
                    "{}: {} at {place:?}",
                    figure.name(),
                    words(text)
                );
                for other in &texts[..index] {
                    assert!(
                        !overlap(place, other.abs_bounding_box()),
                        "{}: {} on {}",
                        figure.name(),
                        words(text),
                        words(other)
                    );
                }
            }
        });
    }
}
