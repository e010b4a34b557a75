//! T5's relative bias: a learned number for each bucket of distances and each head.
