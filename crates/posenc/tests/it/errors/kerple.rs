//! One test for each error variant (kerple).
