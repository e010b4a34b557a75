//! Whether what a shader calls its twin is there.

use std::path::Path;

use super::fault::{Fault, Rule};
use crate::Kernel;

/// Checks the line `Twin` of each kernel's header.
///
/// The files that it names exist below `root`, the folder of the crate, and at least one is named; every word with `.rs`
/// in it is such a path; what it names in backticks before its first semicolon (`` `backward` ``, `` `RopeTable::new` ``)
/// is defined in each file that it names before that.
///
/// # Example
///
/// ```
/// use llm_gpu::{Kernel, Needs, testing::{Rule, check_twins}};
///
/// static LONELY: Kernel = Kernel {
///     name: "lonely",
///     source: "// lonely.wgsl: does something.\n// Twin src/not_there.rs `f`",
///     snippets: &[],
///     bindings: &[],
///     params_size: 0,
///     constants: &[],
///     needs: Needs::CORE,
/// };
/// let faults = check_twins(&[&LONELY], env!("CARGO_MANIFEST_DIR"));
/// assert_eq!(faults[0].rule, Rule::Twin);
/// ```
#[must_use]
pub fn check_twins(kernels: &[&Kernel], root: impl AsRef<Path>) -> Vec<Fault> {
    let read = |file: &str| std::fs::read_to_string(root.as_ref().join(file)).ok();
    let mut faults = Vec::new();
    for kernel in kernels {
        let problems = problems(kernel.source, read);
        faults.extend(problems.into_iter().map(|message| Fault {
            kernel: kernel.name,
            rule: Rule::Twin,
            message,
        }));
    }
    faults
}

fn problems(source: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let header = source.lines().map_while(|line| line.strip_prefix("//"));
    let Some(line) = header
        .filter_map(|line| line.trim_start().strip_prefix("Twin "))
        .next()
    else {
        return vec!["the header must have a line `// Twin …`".to_owned()];
    };
    let (twin, rest) = line.split_once(';').unwrap_or((line, ""));
    let mut problems = Vec::new();
    let mut texts = Vec::new();
    for file in files(twin) {
        match read(file) {
            Some(text) => texts.push((file, text)),
            None => problems.push(format!("there is no file `{file}`")),
        }
    }
    let others = files(rest).filter(|file| read(file).is_none());
    problems.extend(others.map(|file| format!("there is no file `{file}`")));
    let unclear = words(line).filter(|word| !is_path(word));
    problems.extend(unclear.map(|word| {
        format!("`{word}` must be a path from the folder of the crate, as `src/a.rs`")
    }));
    if words(line).next().is_none() {
        problems.push("the line `Twin` must name a file".to_owned());
    }
    for name in twin.split('`').skip(1).step_by(2) {
        for (file, text) in &texts {
            if !defines(text, name) {
                problems.push(format!("`{file}` does not define `{name}`"));
            }
        }
    }
    problems
}

/// The words that name Rust files.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', ',', ';', ':'])
        .filter(|word| word.contains(".rs"))
}

fn is_path(word: &str) -> bool {
    word.contains('/') && word.ends_with(".rs")
}

/// Those of the words that are paths.
fn files(line: &str) -> impl Iterator<Item = &str> {
    words(line).filter(|word| is_path(word))
}

/// True if the text has a function of that name, for `Type::name` beside an `impl` of that type. Comments do not count.
fn defines(text: &str, name: &str) -> bool {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let has_function = |name: &str| {
        let mut functions = code.clone().flat_map(|line| after(line, "fn"));
        functions.any(|rest| first_name(rest.trim_start()) == name)
    };
    match name.rsplit_once("::") {
        Some((ty, name)) => {
            let mut impls = code.clone().flat_map(|line| after(line, "impl"));
            impls.any(|rest| implements(rest, ty)) && has_function(name)
        }
        None => has_function(name),
    }
}

/// What stands behind each place where the word does.
fn after<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(word).filter_map(|(at, _)| {
        let rest = &line[at + word.len()..];
        let is_alone = !line[..at].ends_with(is_of_a_name) && !rest.starts_with(is_of_a_name);
        is_alone.then_some(rest)
    })
}

