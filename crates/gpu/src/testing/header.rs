//! The first lines of a shader: what a reader can check.

/// Each header line begins with one of these words.
const WORDS: [&str; 7] = [
    "Twin",
    "Math",
    "Shapes",
    "Grid",
    "Races",
    "Needs",
    "Precision",
];

/// What is wrong with the comment at the top of a shader.
pub(super) fn problems(name: &str, source: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines: Vec<&str> = source
        .lines()
        .map_while(|line| line.strip_prefix("//"))
        .collect();
    let title = format!(" {name}.wgsl: ");
    if !lines.first().is_some_and(|line| line.starts_with(&title)) {
        problems.push(format!("the first line must begin with `//{title}`"));
    }
    for word in WORDS {
        let said = lines.iter().any(|line| {
            let rest = line.trim_start().strip_prefix(word);
            rest.is_some_and(|rest| rest.starts_with(' ') && !rest.trim().is_empty())
        });
        if !said {
            problems.push(format!("the header must have a line `// {word} …`"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "// x.wgsl: does x.\n//\n// Twin      a\n// Math      b\n// Shapes    c\n// Grid      d\n\
                        // Races     e\n// Needs     f\n// Precision g\n\nstruct P { n: u32 }";

    #[test]
    fn a_whole_header_is_fine() {
        assert_eq!(problems("x", GOOD), Vec::<String>::new());
    }

    #[test]
    fn each_missing_line_is_named() {
        for word in WORDS {
            let without: String = GOOD
                .lines()
                .filter(|line| !line.contains(word))
                .map(|line| format!("{line}\n"))
                .collect();
            let want = format!("the header must have a line `// {word} …`");
            assert_eq!(problems("x", &without), [want]);
        }
    }

    #[test]
    fn an_empty_line_and_a_line_below_the_header_do_not_count() {
        let empty = GOOD.replace("// Races     e", "// Races");
        assert_eq!(problems("x", &empty).len(), 1);
        let below = GOOD.replace("// Races     e\n", "") + "\n// Races     e";
        assert_eq!(problems("x", &below).len(), 1);
    }

    #[test]
    fn another_name_is_found() {
        assert_eq!(problems("y", GOOD).len(), 1);
    }
}
