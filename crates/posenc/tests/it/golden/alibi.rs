//! Known answers, with their origin (alibi).
