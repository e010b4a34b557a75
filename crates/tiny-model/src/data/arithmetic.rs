//! Small arithmetic: single equations and questions about them.

use super::draw::Draws;
use super::puzzle::Language;
use super::split::{MAX_HEADS, is_kept_out};

/// One sum, difference, product or exact quotient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Equation {
    a: u32,
    operator: char,
    b: u32,
}

/// Where the operands of an equation come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A subtraction as the solutions of the problems need it.
    Step,
    /// Any subtraction up to 400.
    Subtraction,
    /// A sum up to 198.
    Addition,
    /// `2*n`.
    Double,
    /// `4*n`.
    Quadruple,
    /// The multiplication table up to 12.
    Product,
    /// `n/2`.
    Half,
    /// `n/4`.
    Quarter,
}

const SOURCES: &[(u32, Source)] = &[
    (46, Source::Step),
    (6, Source::Subtraction),
    (9, Source::Addition),
    (13, Source::Double),
    (3, Source::Quadruple),
    (5, Source::Product),
    (15, Source::Half),
    (3, Source::Quarter),
];

impl Equation {
    /// An equation whose two operands are not a problem that is kept out of training.
    pub(crate) fn draw(draws: &mut Draws) -> Self {
        loop {
            let equation = Self::draw_any(draws);
            if !is_kept_out(equation.a, equation.b) {
                return equation;
            }
        }
    }

    fn draw_any(draws: &mut Draws) -> Self {
        let (a, operator, b) = match draws.pick_weighted(SOURCES) {
            Source::Step => {
                let heads = draws.between(1, MAX_HEADS);
                let rabbits = draws.below(heads + 1);
                let chickens = heads - rabbits;
                match draws.below(4) {
                    0 | 1 => (2 * heads, '-', heads + rabbits),
                    2 => (heads, '-', chickens),
                    _ => (chickens.max(rabbits), '-', chickens.min(rabbits)),
                }
            }
            Source::Subtraction => {
                let a = draws.between(0, 400);
                (a, '-', draws.between(0, a))
            }
            Source::Addition => (draws.between(0, 99), '+', draws.between(0, 99)),
            Source::Double => (2, '*', draws.between(0, 99)),
            Source::Quadruple => (4, '*', draws.between(0, 99)),
            Source::Product => (draws.between(0, 12), '*', draws.between(0, 12)),
            Source::Half => (2 * draws.between(0, 200), '/', 2),
            Source::Quarter => (4 * draws.between(0, 100), '/', 4),
        };
        Self { a, operator, b }
    }

    const fn value(self) -> u32 {
        match self.operator {
            '+' => self.a + self.b,
            '-' => self.a - self.b,
            '*' => self.a * self.b,
            _ => self.a / self.b,
        }
    }

    /// The equation with its result: `44-24=20`.
    pub(crate) fn solved(self) -> String {
        let Self { a, operator, b } = self;
        format!("{a}{operator}{b}={}", self.value())
    }

    /// A question for the result, its phrasing drawn.
    pub(crate) fn question(self, language: Language, draws: &mut Draws) -> String {
        let Self { a, operator, b } = self;
        let (symbol, chinese, english) = match operator {
            '+' => ("+", "加", "plus"),
            '-' => ("-", "减", "minus"),
            '*' => ("×", "乘", "times"),
            _ => ("÷", "除以", "divided by"),
        };
        let expression = match draws.below(6) {
            0 => format!("{a}{symbol}{b}"),
            1 => format!("{a} {operator} {b}"),
            2 => match language {
                Language::Chinese => format!("{a}{chinese}{b}"),
                Language::English => format!("{a} {english} {b}"),
            },
            _ => format!("{a}{operator}{b}"),
        };
        let template = match language {
            Language::Chinese => draws.pick(&[
                "{}=?",
                "{}=",
                "{}等于多少？",
                "{}等于几？",
                "{}是多少？",
                "计算{}",
                "请计算{}。",
                "请问{}等于多少？",
            ]),
            Language::English => draws.pick(&[
                "{}=?",
                "{}",
                "What is {}?",
                "what is {}?",
                "How much is {}?",
                "Calculate {}.",
                "Compute {}.",
            ]),
        };
        template.replace("{}", &expression)
    }
}
