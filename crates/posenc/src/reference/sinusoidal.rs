//! The textbook form (sinusoidal).
