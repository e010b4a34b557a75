//! The exam: a model answers the held-out problems.

use core::ops::ControlFlow;

use llm_chat_format::Message;
use llm_numerics::threads;

use crate::data::Language;
use crate::eval::{Judgement, Problem, judge, problems};
use crate::{GenerateOptions, TinyModel, TinyModelError};

/// A problem, the model's answer, and the judge's word.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answered {
    /// The problem.
    pub problem: Problem,
    /// What the model wrote.
    pub answer: String,
    /// What the judge says.
    pub judgement: Judgement,
}

/// Lets the model answer the first `n` held-out problems of a language, greedily.
///
/// `on_answer` is called after each, from any thread, in any order. The result is in the
/// order of the problems.
///
/// # Errors
///
/// - [`TinyModelError::TooManyProblems`] if there are not so many.
/// - [`TinyModelError::Decoder`] if the model fails.
pub fn take(
    model: &TinyModel,
    language: Language,
    n: usize,
    on_answer: impl Fn(&Answered) + Sync,
) -> Result<Vec<Answered>, TinyModelError> {
    threads::map(problems(language, n)?, |problem| {
        let question = [Message::user(problem.question.clone())];
        let options = GenerateOptions::greedy();
        let reply = model.chat(&question, &options, |_| ControlFlow::Continue(()))?;
        let answered = Answered {
            judgement: judge(&problem, &reply.text),
            answer: reply.text,
            problem,
        };
        on_answer(&answered);
        Ok(answered)
    })
    .into_iter()
    .collect()
}
