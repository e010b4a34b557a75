//! How the sixteen values of NF4 come from the normal distribution.

use llm_quant::{QuantError, density, nf4, normal};

fn main() -> Result<(), QuantError> {
    let scale = normal::quantile(nf4::OFFSET)?;
    println!("outermost quantile: {scale:.4}");
    println!("code    value  share of the weights");
    // ANCHOR: cells
    let cells = density::cells(&nf4::code(), scale)?;
    for (code, cell) in cells.iter().enumerate() {
        println!(
            "{code:4}  {:7.4}  {:18.1} %",
            cell.value,
            100.0 * cell.share
        );
    }
    // ANCHOR_END: cells
    let inner = &cells[1..15];
    assert!(
        inner
            .iter()
            .all(|cell| (cell.share * 16.0 - 1.0).abs() < 0.2)
    );
    Ok(())
}
