//! Known answers, with their origin.

mod alibi;
mod kerple;
mod learned;
mod positions;
mod rope;
mod sinusoidal;
mod t5;
