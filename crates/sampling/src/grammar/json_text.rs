//! How JSON values are written: expressions for strings, numbers and values.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition};

use super::json::Json;
use super::{GrammarError, Whitespace, parse};

/// Digits of an integer, of the whole part and of the fraction of a number at most: all of them fit into 64 bits, and numbers stay finite.
const INTEGER_DIGITS: u32 = 18;
const NUMBER_DIGITS: u32 = 15;
/// The largest integer of [`INTEGER_DIGITS`].
pub(super) const MAX_INTEGER: i128 = 10_i128.pow(INTEGER_DIGITS) - 1;

/// These bytes.
pub(super) fn text(text: impl AsRef<[u8]>) -> Hir {
    Hir::literal(text.as_ref())
}

/// `min..=max` times, or more if there is no maximum.
pub(super) fn repeat(sub: Hir, min: u32, max: Option<u32>) -> Hir {
    Hir::repetition(Repetition {
        min,
        max,
        greedy: true,
        sub: Box::new(sub),
    })
}

/// Nothing or this.
pub(super) fn optional(sub: Hir) -> Hir {
    repeat(sub, 0, Some(1))
}

fn class(ranges: &[(char, char)]) -> Hir {
    let ranges = ranges.iter().map(|&(a, b)| ClassUnicodeRange::new(a, b));
    Hir::class(Class::Unicode(ClassUnicode::new(ranges)))
}

fn digits(min: u32, max: u32) -> Hir {
    repeat(class(&[('0', '9')]), min, Some(max))
}

/// What may stand between the marks of JSON.
pub(super) fn space(whitespace: Whitespace) -> Hir {
    match whitespace {
        Whitespace::Compact | Whitespace::Spaced => Hir::empty(),
        Whitespace::UpTo(n) => {
            let one = class(&[(' ', ' '), ('\t', '\n'), ('\r', '\r')]);
            repeat(one, 0, Some(n.into()))
        }
    }
}

/// A colon or a comma with the space around it.
pub(super) fn mark(mark: &str, whitespace: Whitespace) -> Hir {
    match whitespace {
        Whitespace::Compact => text(mark),
        Whitespace::Spaced => text(format!("{mark} ")),
        Whitespace::UpTo(_) => Hir::concat(vec![space(whitespace), text(mark), space(whitespace)]),
    }
}

/// Brackets with what is in them, or, if they may be empty, with nothing but space.
pub(super) fn within(
    brackets: &str,
    inner: Option<Hir>,
    may_be_empty: bool,
    whitespace: Whitespace,
) -> Hir {
    let (open, close) = brackets.split_at(1);
    let space = || space(whitespace);
    let mut all = Vec::new();
    all.extend(inner.map(|inner| Hir::concat(vec![space(), inner, space()])));
    if may_be_empty {
        all.push(space());
    }
    Hir::concat(vec![text(open), Hir::alternation(all), text(close)])
}

/// Any character, as a string spells it.
pub(super) fn any_character() -> Hir {
    spelled(&ClassUnicode::new([ClassUnicodeRange::new(
        '\0',
        char::MAX,
    )]))
}

/// The characters of a class, each in its one spelling: control characters, quotes and backslashes in the shortest escape, with small hexadecimal
/// digits; all others as they are.
fn spelled(characters: &ClassUnicode) -> Hir {
    let mut plain = ClassUnicode::new([
        ClassUnicodeRange::new(' ', '!'),
        ClassUnicodeRange::new('#', '['),
        ClassUnicodeRange::new(']', char::MAX),
    ]);
    plain.intersect(characters);
    let has = |c: char| {
        let mut ranges = characters.iter();
        ranges.any(|range| (range.start()..=range.end()).contains(&c))
    };
    let letters = "\"\\\u{8}\u{c}\n\r\t".chars().zip("\"\\bfnrt".chars());
    let letters: Vec<_> = letters
        .filter(|(c, _)| has(*c))
        .map(|(_, l)| (l, l))
        .collect();
    let mut codes = Vec::new();
    for high in 0..2 {
        let lows = (0..16).filter(|low| {
            let c = char::from(high * 16 + low);
            has(c) && !matches!(c, '\u{8}' | '\u{c}' | '\n' | '\r' | '\t')
        });
        let lows = lows.filter_map(|low| char::from_digit(low.into(), 16));
        let lows: Vec<_> = lows.map(|c| (c, c)).collect();
        codes.push(Hir::concat(vec![text(format!("u00{high}")), class(&lows)]));
    }
    codes.push(class(&letters));
    let escaped = Hir::concat(vec![text("\\"), Hir::alternation(codes)]);
    Hir::alternation(vec![Hir::class(Class::Unicode(plain)), escaped])
}

