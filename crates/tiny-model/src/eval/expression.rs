//! Reads the equations in a text and evaluates them, in exact fractions.

/// Deeper brackets are refused.
const MAX_DEPTH: usize = 32;

/// Expressions joined by equals signs; or a single one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    sides: Vec<Expression>, // at least one
}

/// A term with at most one unknown, `x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    Number(i64),
    Unknown,
    Negative(Box<Expression>),
    Binary(char, Box<Expression>, Box<Expression>),
}

/// A fraction in lowest terms; the denominator is positive.
type Fraction = (i128, i128);

/// All chains of a text, in order; `None` if something in it looks like one but is malformed.
pub(crate) fn chains(text: &str) -> Option<Vec<Chain>> {
    runs(text)
        .iter()
        .map(|run| {
            Parser {
                rest: run,
                depth: 0,
            }
            .chain()
        })
        .collect()
}

/// The parts of a text that consist of digits, operators, brackets and `x` as a word of its own.
fn runs(text: &str) -> Vec<Vec<char>> {
    let characters: Vec<char> = text.chars().collect();
    let letter = |at: Option<usize>| {
        at.and_then(|at| characters.get(at))
            .is_some_and(|c| c.is_ascii_alphabetic())
    };
    let mut runs = vec![];
    let mut run = vec![];
    for (at, &c) in characters.iter().enumerate() {
        let unknown = c == 'x' && !letter(at.checked_sub(1)) && !letter(Some(at + 1));
        if unknown || c.is_ascii_digit() || "+-*/×÷()= ".contains(c) {
            run.push(c);
        } else if !run.is_empty() {
            runs.push(std::mem::take(&mut run));
        }
    }
    runs.push(run);
    // Hyphens and brackets of plain words are no mathematics; an equals sign always is.
    runs.retain(|run| run.iter().any(|c| c.is_ascii_digit() || "x=".contains(*c)));
    runs
}

struct Parser<'a> {
    rest: &'a [char],
    depth: usize,
}

impl Parser<'_> {
    fn chain(mut self) -> Option<Chain> {
        let mut sides = vec![self.sum()?];
        while self.take(&['=']).is_some() {
            sides.push(self.sum()?);
        }
        self.peek().is_none().then_some(Chain { sides })
    }

    fn sum(&mut self) -> Option<Expression> {
        let mut left = if self.take(&['-']).is_some() {
            Expression::Negative(Box::new(self.product()?))
        } else {
            self.product()?
        };
        while let Some(operator) = self.take(&['+', '-']) {
            left = Expression::Binary(operator, Box::new(left), Box::new(self.product()?));
        }
        Some(left)
    }

    fn product(&mut self) -> Option<Expression> {
        let mut left = self.factor()?;
        loop {
            let operator = match self.peek() {
                Some('*' | '×') => '*',
                Some('/' | '÷') => '/',
                // `2x` and `4(22-x)`.
                Some('x' | '(') => {
                    left = Expression::Binary('*', Box::new(left), Box::new(self.factor()?));
                    continue;
                }
                _ => return Some(left),
            };
            self.take(&['*', '×', '/', '÷'])?;
            left = Expression::Binary(operator, Box::new(left), Box::new(self.factor()?));
        }
    }

    fn factor(&mut self) -> Option<Expression> {
        if self.take(&['x']).is_some() {
            return Some(Expression::Unknown);
        }
        if self.take(&['(']).is_some() {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return None;
            }
            let inner = self.sum()?;
            self.depth -= 1;
            self.take(&[')'])?;
            return Some(inner);
        }
        self.skip_spaces();
        let n = self.rest.iter().take_while(|c| c.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(n);
        self.rest = rest;
        let padded = n > 1 && digits[0] == '0';
        let digits: String = digits.iter().collect();
        if padded || n > 9 {
            None
        } else {
            digits.parse().ok().map(Expression::Number)
        }
    }

    fn skip_spaces(&mut self) {
        while let [' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_spaces();
        self.rest.first().copied()
    }

    fn take(&mut self, wanted: &[char]) -> Option<char> {
        let c = self.peek().filter(|c| wanted.contains(c))?;
        self.rest = &self.rest[1..];
        Some(c)
    }
}

impl Expression {
    /// The value for this `x`, if it is a whole number.
    pub(crate) fn at(&self, x: i64) -> Option<i64> {
        let (numerator, denominator) = self.fraction(x)?;
        if denominator == 1 {
            i64::try_from(numerator).ok()
        } else {
            None
        }
    }

