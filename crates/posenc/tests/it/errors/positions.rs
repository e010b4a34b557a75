//! One test for each error variant (positions).
