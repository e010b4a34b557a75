//! One language of the book, from Markdown to pages.
//!
//! The steps run in this order: formulas become code, the translation, the includes (after it, so that code never is a message),
//! formulas become `MathML`, plots become part of the page.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mdbook_driver::MDBook;
use mdbook_driver::book::{Book, BookItem, Chapter};
use mdbook_driver::config::Config;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};

use crate::languages::{self, Language};
use crate::{catalog, code, figures, formulas};

/// Builds the book in one language and returns the folder with its pages.
pub(crate) fn build(root: &Path, language: Language) -> Result<PathBuf> {
    let mut config = config(root)?;
    config.book.language = Some(language.tag.to_owned());
    config.book.title = Some(language.title.to_owned());
    config.build.build_dir = PathBuf::from("html").join(language.folder);
    if language.po.is_some() {
        // The search cuts words at spaces, which Chinese does not have.
        config.set("output.html.search.enable", false)?;
    }
    let mut book = MDBook::load_with_config(root, config)?;
    book.with_preprocessor(Protect);
    if let Some(stem) = language.po {
        let catalog = catalog::read(root, stem)?;
        book.with_preprocessor(Translate { catalog });
    }
    book.with_preprocessor(Included);
    book.with_preprocessor(Finish { language });
    let folder = root.join("html").join(language.folder);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    book.build()
        .with_context(|| format!("cannot build the pages in {}", language.name))?;
    Ok(folder)
}

/// The settings of all languages: `book.toml`, and no step but ours.
pub(crate) fn config(root: &Path) -> Result<Config> {
    let path = root.join("book.toml");
    let mut config =
        Config::from_disk(&path).with_context(|| format!("cannot read {}", path.display()))?;
    config.build.use_default_preprocessors = false;
    config.build.create_missing = false;
    Ok(config)
}

/// The book as the translation sees it: source text, formulas as code.
pub(crate) fn source(root: &Path) -> Result<MDBook> {
    let mut book = MDBook::load_with_config(root, config(root)?)?;
    each_chapter(&mut book.book, |chapter, _| {
        chapter.content = formulas::protect(&chapter.content)?;
        Ok(())
    })?;
    Ok(book)
}

/// Calls a function on each chapter and its path; an error names the chapter.
fn each_chapter(
    book: &mut Book,
    mut change: impl FnMut(&mut Chapter, &Path) -> Result<()>,
) -> Result<()> {
    let mut outcome = Ok(());
    book.for_each_mut(|item| {
        if let BookItem::Chapter(chapter) = item
            && let Some(path) = chapter.path.clone()
            && outcome.is_ok()
        {
            outcome = change(chapter, &path).with_context(|| format!("src/{}", path.display()));
        }
    });
    outcome
}

/// The folder of a chapter's source.
fn folder(ctx: &PreprocessorContext, path: &Path) -> PathBuf {
    let source = ctx.root.join(&ctx.config.book.src).join(path);
    source.parent().map(Path::to_path_buf).unwrap_or_default()
}

struct Protect;

impl Preprocessor for Protect {
    fn name(&self) -> &str {
        "protect-formulas"
    }

    fn run(&self, _: &PreprocessorContext, mut book: Book) -> Result<Book> {
        each_chapter(&mut book, |chapter, _| {
            chapter.content = formulas::protect(&chapter.content)?;
            Ok(())
        })?;
        Ok(book)
    }
}

struct Translate {
    catalog: polib::catalog::Catalog,
}

impl Preprocessor for Translate {
    fn name(&self) -> &str {
        "translate"
    }

    fn run(&self, _: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let mut notes = Vec::new();
        each_chapter(&mut book, |chapter, _| {
            let share = catalog::share(&self.catalog, &chapter.content)?;
            notes.push(format!(
                "<p class=\"translated\">本页已翻译 {share} %</p>\n\n"
            ));
            Ok(())
        })?;
        mdbook_i18n_helpers::gettext::translate_book(&self.catalog, &mut book)?;
        let mut notes = notes.into_iter();
        each_chapter(&mut book, |chapter, _| {
            let note = notes
                .next()
                .context("a chapter appeared in the translation")?;
            chapter.content.insert_str(0, &note);
            Ok(())
        })?;
        Ok(book)
    }
}

struct Included;

impl Preprocessor for Included {
    fn name(&self) -> &str {
        "include"
    }

    fn run(&self, ctx: &PreprocessorContext, mut book: Book) -> Result<Book> {
        each_chapter(&mut book, |chapter, path| {
            chapter.content = code::include(&chapter.content, &folder(ctx, path))?;
            Ok(())
        })?;
        Ok(book)
    }
}

struct Finish {
    language: Language,
}

impl Preprocessor for Finish {
    fn name(&self) -> &str {
        "finish"
    }

    fn run(&self, ctx: &PreprocessorContext, mut book: Book) -> Result<Book> {
        each_chapter(&mut book, |chapter, path| {
            let page = formulas::render(&chapter.content)?;
            let page = figures::inline(&page, &folder(ctx, path))?;
            chapter.content = format!("{}\n\n{page}", other_languages(self.language, path));
            Ok(())
        })?;
        Ok(book)
    }
}

/// Links to the same page in the other languages.
fn other_languages(language: Language, path: &Path) -> String {
    let up = "../".repeat(path.components().count());
    let page = path.with_extension("html");
    let page = page.to_string_lossy().replace('\\', "/");
    let links: Vec<String> = languages::ALL
        .iter()
        .filter(|other| **other != language)
        .map(|other| {
            format!(
                "<a lang=\"{}\" hreflang=\"{}\" href=\"{up}{}/{page}\">{}</a>",
                other.tag, other.tag, other.folder, other.name
            )
        })
        .collect();
    format!("<p class=\"languages\">{}</p>", links.join(" · "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_links_to_itself_in_the_other_language() {
        let link = other_languages(languages::ALL[0], Path::new("positions/rope.md"));
        assert!(
            link.contains("href=\"../../zh/positions/rope.html\""),
            "{link}"
        );
        assert!(!link.contains("English"), "{link}");
    }
}
