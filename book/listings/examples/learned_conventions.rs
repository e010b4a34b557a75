//! Which row of a learned table each token gets: four conventions, one padded sentence.

use std::error::Error;

use llm_posenc::learned::{self, PositionConvention};
use ndarray::array;

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: conventions
    let mask = array![[false, false, true, true, true]]; // two tokens of padding on the left
    let conventions = [
        PositionConvention::Index { offset: 0 },
        PositionConvention::TokenCount,
        PositionConvention::Opt { offset: 2 },
        PositionConvention::Roberta { padding_idx: 1 },
    ];
    for convention in conventions {
        let rows = learned::positions(&mask, 0, convention)?; // [batch, seq]
        println!("{convention:?}: {:?}", rows.as_slice().unwrap_or_default());
    }
    // ANCHOR_END: conventions
    Ok(())
}
