//! Laws, over the whole documented domain (positions).
