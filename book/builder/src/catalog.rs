//! Messages of the book and their translations, in gettext's files: `po/messages.pot` and a `.po` for each language.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use mdbook_i18n_helpers::xgettext::create_catalogs;
use mdbook_i18n_helpers::{extract_messages, gettext::add_stripped_summary_translations};
use mdbook_renderer::RenderContext;
use polib::catalog::Catalog;
use polib::message::{Message, MessageFlags, MessageView};
use polib::metadata::CatalogMetadata;
use polib::po_file;

use crate::languages::{self, Language};
use crate::render;
use crate::scan::{self, Part};

/// How much two messages must share so that one's translation is offered for the other, marked as fuzzy.
const ALIKE: f64 = 0.6;

fn path(root: &Path, name: &str) -> PathBuf {
    root.join("po").join(name)
}

/// The translations of a language as the pages use them: a fuzzy one counts as none.
pub(crate) fn read(root: &Path, stem: &str) -> Result<Catalog> {
    let all = parse(&path(root, &format!("{stem}.po")))?;
    let mut catalog = Catalog::new(CatalogMetadata::new());
    for message in all.messages().filter(|message| is_done(*message)) {
        catalog.append_or_update(copy(message, message.msgstr()?, false));
    }
    add_stripped_summary_translations(&mut catalog);
    Ok(catalog)
}

/// The share of a page's messages that are translated, in whole percents, rounded down.
pub(crate) fn share(catalog: &Catalog, page: &str) -> Result<usize> {
    let messages: Vec<String> = extract_messages(page)?
        .into_iter()
        .map(|(_, extracted)| extracted.message)
        .filter(|message| has_words(message))
        .collect();
    let done = messages
        .iter()
        .filter(|message| {
            catalog
                .find_message(None, message, None)
                .is_some_and(is_done)
        })
        .count();
    Ok((100 * done).checked_div(messages.len()).unwrap_or(100))
}

/// Extracts and merges; with `check`, only says what is not up to date.
pub(crate) fn update(root: &Path, check: bool) -> Result<()> {
    let template = template(root)?;
    let file = path(root, "messages.pot");
    let mut problems = Vec::new();
    if check {
        let written = parse(&file)?;
        problems.extend(differences(&template, &written).map(|id| format!("messages.pot: {id}")));
    } else {
        write(&template, &file)?;
        println!("{}: {} messages", file.display(), template.count());
    }
    for language in languages::ALL {
        let Some(stem) = language.po else { continue };
        let file = path(root, &format!("{stem}.po"));
        let old = if file.exists() {
            parse(&file)?
        } else {
            Catalog::new(metadata(language))
        };
        let new = merge(&template, &old, language)?;
        let open: Vec<&str> = new
            .messages()
            .filter(|message| !is_done(*message))
            .map(|message| message.msgid())
            .collect();
        if check {
            problems.extend(differences(&template, &old).map(|id| format!("{stem}.po: {id}")));
            problems.extend(
                open.iter()
                    .map(|id| format!("{stem}.po: not translated: {id}")),
            );
        } else {
            write(&new, &file)?;
        }
        println!(
            "{}: {} of {} messages are translated",
            file.display(),
            new.count() - open.len(),
            new.count()
        );
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        n => bail!("{n} messages are not up to date; run `cargo xtask book po` and translate"),
    }
}

/// Messages that one of the two has and the other lacks.
fn differences<'a>(
    template: &'a Catalog,
    written: &'a Catalog,
) -> impl Iterator<Item = String> + 'a {
    let lacks = |a: &'a Catalog, b: &'a Catalog, what: &'static str| {
        a.messages()
            .filter(|message| b.find_message(None, message.msgid(), None).is_none())
            .map(move |message| format!("{what}: {}", message.msgid()))
    };
    lacks(template, written, "new message").chain(lacks(written, template, "no longer in the book"))
}

/// Every message of the book that has words in it.
fn template(root: &Path) -> Result<Catalog> {
    let mut book = render::source(root)?;
    // Line numbers would change with each line that is added above.
    book.config.set("output.xgettext.granularity", 0)?;
    let ctx = RenderContext::new(&book.root, book.book, book.config, "");
    let mut catalogs = create_catalogs(&ctx, std::fs::read_to_string)?;
    if catalogs.len() != 1 {
        bail!("one template was expected, got {}", catalogs.len());
    }
    let extracted = catalogs
        .drain()
        .map(|(_, catalog)| catalog)
        .next()
        .context("no template was made")?;
    let mut catalog = Catalog::new(metadata(languages::ALL[0]));
    for message in extracted
        .messages()
        .filter(|message| has_words(message.msgid()))
    {
        catalog.append_or_update(copy(message, "", false));
    }
    Ok(catalog)
}

fn metadata(language: Language) -> CatalogMetadata {
    let mut metadata = CatalogMetadata::new();
    metadata.project_id_version = "llm-blocks".to_owned();
    metadata.language = language.po.unwrap_or_default().to_owned();
    metadata.mime_version = "1.0".to_owned();
    metadata.content_type = "text/plain; charset=UTF-8".to_owned();
    metadata.content_transfer_encoding = "8bit".to_owned();
    metadata
}