/// A string of `min..=max` characters.
pub(super) fn string(min: u32, max: Option<u32>) -> Hir {
    quoted(repeat(any_character(), min, max))
}

fn quoted(inner: Hir) -> Hir {
    Hir::concat(vec![text("\""), inner, text("\"")])
}

/// A string in which a pattern matches somewhere.
pub(super) fn pattern_string(pattern: &str) -> Result<Hir, GrammarError> {
    let hir = parse(&ascii_classes(pattern))?;
    Ok(quoted(search(&hir)?))
}

/// `\d`, `\w` and `\s` as JSON Schema has them: of ASCII, `\s` with the spaces of Unicode.
fn ascii_classes(pattern: &str) -> String {
    let (mut out, mut chars) = (String::new(), pattern.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('/') => out.push('/'), // which needs no escape here
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// Strings, without their quotes, in which an expression matches somewhere.
fn search(hir: &Hir) -> Result<Hir, GrammarError> {
    match hir.kind() {
        HirKind::Alternation(subs) => {
            let subs: Result<_, _> = subs.iter().map(search).collect();
            return Ok(Hir::alternation(subs?));
        }
        HirKind::Capture(capture) => return search(&capture.sub),
        _ => {}
    }
    let mut parts = match hir.kind() {
        HirKind::Concat(subs) => subs.as_slice(),
        _ => core::slice::from_ref(hir),
    };
    let any = || repeat(any_character(), 0, None);
    let (mut before, mut after) = (any(), any());
    while let [first, rest @ ..] = parts
        && *first.kind() == HirKind::Look(Look::Start)
    {
        (before, parts) = (Hir::empty(), rest);
    }
    while let [rest @ .., last] = parts
        && *last.kind() == HirKind::Look(Look::End)
    {
        (after, parts) = (Hir::empty(), rest);
    }
    let mut all = vec![before];
    for part in parts {
        all.push(encode(part)?);
    }
    all.push(after);
    Ok(Hir::concat(all))
}

/// The same expression over characters as a string spells them.
fn encode(hir: &Hir) -> Result<Hir, GrammarError> {
    let all = |subs: &[Hir]| subs.iter().map(encode).collect::<Result<Vec<_>, _>>();
    let refused = |what: &str| Err(GrammarError::Unsupported(what.to_owned()));
    Ok(match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => match core::str::from_utf8(&literal.0) {
            Ok(literal) => text(inside_quotes(literal)),
            Err(_) => return refused("a literal must be whole characters"),
        },
        HirKind::Class(Class::Unicode(class)) => spelled(class),
        HirKind::Class(Class::Bytes(class)) => match class.to_unicode_class() {
            Some(class) => spelled(&class),
            None => return refused("a class must be one of characters"),
        },
        HirKind::Look(_) => {
            return refused(
                "an anchor must be the first or last of an alternative, and of the whole text",
            );
        }
        HirKind::Repetition(repetition) => {
            Hir::repetition(repetition.with(encode(&repetition.sub)?))
        }
        HirKind::Capture(capture) => encode(&capture.sub)?,
        HirKind::Concat(subs) => Hir::concat(all(subs)?),
        HirKind::Alternation(subs) => Hir::alternation(all(subs)?),
    })
}

/// A string as it is written between its quotes.
fn inside_quotes(string: &str) -> String {
    let quoted = spell(&string);
    quoted[1..quoted.len() - 1].to_owned()
}

/// A string or number as `serde_json` writes it, which is the one spelling that is allowed here.
fn spell<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "\"\"".to_owned()) // strings and numbers never fail
}

