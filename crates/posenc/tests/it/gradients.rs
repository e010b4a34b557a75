//! Analytic gradients against finite differences of the reference.

mod alibi;
mod kerple;
mod learned;
mod rope;
mod t5;
