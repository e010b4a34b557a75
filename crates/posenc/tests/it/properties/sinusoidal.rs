//! Laws, over the whole documented domain (sinusoidal).