/// The template with what is translated already. A new message gets the translation of the most similar old one, as fuzzy.
fn merge(template: &Catalog, old: &Catalog, language: Language) -> Result<Catalog> {
    let mut new = Catalog::new(metadata(language));
    for message in template.messages() {
        let id = message.msgid();
        let merged = match old.find_message(None, id, None) {
            Some(found) => copy(message, found.msgstr()?, found.is_fuzzy()),
            None => match similar(id, template, old) {
                Some(found) => copy(message, found.msgstr()?, true),
                None => copy(message, "", false),
            },
        };
        new.append_or_update(merged);
    }
    Ok(new)
}

fn similar<'a>(id: &str, template: &Catalog, old: &'a Catalog) -> Option<&'a dyn MessageView> {
    old.messages()
        .filter(|message| is_done(*message))
        .filter(|message| template.find_message(None, message.msgid(), None).is_none())
        .map(|message| (alike(id, message.msgid()), message))
        .filter(|(score, _)| *score >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, message)| message as &dyn MessageView)
}

/// Dice's coefficient of the words of two messages.
fn alike(a: &str, b: &str) -> f64 {
    let a: Vec<&str> = a.split_whitespace().collect();
    let mut b: Vec<&str> = b.split_whitespace().collect();
    let all = a.len() + b.len();
    let mut common = 0;
    for word in a {
        if let Some(index) = b.iter().position(|other| *other == word) {
            b.swap_remove(index);
            common += 1;
        }
    }
    2.0 * f64::from(common) / all.max(1) as f64
}

/// A message that is more than code, formulas and numbers.
fn has_words(message: &str) -> bool {
    scan::parts(message).iter().any(|part| match part {
        Part::Text(text) => text.chars().any(char::is_alphabetic) && !text.starts_with("{{#"),
        Part::Span { .. } => false,
    })
}

fn is_done(message: &dyn MessageView) -> bool {
    message.is_translated() && !message.is_fuzzy()
}

fn copy(message: &dyn MessageView, translation: &str, fuzzy: bool) -> Message {
    let mut flags = MessageFlags::new();
    if fuzzy {
        flags.add_flag("fuzzy");
    }
    Message::build_singular()
        .with_source(message.source().to_owned())
        .with_comments(message.comments().to_owned())
        .with_flags(flags)
        .with_msgid(message.msgid().to_owned())
        .with_msgstr(translation.to_owned())
        .done()
}

fn parse(file: &Path) -> Result<Catalog> {
    po_file::parse(file).map_err(|error| anyhow!("cannot read {}: {error}", file.display()))
}

fn write(catalog: &Catalog, file: &Path) -> Result<()> {
    let error = || format!("cannot write {}", file.display());
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(error)?;
    }
    po_file::write(catalog, file).with_context(error)?;
    // The writer leaves an empty line at either end.
    let text = std::fs::read_to_string(file).with_context(error)?;
    std::fs::write(file, format!("{}\n", text.trim())).with_context(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(messages: &[(&str, &str, bool)]) -> Catalog {
        let mut catalog = Catalog::new(metadata(languages::ALL[1]));
        for (id, text, fuzzy) in messages {
            let bare = Message::build_singular()
                .with_msgid((*id).to_owned())
                .done();
            catalog.append_or_update(copy(&bare, text, *fuzzy));
        }
        catalog
    }

    #[test]
    fn a_message_keeps_its_translation_and_a_changed_one_is_fuzzy() {
        let template = catalog(&[("a b c d e", "", false), ("x", "", false), ("y", "", false)]);
        let old = catalog(&[
            ("a b c d f", "A", false),
            ("x", "X", false),
            ("z", "Z", false),
        ]);
        let new = merge(&template, &old, languages::ALL[1]).unwrap();
        let found = |id: &str| {
            let message = new.find_message(None, id, None).unwrap();
            (message.msgstr().unwrap().to_owned(), message.is_fuzzy())
        };
        assert_eq!(found("a b c d e"), ("A".to_owned(), true));
        assert_eq!(found("x"), ("X".to_owned(), false));
        assert_eq!(found("y"), (String::new(), false));
        assert_eq!(new.count(), 3);
    }

    #[test]
    fn a_fuzzy_or_empty_translation_does_not_count() {
        let catalog = catalog(&[
            ("one", "一", false),
            ("two", "二", true),
            ("three", "", false),
        ]);
        assert_eq!(
            share(&catalog, "one\n\ntwo\n\nthree\n\nfour\n").unwrap(),
            25
        );
        assert_eq!(share(&catalog, "one\n\n`code`\n").unwrap(), 100);
    }

    #[test]
    fn code_and_formulas_are_no_words() {
        for message in ["`x`", "`$x$`, `y`", "1 – 2", "{{#include a.rs:b}}"] {
            assert!(!has_words(message), "{message}");
        }
        assert!(has_words("`x` is"));
    }

    #[test]
    fn differences_go_both_ways() {
        let (a, b) = (catalog(&[("x", "", false)]), catalog(&[("y", "", false)]));
        let found: Vec<String> = differences(&a, &b).collect();
        assert_eq!(found, ["new message: x", "no longer in the book: y"]);
    }
}
