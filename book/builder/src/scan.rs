//! Tells code from text in Markdown, line by line, so that neither formulas nor figures are looked for inside code.

/// A line of Markdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Outside of any fence.
    Text(&'a str),
    /// Opens a block of code in this language.
    Open { line: &'a str, language: &'a str },
    /// Inside of a block.
    Code(&'a str),
    /// Ends a block.
    Close(&'a str),
}

/// The lines of a page, without their ends.
pub(crate) fn lines(page: &str) -> impl Iterator<Item = Line<'_>> {
    let mut fence: Option<usize> = None;
    page.lines().map(move |line| {
        let start = line.trim_start();
        let ticks = start.len() - start.trim_start_matches('`').len();
        let info = start[ticks..].trim();
        match fence {
            None if ticks >= 3 && !info.contains('`') => {
                fence = Some(ticks);
                let language = info.split([',', ' ']).next().unwrap_or_default();
                Line::Open { line, language }
            }
            None => Line::Text(line),
            Some(open) if ticks >= open && info.is_empty() => {
                fence = None;
                Line::Close(line)
            }
            Some(_) => Line::Code(line),
        }
    })
}

/// Part of a line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Text(&'a str),
    /// A code span: its ticks and what they enclose.
    Span {
        ticks: &'a str,
        inside: &'a str,
    },
}

/// Cuts a line into text and code spans. Ticks without partner are text.
pub(crate) fn parts(line: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut text, mut at) = (0, 0);
    while let Some(open) = line[at..].find('`').map(|offset| at + offset) {
        let n = line[open..].len() - line[open..].trim_start_matches('`').len();
        let ticks = &line[open..open + n];
        let inner = open + n;
        match closing(&line[inner..], n) {
            Some(length) => {
                if text < open {
                    parts.push(Part::Text(&line[text..open]));
                }
                let inside = &line[inner..inner + length];
                parts.push(Part::Span { ticks, inside });
                at = inner + length + n;
                text = at;
            }
            None => at = inner,
        }
    }
    if text < line.len() {
        parts.push(Part::Text(&line[text..]));
    }
    parts
}

/// Where the next run of exactly `n` ticks starts.
fn closing(rest: &str, n: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(start) = rest[at..].find('`').map(|offset| at + offset) {
        let run = rest[start..].len() - rest[start..].trim_start_matches('`').len();
        if run == n {
            return Some(start);
        }
        at = start + run;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_enclose_code_and_shorter_ones_do_not_end_it() {
        let page = "a\n````rust,editable\n```\nb\n````\nc";
        let want = [
            Line::Text("a"),
            Line::Open {
                line: "````rust,editable",
                language: "rust",
            },
            Line::Code("```"),
            Line::Code("b"),
            Line::Close("````"),
            Line::Text("c"),
        ];
        assert_eq!(lines(page).collect::<Vec<_>>(), want);
    }

    #[test]
    fn spans_are_cut_out_whatever_their_ticks() {
        let want = [
            Part::Text("a "),
            Part::Span {
                ticks: "`",
                inside: "b",
            },
            Part::Text(" c "),
            Part::Span {
                ticks: "``",
                inside: "d`e",
            },
            Part::Text(" `f"),
        ];
        assert_eq!(parts("a `b` c ``d`e`` `f"), want);
    }
}
