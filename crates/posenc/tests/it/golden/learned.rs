//! Known answers, with their origin (learned).
