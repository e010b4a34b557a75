//! Laws, over the whole documented domain.

mod alibi;
mod kerple;
mod learned;
mod positions;
mod rope;
mod sinusoidal;
mod t5;
