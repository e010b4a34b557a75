//! KERPLE: a learned kernel of the distance as a bias on attention scores.