    fn fraction(&self, x: i64) -> Option<Fraction> {
        match self {
            Self::Number(number) => Some((i128::from(*number), 1)),
            Self::Unknown => Some((i128::from(x), 1)),
            Self::Negative(inner) => inner.fraction(x).map(|(n, d)| (-n, d)),
            Self::Binary(operator, left, right) => {
                let (a, b) = left.fraction(x)?;
                let (c, d) = right.fraction(x)?;
                let denominator = b.checked_mul(d);
                match operator {
                    '+' => lowest(
                        a.checked_mul(d)?.checked_add(c.checked_mul(b)?),
                        denominator,
                    ),
                    '-' => lowest(
                        a.checked_mul(d)?.checked_sub(c.checked_mul(b)?),
                        denominator,
                    ),
                    '*' => lowest(a.checked_mul(c), denominator),
                    _ => lowest(a.checked_mul(d), b.checked_mul(c)),
                }
            }
        }
    }

    fn any(&self, test: &impl Fn(&Self) -> bool) -> bool {
        test(self)
            || match self {
                Self::Number(_) | Self::Unknown => false,
                Self::Negative(inner) => inner.any(test),
                Self::Binary(_, left, right) => left.any(test) || right.any(test),
            }
    }
}

/// The fraction in lowest terms; `None` if it overflowed or the denominator is zero.
fn lowest(numerator: Option<i128>, denominator: Option<i128>) -> Option<Fraction> {
    let (numerator, denominator) = (numerator?, denominator?);
    let (mut a, mut b) = (numerator.checked_abs()?, denominator.checked_abs()?);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let divisor = if denominator < 0 { -a } else { a };
    (denominator != 0).then(|| (numerator / divisor, denominator / divisor))
}

impl Chain {
    /// The expressions between the equals signs.
    pub(crate) fn sides(&self) -> &[Expression] {
        &self.sides
    }

    /// The value of all sides for this `x`, if they agree and it is a whole number.
    pub(crate) fn value_at(&self, x: i64) -> Option<i64> {
        let value = self.sides[0].at(x)?;
        self.sides[1..]
            .iter()
            .all(|side| side.at(x) == Some(value))
            .then_some(value)
    }

    /// Whether `x` occurs.
    pub(crate) fn has_unknown(&self) -> bool {
        self.has(&|part| *part == Expression::Unknown)
    }

    /// Whether this number is written in the chain.
    pub(crate) fn has_number(&self, number: i64) -> bool {
        self.has(&|part| *part == Expression::Number(number))
    }

    /// Whether the first side is `x` alone.
    pub(crate) fn begins_with_unknown(&self) -> bool {
        self.sides[0] == Expression::Unknown
    }

    /// Whether the last side is this number alone.
    pub(crate) fn ends_with_number(&self, number: i64) -> bool {
        self.sides.last() == Some(&Expression::Number(number))
    }

    fn has(&self, test: &impl Fn(&Expression) -> bool) -> bool {
        self.sides.iter().any(|side| side.any(test))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, x: i64) -> Option<i64> {
        let found = chains(text)?;
        assert_eq!(found.len(), 1, "{text}");
        found[0].value_at(x)
    }

    #[test]
    fn usual_precedence_holds() {
        assert_eq!(value("2+3*4", 0), Some(14));
        assert_eq!(value("20-8-4", 0), Some(8));
        assert_eq!(value("48/2/3", 0), Some(8));
        assert_eq!(value("2x + 4(22 - x) = 48", 20), Some(48));
        assert_eq!(value("-2x=-40", 20), Some(-40));
        assert_eq!(value("7×8÷2", 0), Some(28));
        assert_eq!(value("(1/2)*4", 0), Some(2));
    }

    #[test]
    fn unequal_sides_and_odd_values_have_no_value() {
        assert_eq!(value("2+2=5", 0), None);
        assert_eq!(value("1/2", 0), None);
        assert_eq!(value("1/0", 0), None);
        assert_eq!(
            value("999999999*999999999*999999999*999999999*999999999", 0),
            None
        );
    }

    #[test]
    fn malformed_terms_are_refused() {
        for text in [
            "2+",
            "=2",
            "兔=2",
            "2=",
            "(2",
            "2)",
            "2 3",
            "02",
            "1*/2",
            "1234567890",
        ] {
            assert_eq!(chains(text), None, "{text}");
        }
        assert_eq!(chains(&"(".repeat(100_000)), Some(vec![]));
        assert_eq!(chains(&("(".repeat(100_000) + "1")), None);
    }

    #[test]
    fn words_are_no_mathematics() {
        for text in ["", "next - six (max)", "llm-blocks", "你好"] {
            assert_eq!(chains(text), Some(vec![]), "{text}");
        }
        assert_eq!(
            chains("x chickens, 22-x rabbits:").map(|found| found.len()),
            Some(2)
        );
    }
}
