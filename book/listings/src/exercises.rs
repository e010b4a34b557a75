//! One module for each exercise, named after what it asks for.

pub mod absmax_block;
pub mod alibi_slopes;
pub mod banned;
pub mod beam_step;
pub mod codes;
pub mod computed_keys;
pub mod count_positions;
pub mod decibels;
pub mod held_back;
pub mod held_positions;
pub mod integer_row;
pub mod new_pages;
pub mod normal_float;
pub mod nucleus;
pub mod online_lse;
pub mod packed_row;
pub mod pass_length;
pub mod position_ids;
pub mod race;
pub mod rotate_pair;
pub mod scale_bits;
pub mod shift_matrix;
pub mod stretch;
pub mod turning_batch;
