//! Laws, over the whole documented domain (learned).
