//! Writes `static/`: the pictures for readers without JavaScript. Run it after a change of a drawing.

use anyhow::Result;
use llm_blocks_widgets::rope::{Settings, decay_svg, planes_svg};

fn main() -> Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("static");
    let settings = Settings::new(12.0, 10_000.0, "half-split", "none")?;
    std::fs::write(folder.join("rope-planes.svg"), planes_svg(&settings)?)?;
    std::fs::write(folder.join("rope-decay.svg"), decay_svg(&settings)?)?;
    Ok(())
}
