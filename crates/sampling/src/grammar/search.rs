//! Patterns that are searched for in a string, as expressions for the whole string in its spelling.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::json_text::{any_character, inside_quotes, n_parts, quoted, repeat, spelled, text};
use super::{GrammarError, MAX_PARTS, ecma};

/// A string in which a pattern matches somewhere.
pub(super) fn pattern_string(pattern: &str) -> Result<Hir, GrammarError> {
    Ok(quoted(search(&ecma::parse(pattern)?)?))
}

/// Strings, without their quotes, in which an expression matches somewhere.
///
/// Anchors may be anywhere in alternatives: what stands around these is written out with each of them.
fn search(hir: &Hir) -> Result<Hir, GrammarError> {
    let mut open = vec![(0, parts(hir, Vec::new()))];
    let (mut all, mut n_copied) = (Vec::new(), 0);
    while let Some((done, parts)) = open.pop() {
        let place = (done..parts.len()).find(|&i| has_anchors(&parts[i]));
        let alternatives = place.map(|place| (place, parts[place].kind()));
        let Some((place, HirKind::Alternation(alternatives))) = alternatives else {
            all.push(whole(&parts)?);
            continue;
        };
        for part in parts[..place].iter().chain(&parts[place + 1..]) {
            n_copied += n_parts(part) * alternatives.len();
        }
        n_copied += alternatives.iter().map(n_parts).sum::<usize>();
        if n_copied > MAX_PARTS {
            let what = "parts of a pattern with anchors, after it is written out";
            return Err(GrammarError::too_large(what, MAX_PARTS));
        }
        for alternative in alternatives {
            let mut one = self::parts(alternative, parts[..place].to_vec());
            one.extend_from_slice(&parts[place + 1..]);
            open.push((place, one));
        }
    }
    Ok(Hir::alternation(all))
}

/// True for alternatives of which some have anchors.
fn has_anchors(hir: &Hir) -> bool {
    let is_alternation = matches!(hir.kind(), HirKind::Alternation(_));
    is_alternation && !hir.properties().look_set().is_empty()
}

/// Adds the parts that follow one another, those in groups too.
fn parts(hir: &Hir, mut all: Vec<Hir>) -> Vec<Hir> {
    match hir.kind() {
        HirKind::Concat(subs) => subs.iter().fold(all, |all, sub| parts(sub, all)),
        HirKind::Capture(capture) => parts(&capture.sub, all),
        _ => {
            all.push(hir.clone());
            all
        }
    }
}

/// Strings in which these parts are found one after the other.
fn whole(mut parts: &[Hir]) -> Result<Hir, GrammarError> {
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
                "an anchor must be ^ at the beginning or $ at the end of an alternative, not repeated",
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
