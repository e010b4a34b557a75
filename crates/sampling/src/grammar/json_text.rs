//! How JSON values are written: expressions for strings, numbers and values.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition};

use super::Whitespace;
use super::json::Json;

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

/// How many parts an expression has: literals, the ranges of classes, and what they are put together with.
pub(super) fn n_parts(hir: &Hir) -> usize {
    let sum = |subs: &[Hir]| subs.iter().map(n_parts).sum::<usize>();
    let own = match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len() / 64,
        HirKind::Class(Class::Unicode(class)) => class.ranges().len() / 8,
        HirKind::Class(Class::Bytes(class)) => class.ranges().len() / 8,
        HirKind::Repetition(repetition) => n_parts(&repetition.sub),
        HirKind::Capture(capture) => n_parts(&capture.sub),
        HirKind::Concat(subs) | HirKind::Alternation(subs) => sum(subs),
    };
    1 + own
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
pub(super) fn spelled(characters: &ClassUnicode) -> Hir {
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

pub(super) fn quoted(inner: Hir) -> Hir {
    Hir::concat(vec![text("\""), inner, text("\"")])
}

/// A string as it is written between its quotes.
pub(super) fn inside_quotes(string: &str) -> String {
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
    if min <= 1 && max == MAX_INTEGER {
        all.extend((min == 0).then(|| text("0")));
        all.push(Hir::concat(vec![
            class(&[('1', '9')]),
            digits(0, INTEGER_DIGITS - 1),
        ]));
        return Hir::alternation(all);
    }
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
