//! From the text of a pattern to its expression.

use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::{Hir, translate::Translator};

use super::{GrammarError, MAX_RANGES, check_len};

/// Ranges of characters in a class of Unicode, about.
const UNICODE_RANGES: usize = 1024;

/// The expression of a pattern in the syntax of the crate `regex`.
pub(super) fn parse(pattern: &str) -> Result<Hir, GrammarError> {
    translate(pattern, &parse_tree(pattern)?)
}

/// The syntax tree of a pattern, whose expression is not too large.
pub(super) fn parse_tree(pattern: &str) -> Result<Ast, GrammarError> {
    check_len(pattern)?;
    let tree = ast::parse::Parser::new().parse(pattern);
    let tree = tree.map_err(|e| refused(e.span(), &e.kind()))?;
    ast::visit(&tree, Count(0))?;
    Ok(tree)
}

/// The expression of a syntax tree.
pub(super) fn translate(pattern: &str, tree: &Ast) -> Result<Hir, GrammarError> {
    let hir = Translator::new().translate(pattern, tree);
    hir.map_err(|e| refused(e.span(), &e.kind()))
}

fn refused(span: &ast::Span, message: &impl ToString) -> GrammarError {
    GrammarError::Regex {
        offset: span.start.offset,
        message: message.to_string(),
    }
}

/// Ranges of characters so far.
struct Count(usize);

impl Count {
    fn add(&mut self, n_ranges: usize) -> Result<(), GrammarError> {
        self.0 = self.0.saturating_add(n_ranges);
        let fits = self.0 <= MAX_RANGES;
        fits.then_some(())
            .ok_or_else(|| GrammarError::too_large("ranges of characters", MAX_RANGES))
    }
}

impl ast::Visitor for Count {
    type Output = ();
    type Err = GrammarError;

    fn finish(self) -> Result<(), GrammarError> {
        Ok(())
    }

    fn visit_pre(&mut self, tree: &Ast) -> Result<(), GrammarError> {
        self.add(match tree {
            Ast::ClassUnicode(_) | Ast::ClassPerl(_) => UNICODE_RANGES,
            _ => 1,
        })
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), GrammarError> {
        self.add(match item {
            ast::ClassSetItem::Unicode(_) | ast::ClassSetItem::Perl(_) => UNICODE_RANGES,
            _ => 1,
        })
    }
}
