//! Plots become part of the page, so that their `currentColor` follows the theme.
//!
//! Authors write an image, `![what one sees](plots/x.svg)`, on a line of its own: its text is translated like any other.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::scan::{self, Line};

/// Puts each SVG that stands alone on a line into the page. `folder` is the folder of the page.
pub(crate) fn inline(page: &str, folder: &Path) -> Result<String> {
    let mut out = String::with_capacity(page.len());
    for line in scan::lines(page) {
        match line {
            Line::Text(line) => match image(line) {
                Some((alt, path)) => {
                    if alt.trim().is_empty() {
                        bail!("{path}: say in the image's text what one sees");
                    }
                    let svg = std::fs::read_to_string(folder.join(path))
                        .with_context(|| format!("the plot {path} cannot be read"))?;
                    out.push_str(&figure(&svg, alt).with_context(|| path.to_owned())?);
                }
                None => out.push_str(line),
            },
            Line::Open { line, .. } | Line::Code(line) | Line::Close(line) => out.push_str(line),
        }
        out.push('\n');
    }
    Ok(out)
}

/// Text and path of a line that is an image of an SVG and nothing else.
fn image(line: &str) -> Option<(&str, &str)> {
    let (alt, path) = line
        .trim()
        .strip_prefix("![")?
        .strip_suffix(')')?
        .rsplit_once("](")?;
    path.ends_with(".svg").then_some((alt, path))
}

fn figure(svg: &str, alt: &str) -> Result<String> {
    let alt = plain(alt);
    let start = svg.find("<svg").context("there is no <svg> in the file")?;
    let rest = &svg[start + "<svg".len()..];
    let end = rest.find('>').context("the tag <svg> has no end")?;
    // The page's text, which is translated, takes the place of the file's own.
    let attributes = ["role", "aria-label", "aria-labelledby"]
        .into_iter()
        .fold(rest[..end].to_owned(), |attributes, name| {
            without(attributes, name)
        });
    let mut out =
        format!("<figure class=\"plot\">\n<svg{attributes} role=\"img\" aria-label=\"{alt}\">\n");
    // An empty line would end the block of HTML.
    for line in rest[end + 1..]
        .lines()
        .filter(|line| !line.trim().is_empty())
        .filter(|line| !line.starts_with("<title") && !line.starts_with("<desc"))
    {
        out.push_str(line);
        out.push('\n');
    }
    out.push_str(&format!("<figcaption>{alt}</figcaption>\n</figure>\n"));
    Ok(out)
}

/// The attributes of a tag without one of them.
fn without(attributes: String, name: &str) -> String {
    let Some(start) = attributes.find(&format!(" {name}=\"")) else {
        return attributes;
    };
    let value = start + name.len() + 3;
    match attributes[value..].find('"') {
        Some(length) => format!(
            "{}{}",
            &attributes[..start],
            &attributes[value + length + 1..]
        ),
        None => attributes,
    }
}

/// Text for an attribute and for a caption: no ticks, no escapes of Markdown, no marks of HTML.
fn plain(alt: &str) -> String {
    alt.replace(['`', '\\'], "")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SVG: &str = "<?xml version=\"1.0\"?>\n<svg width=\"4\" role=\"x\" aria-labelledby=\"y\" height=\"3\">\n<title id=\"y\">z</title>\n\n<path/>\n</svg>\n";

    #[test]
    fn a_plot_is_put_into_the_page_with_its_text() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.svg"), SVG).unwrap();
        let page = inline("x\n\n![a < `b`](a.svg)\n\ny ![c](a.svg)\n", folder.path()).unwrap();
        let want = "x\n\n<figure class=\"plot\">\n<svg width=\"4\" height=\"3\" role=\"img\" aria-label=\"a &lt; b\">\n\
                    <path/>\n</svg>\n<figcaption>a &lt; b</figcaption>\n</figure>\n\n\ny ![c](a.svg)\n";
        assert_eq!(page, want);
    }

    #[test]
    fn a_plot_without_text_or_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.svg"), SVG).unwrap();
        assert!(inline("![](a.svg)", folder.path()).is_err());
        assert!(inline("![a](b.svg)", folder.path()).is_err());
    }
}
