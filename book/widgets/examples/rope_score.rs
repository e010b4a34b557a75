//! Prints the number of the widget for `POSITION BASE PAIRING SCALING` in each line of the input: what the page must show.

use anyhow::{Context as _, Result};
use llm_blocks_widgets::rope::{Settings, score};

fn main() -> Result<()> {
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [position, base, pairing, scaling] = words[..] else {
            anyhow::bail!("a line has 4 words, got {line:?}");
        };
        let position = position.parse().context("position")?;
        let base = base.parse().context("base")?;
        println!(
            "{:e}",
            score(&Settings::new(position, base, pairing, scaling)?)?
        );
    }
    Ok(())
}
