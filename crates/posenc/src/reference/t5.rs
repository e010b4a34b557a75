//! The textbook form (t5).
