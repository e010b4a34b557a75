//! Known answers, with their origin (positions).
