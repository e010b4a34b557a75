//! A finished drawing, and what is known about it before it is drawn.

use std::fmt;

use crate::canvas::{Canvas, escape};
use crate::error::PlotError;

/// A figure of the registry.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FigureEntry {
    /// The name on the command line and of the file.
    pub name: &'static str,
    /// What it shows, in a few words.
    pub title: &'static str,
    /// What one learns from it: the text for readers who do not see it.
    pub alt: &'static str,
    /// Computes the data and draws it.
    pub draw: fn() -> Result<Figure, PlotError>,
}

/// A drawing.
///
/// The SVG is text with lines: the same bytes on any machine, so a changed figure is a readable difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    name: &'static str,
    title: &'static str,
    alt: &'static str,
    width: u32,
    height: u32,
    body: String,
}

/// The colors of paper and ink of a picture that cannot adapt to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Dark lines on white.
    Light,
    /// Light lines on near-black.
    Dark,
}

impl Theme {
    /// The color of text and lines.
    #[must_use]
    pub const fn ink(self) -> &'static str {
        match self {
            Self::Light => "#1f2328",
            Self::Dark => "#e6edf3",
        }
    }

    /// The color behind everything.
    #[must_use]
    pub const fn paper(self) -> &'static str {
        match self {
            Self::Light => "#ffffff",
            Self::Dark => "#0d1117",
        }
    }
}

impl Figure {
    /// Puts a drawing of this size into a frame of words.
    pub(crate) fn new(entry: &FigureEntry, width: u32, height: u32, canvas: Canvas) -> Self {
        Self {
            name: entry.name,
            title: entry.title,
            alt: entry.alt,
            width,
            height,
            body: canvas.into_body(),
        }
    }

    /// Its name in the registry.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Width and height in units of the drawing, pixels unless it is scaled.
    #[must_use]
    pub const fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The SVG that follows its reader.
    ///
    /// Alone (a file, an `img`) it is light or dark as the reader's system is. Inside a page, inlined, it takes the text
    /// color of the page and has no background.
    ///
    /// # Example
    ///
    /// ```
    /// let svg = llm_blocks_plots::rope_decay()?.svg();
    /// assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    /// # Ok::<(), llm_blocks_plots::PlotError>(())
    /// ```
    #[must_use]
    pub fn svg(&self) -> String {
        let rule = |theme: Theme| {
            format!(
                "svg:root {{ color: {}; background: {} }}",
                theme.ink(),
                theme.paper()
            )
        };
        // `:root` is this drawing only where no page is around it.
        let style = format!(
            "<style>\n{}\n@media (prefers-color-scheme: dark) {{ {} }}\n</style>\n",
            rule(Theme::Light),
            rule(Theme::Dark)
        );
        self.document("", &style)
    }

    /// The SVG with fixed colors and a background, for programs that do not know style sheets.
    #[must_use]
    pub fn svg_in(&self, theme: Theme) -> String {
        // Beyond the edges, so that no pixel at an edge is half transparent.
        let paper = format!(
            "<rect x=\"-1\" y=\"-1\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n",
            self.width + 2,
            self.height + 2,
            theme.paper()
        );
        self.document(&format!(" color=\"{}\"", theme.ink()), &paper)
    }

    fn document(&self, attributes: &str, head: &str) -> String {
        let Self {
            name,
            width,
            height,
            body,
            ..
        } = self;
        let (title, alt) = (escape(self.title), escape(self.alt));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" style=\"max-width: 100%; height: auto\" role=\"img\" \
             aria-labelledby=\"{name}-title {name}-desc\" font-family=\"Roboto, Helvetica, Arial, sans-serif\" \
             font-size=\"14\" fill=\"currentColor\"{attributes}>\n\
             <title id=\"{name}-title\">{title}</title>\n<desc id=\"{name}-desc\">{alt}</desc>\n\
             {head}{body}</svg>\n"
        )
    }
}

impl fmt::Display for Figure {
    /// As [`Figure::svg`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.svg())
    }
}
