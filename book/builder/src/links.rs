//! Links inside the built pages lead somewhere: the page exists, and the place on it too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Checks every page below the folder and returns how many there are.
///
/// Links into a folder beside it, as to the other language, are not looked at.
pub(crate) fn check(folder: &Path) -> Result<usize> {
    let mut pages = BTreeMap::new();
    read(folder, folder, &mut pages)?;
    let ids: BTreeMap<&PathBuf, BTreeSet<&str>> = pages
        .iter()
        .map(|(path, text)| (path, attributes(text, "id").collect()))
        .collect();
    let mut problems = Vec::new();
    for (path, text) in &pages {
        let links = attributes(text, "href").chain(attributes(text, "src"));
        for link in links {
            if let Some(problem) = problem(folder, path, link, &ids) {
                problems.push(format!("{}: {problem}", path.display()));
            }
        }
    }
    problems.sort();
    problems.dedup();
    if !problems.is_empty() {
        bail!("broken links:\n{}", problems.join("\n"));
    }
    Ok(pages.len())
}

fn read(root: &Path, folder: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let error = || format!("cannot read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(error)? {
        let path = entry.with_context(error)?.path();
        if path.is_dir() {
            read(root, &path, pages)?;
        } else if path.extension().is_some_and(|ending| ending == "html") {
            let text = std::fs::read_to_string(&path).with_context(error)?;
            pages.insert(path.strip_prefix(root)?.to_owned(), text);
        }
    }
    Ok(())
}

/// The values of an attribute.
fn attributes<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let mark = format!(" {name}=\"");
    let starts: Vec<usize> = html
        .match_indices(&mark)
        .map(|(at, _)| at + mark.len())
        .collect();
    starts
        .into_iter()
        .filter_map(move |start| Some(html[start..].split_once('"')?.0))
}

fn problem(
    folder: &Path,
    page: &Path,
    link: &str,
    ids: &BTreeMap<&PathBuf, BTreeSet<&str>>,
) -> Option<String> {
    if link.contains("://") || link.starts_with("data:") || link.starts_with("mailto:") {
        return None;
    }
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() {
        page.to_owned()
    } else {
        normal(&page.parent()?.join(path))?
    };
    if !folder.join(&target).is_file() {
        return Some(format!("`{link}`: there is no such file"));
    }
    let known = ids.get(&target).is_none_or(|ids| ids.contains(fragment));
    (!fragment.is_empty() && !known).then(|| format!("`{link}`: there is no such place"))
}

/// The path without `.` and `..`; none if it leaves the folder.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir if out.pop() => {}
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(page: &str) -> Result<usize> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b.html"), page).unwrap();
        std::fs::write(folder.path().join("c.html"), "<h1 id=\"top\"></h1>").unwrap();
        check(folder.path())
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let page = "<p id=\"x\"><a href=\"#x\"> <a href=\"../c.html#top\"> <a href=\"https://example.org/\"> \
                    <a href=\"../../zh/c.html\">";
        assert_eq!(checked(page).unwrap(), 2);
    }

    #[test]
    fn broken_links_are_found() {
        for link in ["#y", "../c.html#bottom", "d.html", "../d.svg"] {
            assert!(checked(&format!("<a href=\"{link}\">")).is_err(), "{link}");
            assert!(checked(&format!("<img src=\"{link}\">")).is_err(), "{link}");
        }
    }
}
