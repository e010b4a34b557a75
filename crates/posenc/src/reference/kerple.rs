//! The textbook form (kerple).
