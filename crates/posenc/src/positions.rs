//! Positions as numbers: what they become in half precision, and why they are integers here.
