//! One test for each error variant (sinusoidal).
