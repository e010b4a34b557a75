//! Every figure as a file: well-formed, finite, described, the same each time, and not too big.

use std::collections::BTreeSet;

use llm_blocks_plots::{FIGURES, Theme, find};
use roxmltree::Document;

use crate::read::all;

#[test]
fn the_registry_finds_each_figure_by_its_name() {
    let names: BTreeSet<&str> = FIGURES.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), FIGURES.len());
    for entry in &FIGURES {
        let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(entry.name.chars().all(fit), "{}", entry.name);
        assert_eq!(find(entry.name).unwrap().title, entry.title);
        assert_eq!((entry.draw)().unwrap().name(), entry.name);
    }
    assert!(find("no-such-figure").is_none());
}

#[test]
fn alt_texts_say_more_than_titles() {
    for entry in &FIGURES {
        assert!(entry.alt.len() > 3 * entry.title.len(), "{}", entry.name);
        // A finding needs a sentence of its own beside what is shown.
        assert!(entry.alt.matches(". ").count() >= 1, "{}", entry.name);
        assert!(!entry.alt.contains("  "), "{}", entry.name);
    }
}

#[test]
fn each_figure_is_xml_with_role_title_and_description() {
    for entry in &FIGURES {
        let text = (entry.draw)().unwrap().svg();
        let document = Document::parse(&text).unwrap();
        let root = document.root_element();
        assert_eq!(root.attribute("role"), Some("img"));
        let ids = root.attribute("aria-labelledby").unwrap();
        assert_eq!(ids, format!("{0}-title {0}-desc", entry.name));
        for (tag, text) in [("title", entry.title), ("desc", entry.alt)] {
            let [node] = all(&document, tag)[..] else {
                panic!("{}: one {tag}", entry.name);
            };
            assert_eq!(node.text(), Some(text));
            let id = format!("{}-{tag}", entry.name);
            assert_eq!(node.attribute("id"), Some(id.as_str()));
        }
    }
}

#[test]
fn numbers_are_finite_with_at_most_two_decimals() {
    let geometry = [
        "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "width", "height", "points",
    ];
    for entry in &FIGURES {
        let text = (entry.draw)().unwrap().svg();
        let document = Document::parse(&text).unwrap();
        let mut n_numbers = 0;
        for node in document.descendants() {
            for attribute in node.attributes() {
                if !geometry.contains(&attribute.name()) {
                    continue;
                }
                for word in attribute.value().split([' ', ',', '\n']) {
                    if word.is_empty() {
                        continue;
                    }
                    let number: f64 = word.parse().unwrap();
                    assert!(number.is_finite(), "{}: {word}", entry.name);
                    let decimals = word.split_once('.').map_or(0, |(_, after)| after.len());
                    assert!(decimals <= 2, "{}: {word}", entry.name);
                    n_numbers += 1;
                }
            }
        }
        assert!(n_numbers > 100, "{}", entry.name);
    }
}

#[test]
fn drawn_twice_it_is_the_same_text() {
    for entry in &FIGURES {
        assert_eq!((entry.draw)().unwrap(), (entry.draw)().unwrap());
    }
}

#[test]
fn no_figure_is_a_burden_for_a_page() {
    for entry in &FIGURES {
        let text = (entry.draw)().unwrap().svg();
        assert!(
            text.len() < 64 << 10,
            "{}: {} bytes",
            entry.name,
            text.len()
        );
        // A blank line would end the HTML block of a Markdown page.
        assert!(text.lines().all(|line| !line.trim().is_empty()));
    }
}

#[test]
fn text_takes_the_color_of_its_surroundings() {
    for entry in &FIGURES {
        let figure = (entry.draw)().unwrap();
        let text = figure.svg();
        let document = Document::parse(&text).unwrap();
        let root = document.root_element();
        assert_eq!(root.attribute("fill"), Some("currentColor"));
        assert_eq!(root.attribute("color"), None);
        // All rules are for a drawing that stands alone, so that they leave a page in peace.
        let style = all(&document, "style")[0].text().unwrap();
        assert_eq!(style.matches('{').count(), 3);
        assert_eq!(style.matches("svg:root {").count(), 2);
        assert!(style.contains("prefers-color-scheme: dark"));
        for theme in [Theme::Light, Theme::Dark] {
            let text = figure.svg_in(theme);
            let document = Document::parse(&text).unwrap();
            let root = document.root_element();
            assert_eq!(root.attribute("color"), Some(theme.ink()));
            assert!(all(&document, "style").is_empty());
            assert!(text.contains(&format!("fill=\"{}\"/>", theme.paper())));
        }
    }
}
