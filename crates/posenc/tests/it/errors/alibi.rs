//! One test for each error variant (alibi).
