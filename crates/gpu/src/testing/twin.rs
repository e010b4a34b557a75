//! Whether what a shader calls its twin is there.

use std::path::Path;

use super::fault::{Fault, Rule};
use crate::Kernel;

/// Checks the line `Twin` of each kernel's header: the files that it names exist below `root`, the folder of the crate, and at least one is
/// named; what it names in backticks before its first semicolon (`` `backward` ``, `` `RopeTable::new` ``) is defined in each file
/// that it names before that.
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
    if files(line).next().is_none() {
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

/// The words that are paths of Rust files.
fn files(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', ',', ';', ':'])
        .filter(|word| word.contains('/') && word.ends_with(".rs"))
}

/// True if the text has a function of that name, for `Type::name` beside an `impl` of that type.
fn defines(text: &str, name: &str) -> bool {
    let has = |before: &str, name: &str| {
        text.match_indices(&format!("{before} {name}"))
            .any(|(at, found)| !text[at + found.len()..].starts_with(is_of_a_name))
    };
    match name.rsplit_once("::") {
        Some((ty, name)) => has("impl", ty) && has("fn", name),
        None => has("fn", name),
    }
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
                    "pub use b::g;\npub fn f<F>() {}\nimpl Table {\n    pub fn new() {}\n}"
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
        for (twin, want) in [
            ("src/c.rs `f`", missing("src/c.rs")),
            (
                "src/a.rs `f`; compared in tests/it/c.rs",
                missing("tests/it/c.rs"),
            ),
            ("src/a.rs `g`", undefined("src/a.rs", "g")), // handed on, not defined
            ("src/a/b.rs `f`", undefined("src/a/b.rs", "f")), // only `ff`
            ("src/a.rs `Row::new`", undefined("src/a.rs", "Row::new")),
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
