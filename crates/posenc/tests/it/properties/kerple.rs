//! Laws, over the whole documented domain (kerple).
