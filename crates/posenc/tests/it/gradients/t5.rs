//! Analytic gradients against finite differences of the reference (t5).
