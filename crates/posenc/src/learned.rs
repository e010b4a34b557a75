//! Learned absolute positions: a row of a trained table for each position, and where counting starts.
