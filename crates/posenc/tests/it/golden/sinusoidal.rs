//! Known answers, with their origin (sinusoidal).
