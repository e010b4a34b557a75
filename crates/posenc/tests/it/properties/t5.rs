//! Laws, over the whole documented domain (t5).
