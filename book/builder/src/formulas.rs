//! Formulas in `LaTeX`, turned into `MathML` when the book is built: no script, no request, and a slip fails the build.
//!
//! Authors write `$x_i$` in a line and `$$` on lines of their own around a displayed formula. Before the
//! translation they become code, which no Markdown tool touches; after it, code becomes `MathML`.

use std::convert::Infallible;

use anyhow::{Context as _, Result, anyhow, bail};
use pulldown_latex::config::{DisplayMode, RenderConfig};
use pulldown_latex::{Event, Parser, Storage, push_mathml};

use crate::scan::{self, Line, Part};

/// The language of a block that holds a displayed formula.
const BLOCK: &str = "math";

/// Turns formulas into code: `$x$` into a code span with the dollars inside, a block into a fence.
pub(crate) fn protect(page: &str) -> Result<String> {
    let mut out = String::with_capacity(page.len());
    let mut block = false;
    for (index, line) in scan::lines(page).enumerate() {
        match line {
            Line::Text(line) if line.trim() == "$$" => {
                block = !block;
                out.push_str(if block { "```math" } else { "```" });
            }
            Line::Text(line) if block => out.push_str(line),
            Line::Text(line) => out.push_str(
                &protect_line(line).with_context(|| format!("line {}: {line}", index + 1))?,
            ),
            Line::Open { line, .. } | Line::Code(line) | Line::Close(line) => out.push_str(line),
        }
        out.push('\n');
    }
    if block {
        bail!("a formula that begins with `$$` has no end");
    }
    Ok(out)
}

fn protect_line(line: &str) -> Result<String> {
    let mut out = String::new();
    for part in scan::parts(line) {
        match part {
            Part::Span { ticks, inside } => {
                out.push_str(ticks);
                out.push_str(inside);
                out.push_str(ticks);
            }
            Part::Text(mut text) => {
                while let Some(open) = text.find('$') {
                    let (before, rest) = (&text[..open], &text[open + 1..]);
                    if let Some(before) = before.strip_suffix('\\') {
                        out.push_str(before);
                        out.push('$');
                        text = rest;
                        continue;
                    }
                    let close = rest
                        .find('$')
                        .context("a `$` has no partner on its line; write `\\$` for a dollar")?;
                    if close == 0 {
                        bail!("put `$$` on a line of its own");
                    }
                    out.push_str(before);
                    out.push_str("`$");
                    out.push_str(&rest[..close]);
                    out.push_str("$`");
                    text = &rest[close + 1..];
                }
                out.push_str(text);
            }
        }
    }
    Ok(out)
}

/// Turns what [`protect`] made into `MathML`.
pub(crate) fn render(page: &str) -> Result<String> {
    let mut out = String::with_capacity(page.len());
    let mut block: Option<(String, String)> = None; // indentation and LaTeX
    for line in scan::lines(page) {
        match line {
            Line::Open { line, language } if language == BLOCK => {
                let indent = line[..line.len() - line.trim_start().len()].to_owned();
                block = Some((indent, String::new()));
                continue;
            }
            Line::Code(line) if block.is_some() => {
                if let Some((_, latex)) = &mut block {
                    latex.push_str(line.trim());
                    latex.push('\n');
                }
                continue;
            }
            Line::Close(line) => match block.take() {
                Some((indent, latex)) => {
                    let math = mathml(&latex, DisplayMode::Block)?;
                    out.push_str(&format!("{indent}<div class=\"formula\">{math}</div>\n"));
                }
                None => out.push_str(line),
            },
            Line::Open { line, .. } | Line::Code(line) => out.push_str(line),
            Line::Text(line) => {
                for part in scan::parts(line) {
                    match part {
                        Part::Text(text) => out.push_str(text),
                        Part::Span { ticks, inside } => match formula(ticks, inside) {
                            Some(latex) => out.push_str(&mathml(latex, DisplayMode::Inline)?),
                            None => out.push_str(&format!("{ticks}{inside}{ticks}")),
                        },
                    }
                }
            }
        }
        out.push('\n');
    }
    Ok(out)
}

/// The `LaTeX` in a code span that holds a formula.
fn formula<'a>(ticks: &str, inside: &'a str) -> Option<&'a str> {
    let latex = inside.strip_prefix('$')?.strip_suffix('$')?;
    (ticks == "`" && !latex.is_empty()).then_some(latex)
}

fn mathml(latex: &str, display_mode: DisplayMode) -> Result<String> {
    let storage = Storage::new();
    // All events first: the writer would turn a slip into red text.
    let events: Vec<Event<'_>> = Parser::new(latex, &storage)
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow!("the formula `{}` is not understood: {error}", latex.trim()))?;
    let config = RenderConfig {
        display_mode,
        ..RenderConfig::default()
    };
    let mut out = String::new();
    push_mathml(
        &mut out,
        events.into_iter().map(Ok::<_, Infallible>),
        config,
    )
    .with_context(|| format!("the formula `{}` cannot be written", latex.trim()))?;
    // A formula is no text of the page's language: in another one a browser would choose a font without signs that grow.
    Ok(escape(&out).replacen("<math", "<math lang=\"en\"", 1))
}

/// Hides from Markdown what stands between the tags.
fn escape(mathml: &str) -> String {
    let mut out = String::with_capacity(mathml.len());
    let mut inside_tag = false;
    for c in mathml.chars() {
        match c {
            '<' => inside_tag = true,
            '>' => inside_tag = false,
            '\n' => {
                out.push(' ');
                continue;
            }
            c if !inside_tag && c.is_ascii_punctuation() && !"&;#".contains(c) => {
                out.push_str(&format!("&#{};", u32::from(c)));
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_code_and_code_stays() {
        let page = "a $x_i$ and `$y`\n\n$$\nz\n$$\n\n```sh\n$ cargo\n```\n5 \\$\n";
        let want = "a `$x_i$` and `$y`\n\n```math\nz\n```\n\n```sh\n$ cargo\n```\n5 $\n";
        assert_eq!(protect(page).unwrap(), want);
    }

    #[test]
    fn a_dollar_without_partner_is_refused() {
        assert!(protect("a $x").is_err());
        assert!(protect("a $$x$$").is_err());
        assert!(protect("$$\nx").is_err());
    }

    #[test]
    fn code_with_dollars_becomes_mathml_and_other_code_stays() {
        let html = render("a `$x_i$` `b`\n").unwrap();
        assert!(html.starts_with("a <math"), "{html}");
        assert!(html.contains("<msub>"), "{html}");
        assert!(html.ends_with("</math> `b`\n"), "{html}");
        let html = render("```math\n\\frac{1}{2}\n```\n").unwrap();
        assert!(html.contains("display=\"block\""), "{html}");
        assert!(html.contains("<mfrac>"), "{html}");
    }

    #[test]
    fn an_unknown_command_fails_the_build() {
        let error = render("`$\\nosuchcommand$`").unwrap_err().to_string();
        assert!(error.contains("nosuchcommand"), "{error}");
    }

    #[test]
    fn markdown_finds_nothing_in_a_formula() {
        let html = render("`$a*b*c$`").unwrap();
        assert!(!html.contains(">*<"), "{html}");
        assert!(html.contains("&#42;") || html.contains('∗'), "{html}");
    }
}
