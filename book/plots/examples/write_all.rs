//! Writes every figure as SVG into a folder: `cargo run -p llm-blocks-plots --example write_all -- FOLDER`.
//!
//! With a width as second argument also PNG pictures, light and dark, to look at.

use std::error::Error;
use std::path::PathBuf;

use llm_blocks_plots::FIGURES;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let folder = PathBuf::from(args.next().ok_or("say the folder to write to")?);
    std::fs::create_dir_all(&folder)?;
    for entry in &FIGURES {
        let figure = (entry.draw)()?;
        std::fs::write(folder.join(format!("{}.svg", entry.name)), figure.svg())?;
    }
    #[cfg(feature = "png")]
    if let Some(width) = args.next() {
        use llm_blocks_plots::Theme;
        let width = width.to_string_lossy().parse()?;
        for entry in &FIGURES {
            let figure = (entry.draw)()?;
            for (theme, word) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
                let name = format!("{}.{word}.png", entry.name);
                std::fs::write(folder.join(name), figure.to_png(width, theme)?)?;
            }
        }
    }
    Ok(())
}
