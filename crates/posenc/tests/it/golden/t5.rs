//! Known answers, with their origin (t5).
