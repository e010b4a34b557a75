//! The textbook form (positions).
