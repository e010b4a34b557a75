//! The textbook form (alibi).
