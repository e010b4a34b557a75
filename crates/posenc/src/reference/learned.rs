//! The textbook form (learned).
