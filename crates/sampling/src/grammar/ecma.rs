//! Patterns of JSON Schema: the syntax of ECMA-262, as far as it means the same here or can be written anew.

use regex_syntax::ast::{
    AssertionKind, Ast, ClassBracketed, ClassPerl, ClassPerlKind, ClassSet, ClassSetItem,
    ClassSetRange, ClassSetUnion, ClassUnicode, ClassUnicodeKind, ClassUnicodeOpKind, GroupKind,
    HexLiteralKind, Literal, LiteralKind, Span, SpecialLiteralKind,
};
use regex_syntax::hir::Hir;

use super::GrammarError;
use super::pattern;

const DIGITS: &[(char, char)] = &[('0', '9')];
const WORDS: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
/// White space and the ends of lines of ECMA-262: others than those of Unicode.
const SPACES: &[(char, char)] = &[
    ('\t', '\r'),
    (' ', ' '),
    ('\u{A0}', '\u{A0}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{2000}', '\u{200A}'),
    ('\u{2028}', '\u{2029}'),
    ('\u{202F}', '\u{202F}'),
    ('\u{205F}', '\u{205F}'),
    ('\u{3000}', '\u{3000}'),
    ('\u{FEFF}', '\u{FEFF}'),
];
/// What a dot leaves out.
const LINE_ENDS: &[(char, char)] = &[('\n', '\n'), ('\r', '\r'), ('\u{2028}', '\u{2029}')];

/// The expression of a pattern with the meaning that ECMA-262 gives it.
///
/// What ECMA-262 has no meaning for, or another one that is not written anew here, is an error.
pub(super) fn parse(pattern: &str) -> Result<Hir, GrammarError> {
    let mut tree = pattern::parse_tree(pattern)?;
    rewrite(pattern, &mut tree)?;
    pattern::translate(pattern, &tree)
}

fn refused<T>(what: &str) -> Result<T, GrammarError> {
    Err(GrammarError::Unsupported(what.to_owned()))
}

fn text<'a>(pattern: &'a str, span: &Span) -> &'a str {
    pattern
        .get(span.start.offset..span.end.offset)
        .unwrap_or("")
}

fn rewrite(pattern: &str, tree: &mut Ast) -> Result<(), GrammarError> {
    match tree {
        Ast::Empty(_) => {}
        Ast::Flags(_) => return refused("flags are not those of ECMA-262"),
        Ast::Literal(literal) => check_literal(literal)?,
        Ast::Dot(span) => *tree = Ast::ClassBracketed(Box::new(class(**span, true, LINE_ENDS))),
        Ast::ClassPerl(perl) => *tree = Ast::ClassBracketed(Box::new(rewritten(perl))),
        Ast::ClassUnicode(class) => check_property(class)?,
        Ast::ClassBracketed(class) => {
            let body = text(pattern, &class.span).get(1..).unwrap_or("");
            let body = body.strip_prefix('^').unwrap_or(body);
            if body.starts_with(']') || body.starts_with("--") {
                return refused("a class must not begin with ] or two hyphens: escape them");
            }
            match &mut class.kind {
                ClassSet::Item(item) => rewrite_item(item)?,
                ClassSet::BinaryOp(_) => {
                    return refused(
                        "a class must not have && or -- or ~~, which ECMA-262 reads in another way: escape one of the two",
                    );
                }
            }
        }
        Ast::Assertion(assertion) => match assertion.kind {
            AssertionKind::StartLine | AssertionKind::EndLine => {}
            AssertionKind::WordBoundary | AssertionKind::NotWordBoundary => {
                return refused("word boundaries are not known in schemas");
            }
            _ => return refused("of anchors, ECMA-262 has ^ and $ only"),
        },
        Ast::Repetition(repetition) => {
            if matches!(*repetition.ast, Ast::Repetition(_) | Ast::Assertion(_)) {
                return refused("a repetition or an anchor must not be repeated: use a group");
            }
            if text(pattern, &repetition.op.span).contains(char::is_whitespace) {
                return refused("the braces of a repetition must not have white space");
            }
            rewrite(pattern, &mut repetition.ast)?;
        }
        Ast::Group(group) => {
            match &group.kind {
                GroupKind::CaptureIndex(_) => {}
                GroupKind::CaptureName { starts_with_p, .. } if !starts_with_p => {}
                GroupKind::NonCapturing(flags) if flags.items.is_empty() => {}
                _ => return refused("a group must begin with ( or (?: or (?<name>"),
            }
            rewrite(pattern, &mut group.ast)?;
        }
        Ast::Alternation(alternation) => {
            for tree in &mut alternation.asts {
                rewrite(pattern, tree)?;
            }
        }
        Ast::Concat(concat) => {
            for tree in &mut concat.asts {
                rewrite(pattern, tree)?;
            }
        }
    }
    Ok(())
}

fn rewrite_item(item: &mut ClassSetItem) -> Result<(), GrammarError> {
    match item {
        ClassSetItem::Empty(_) => {}
        ClassSetItem::Literal(literal) => check_literal(literal)?,
        ClassSetItem::Range(range) => {
            check_literal(&range.start)?;
            check_literal(&range.end)?;
        }
        ClassSetItem::Unicode(class) => check_property(class)?,
        ClassSetItem::Perl(perl) => *item = ClassSetItem::Bracketed(Box::new(rewritten(perl))),
        ClassSetItem::Ascii(_) | ClassSetItem::Bracketed(_) => {
            return refused(
                "a class must not have [, which ECMA-262 reads in another way: escape it",
            );
        }
        ClassSetItem::Union(union) => union.items.iter_mut().try_for_each(rewrite_item)?,
    }
    Ok(())
}

fn check_literal(literal: &Literal) -> Result<(), GrammarError> {
    match literal.kind {
        LiteralKind::HexFixed(HexLiteralKind::X | HexLiteralKind::UnicodeShort)
        | LiteralKind::HexBrace(HexLiteralKind::UnicodeShort) => Ok(()),
        LiteralKind::HexFixed(_) | LiteralKind::HexBrace(_) => {
            refused(r"the code of a character must be \xhh, \uhhhh or \u{h}")
        }
        LiteralKind::Special(SpecialLiteralKind::Bell) | LiteralKind::Octal => {
            refused(r"ECMA-262 has neither \a nor octal codes")
        }
        _ => Ok(()),
    }
}

fn check_property(class: &ClassUnicode) -> Result<(), GrammarError> {
    match &class.kind {
        ClassUnicodeKind::Named(_) => Ok(()),
        ClassUnicodeKind::NamedValue { op, .. } if *op == ClassUnicodeOpKind::Equal => Ok(()),
        _ => refused(r"a property must be \p{name} or \p{name=value}"),
    }
}

fn rewritten(perl: &ClassPerl) -> ClassBracketed {
    let ranges = match perl.kind {
        ClassPerlKind::Digit => DIGITS,
        ClassPerlKind::Space => SPACES,
        ClassPerlKind::Word => WORDS,
    };
    class(perl.span, perl.negated, ranges)
}

fn class(span: Span, negated: bool, ranges: &[(char, char)]) -> ClassBracketed {
    let literal = |c| Literal {
        span,
        kind: LiteralKind::Verbatim,
        c,
    };
    let range = |&(start, end): &(char, char)| {
        ClassSetItem::Range(ClassSetRange {
            span,
            start: literal(start),
            end: literal(end),
        })
    };
    let items = ranges.iter().map(range).collect();
    ClassBracketed {
        span,
        negated,
        kind: ClassSet::Item(ClassSetItem::Union(ClassSetUnion { span, items })),
    }
}
