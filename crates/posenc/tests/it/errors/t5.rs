//! One test for each error variant (t5).
