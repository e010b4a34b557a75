//! Known answers, with their origin (kerple).
