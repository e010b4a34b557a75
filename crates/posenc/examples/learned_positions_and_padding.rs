//! Shows which row of a learned table each token gets, padded and not, by the convention of the model.

use llm_posenc::learned::{self, PositionConvention};
use ndarray::{Array2, array};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two sequences of a batch; the second is two tokens shorter and padded on the left.
    let mask = array![[true, true, true, true], [false, false, true, true]]; // [batch, seq]
    let table = Array2::from_shape_fn((8, 2), |(position, _)| position as f64); // [n_positions, d_model]
    for (models, convention) in [
        ("GPT-2, BERT", PositionConvention::Index { offset: 0 }),
        ("generate", PositionConvention::TokenCount),
        ("OPT", PositionConvention::Opt { offset: 2 }),
        ("RoBERTa", PositionConvention::Roberta { padding_idx: 1 }),
    ] {
        let positions = learned::positions(&mask, 0, convention)?;
        let out = learned::embed(&table, &positions)?; // [batch, seq, d_model]
        let (first, second) = (positions.row(0), positions.row(1));
        println!("{models:12} {first} {second}");
        assert_eq!(out[[1, 3, 0]], second[3] as f64);
    }
    println!("Where padding counts, the tokens of the second sequence stand two places too far.");
    Ok(())
}