/// True for what follows `impl` in `impl Type`, `impl<T> Type` and `impl Trait for Type`.
fn implements(rest: &str, ty: &str) -> bool {
    let mut depth = 0_usize;
    let mut before = ' ';
    let end = rest.find(|letter| {
        match letter {
            '<' => depth += 1,
            '>' if before != '-' => depth = depth.saturating_sub(1), // no arrow
            _ => {}
        }
        before = letter;
        depth == 0 && letter != '>'
    });
    let rest = rest[end.unwrap_or(rest.len())..].trim_start();
    let of_trait = after(rest, "for").next().map(str::trim_start);
    first_name(of_trait.unwrap_or(rest)) == ty
}

/// The name that the text begins with, empty if it does not.
fn first_name(text: &str) -> &str {
    let end = text.find(|letter| !is_of_a_name(letter));
    &text[..end.unwrap_or(text.len())]
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(twin: &str) -> Vec<String> {
        let source = format!("// x.wgsl: does x.\n//\n// Twin      {twin}\n// Math      y = x\n");
        problems(&source, |file| {
            let text = match file {
                "src/a.rs" => {
                    "pub use b::g;\npub fn f<F>() {}\nimpl Table {\n    pub fn new() {}\n}\n\
                     impl<'a, F: Fn(&'a T) -> Vec<T>, T> List<F> {\n    // fn old() {}\n}\n\
                     impl From<Table> for Column {}\n/// fn g()\n//! impl Gone"
                }
                "src/a/b.rs" => "pub fn g() {}\npub fn ff() {}",
                "tests/it/a.rs" => "",
                _ => return None,
            };
            Some(text.to_owned())
        })
    }

    #[test]
    fn twins_that_are_there_are_fine() {
        for twin in [
            "src/a.rs `f`; compared in tests/it/a.rs",
            "src/a.rs `Table::new` and `f`; compared in tests/it/a.rs",
            "src/a.rs `List::new`, `Column::new`",
            "src/a/b.rs `g`, `ff`",
            "tests/it/a.rs, a loop",
            "the crate half, `from_f32`; compared in tests/it/a.rs",
        ] {
            assert_eq!(found(twin), Vec::<String>::new(), "{twin}");
        }
    }

    #[test]
    fn wrong_files_and_names_are_found() {
        let missing = |file: &str| format!("there is no file `{file}`");
        let undefined = |file: &str, name: &str| format!("`{file}` does not define `{name}`");
        let unclear = |word: &str| {
            format!("`{word}` must be a path from the folder of the crate, as `src/a.rs`")
        };
        for (twin, want) in [
            ("src/c.rs `f`", missing("src/c.rs")),
            (
                "src/a.rs `f`; compared in tests/it/c.rs",
                missing("tests/it/c.rs"),
            ),
            ("src/a.rs `g`", undefined("src/a.rs", "g")), // handed on, not defined
            ("src/a/b.rs `f`", undefined("src/a/b.rs", "f")), // only `ff`
            ("src/a.rs `old`", undefined("src/a.rs", "old")), // in a comment
            ("src/a.rs `Row::new`", undefined("src/a.rs", "Row::new")),
            ("src/a.rs `From::new`", undefined("src/a.rs", "From::new")),
            ("src/a.rs `Gone::new`", undefined("src/a.rs", "Gone::new")),
            ("a.rs `f`", unclear("a.rs")),
            (
                "src/a.rs `f` (compared in tests/it/a.rs)",
                unclear("tests/it/a.rs)"),
            ),
            (
                "src/a.rs `f`; compared in tests/it/a.rs.",
                unclear("tests/it/a.rs."),
            ),
            ("src/a.rs and src/a/b.rs `g`", undefined("src/a.rs", "g")),
            ("a loop", "the line `Twin` must name a file".to_owned()),
        ] {
            assert_eq!(found(twin), [want], "{twin}");
        }
        let want = "the header must have a line `// Twin …`";
        assert_eq!(
            problems("// x.wgsl: x.\n\n// Twin src/a.rs", |_| None),
            [want]
        );
    }
}
