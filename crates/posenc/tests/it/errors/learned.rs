//! One test for each error variant (learned).