/// One value.
pub(super) fn literal(value: &Json, whitespace: Whitespace) -> Hir {
    let comma = || mark(",", whitespace);
    let list = |items: Vec<Hir>| {
        let mut all = Vec::new();
        for item in items {
            if !all.is_empty() {
                all.push(comma());
            }
            all.push(item);
        }
        (!all.is_empty()).then(|| Hir::concat(all))
    };
    match value {
        Json::Null => text("null"),
        Json::Bool(b) => text(b.to_string()),
        Json::Integer(i) => text(i.to_string()),
        Json::Float(x) => text(spell(x)),
        Json::String(s) => text(spell(s)),
        Json::Array(items) => {
            let items = items.iter().map(|item| literal(item, whitespace)).collect();
            let items = list(items);
            let is_empty = items.is_none();
            within("[]", items, is_empty, whitespace)
        }
        Json::Object(members) => {
            let member = |(name, value): &(String, Json)| {
                Hir::concat(vec![name_of(name, whitespace), literal(value, whitespace)])
            };
            let members = members.iter().map(member).collect();
            let members = list(members);
            let is_empty = members.is_none();
            within("{}", members, is_empty, whitespace)
        }
    }
}

/// The name of a member and the colon.
pub(super) fn name_of(name: &str, whitespace: Whitespace) -> Hir {
    Hir::concat(vec![text(spell(&name)), mark(":", whitespace)])
}

/// Any number.
pub(super) fn number() -> Hir {
    let nonzero = Hir::concat(vec![class(&[('1', '9')]), digits(0, NUMBER_DIGITS - 1)]);
    let whole = Hir::alternation(vec![text("0"), nonzero]);
    let fraction = Hir::concat(vec![text("."), digits(1, NUMBER_DIGITS)]);
    let e = class(&[('E', 'E'), ('e', 'e')]);
    let sign = class(&[('+', '+'), ('-', '-')]);
    let exponent = Hir::concat(vec![e, optional(sign), digits(1, 2)]);
    Hir::concat(vec![
        optional(text("-")),
        whole,
        optional(fraction),
        optional(exponent),
    ])
}

/// The integers from `min` to `max`.
pub(super) fn integer(min: i128, max: i128) -> Hir {
    let (min, max) = (min.max(-MAX_INTEGER), max.min(MAX_INTEGER));
    let mut all = Vec::new();
    if min < 0 && min <= max {
        let negative = natural(1.max(-max), -min);
        all.push(Hir::concat(vec![text("-"), negative]));
    }
    if max >= 0 && min <= max {
        all.push(natural(min.max(0), max));
    }
    Hir::alternation(all)
}

/// The integers from `min` to `max`, which are not negative.
fn natural(min: i128, max: i128) -> Hir {
    let mut all = Vec::new();
    for n_digits in 1..=INTEGER_DIGITS {
        let least = if n_digits == 1 {
            0
        } else {
            10_i128.pow(n_digits - 1)
        };
        let most = 10_i128.pow(n_digits) - 1;
        let (least, most) = (least.max(min), most.min(max));
        if least <= most {
            all.push(same_length(
                least.to_string().as_bytes(),
                most.to_string().as_bytes(),
            ));
        }
    }
    Hir::alternation(all)
}

/// The digits from `min` to `max`, which are equally many.
fn same_length(min: &[u8], max: &[u8]) -> Hir {
    let ([low, low_rest @ ..], [high, high_rest @ ..]) = (min, max) else {
        return Hir::empty();
    };
    let n = low_rest.len() as u32;
    if low_rest.iter().all(|d| *d == b'0') && high_rest.iter().all(|d| *d == b'9') {
        let first = class(&[(char::from(*low), char::from(*high))]);
        return Hir::concat(vec![first, digits(n, n)]);
    }
    if low == high {
        return Hir::concat(vec![text([*low]), same_length(low_rest, high_rest)]);
    }
    let (zeros, nines) = (vec![b'0'; low_rest.len()], vec![b'9'; low_rest.len()]);
    let mut all = vec![Hir::concat(vec![
        text([*low]),
        same_length(low_rest, &nines),
    ])];
    if low + 1 < *high {
        let between = class(&[(char::from(low + 1), char::from(high - 1))]);
        all.push(Hir::concat(vec![between, digits(n, n)]));
    }
    all.push(Hir::concat(vec![
        text([*high]),
        same_length(&zeros, high_rest),
    ]));
    Hir::alternation(all)
}
