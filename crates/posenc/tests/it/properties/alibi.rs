//! Laws, over the whole documented domain (alibi).
