//! One test for each error variant.

mod alibi;
mod kerple;
mod learned;
#[cfg(target_os = "linux")]
mod limited;
mod positions;
mod rope;
mod sinusoidal;
mod sizes;
mod t5;
