//! One test for each error variant.

mod alibi;
mod kerple;
mod learned;
mod positions;
mod rope;
mod sinusoidal;
mod sizes;
mod t5;
