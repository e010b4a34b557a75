//! `llm-blocks plot`: the figures of the book as SVG or PNG.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use llm_blocks::decoder::checkpoint;
use llm_blocks_plots::{FIGURES, Figure, FigureEntry, PlotError, Theme, find};
use serde_json::{Value, json};

use crate::args::Common;
use crate::failure::Failure;
use crate::output;

/// Arguments of the verb.
#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// The figure
    #[arg(
        value_name = "NAME",
        value_parser = PossibleValuesParser::new(FIGURES.iter().map(|entry| entry.name)),
        required_unless_present = "list"
    )]
    name: Option<String>,
    /// List the figures
    #[arg(long, conflicts_with_all = ["name", "out", "format", "width", "dark"])]
    list: bool,
    /// Write to FILE; without it to standard output if that is no terminal, else an SVG goes to NAME.svg
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The form; without it what the ending of FILE says, else SVG
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Width of a PNG in pixels, twice that of the drawing unless set
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    width: Option<u32>,
    /// A PNG with light lines on a dark background
    #[arg(long)]
    dark: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text that any browser shows, light or dark as its reader likes
    Svg,
    /// Pixels
    Png,
}

impl Format {
    /// What the ending of a file name says.
    fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        Self::from_str(ending, true).ok()
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Png => "png",
        }
    }
}

/// Where the picture goes.
enum Target {
    File(PathBuf),
    Stdout,
}

/// Runs the verb.
pub(crate) fn run(args: &PlotArgs, common: &Common) -> Result<(), Failure> {
    // Without a name, the list was asked for.
    let Some(entry) = args.name.as_deref().and_then(find) else {
        return list(common);
    };
    let format = args.format();
    if format == Format::Svg && (args.width.is_some() || args.dark) {
        let message = "--width and --dark are for PNG";
        return Err(Failure::usage(message).with_hint(
            "an SVG fits any width and follows the colors of its reader; add --format png for pixels",
        ));
    }
    let target = args.target(entry, format, common.json)?;
    let figure = (entry.draw)()?;
    let bytes = args.render(&figure, format)?;
    match target {
        Target::Stdout if common.json => {
            let mut object = about(entry);
            object["format"] = json!(format.name());
            object["svg"] = json!(String::from_utf8_lossy(&bytes));
            output::json(&object)
        }
        Target::Stdout => Ok(output::bytes(&bytes)?),
        Target::File(path) => {
            write(&path, &bytes)?;
            if common.json {
                let mut object = about(entry);
                object["format"] = json!(format.name());
                object["path"] = json!(path.to_string_lossy());
                object["bytes"] = json!(bytes.len());
                return output::json(&object);
            }
            output::remark(&format!("wrote {}", path.display()), common.quiet);
            Ok(())
        }
    }
}

impl PlotArgs {
    fn format(&self) -> Format {
        self.format
            .or_else(|| Format::of(self.out.as_deref()?))
            .unwrap_or(Format::Svg)
    }

    fn target(&self, entry: &FigureEntry, format: Format, json: bool) -> Result<Target, Failure> {
        if let Some(path) = &self.out {
            return Ok(Target::File(path.clone()));
        }
        match format {
            Format::Png if json => {
                Err(Failure::usage("a PNG does not fit into JSON").with_hint("add --out FILE"))
            }
            Format::Png if std::io::stdout().is_terminal() => {
                Err(Failure::usage("a PNG is nothing for a terminal")
                    .with_hint("add --out FILE, or send it into a pipe"))
            }
            Format::Svg if !json && std::io::stdout().is_terminal() => {
                Ok(Target::File(format!("{}.svg", entry.name).into()))
            }
            _ => Ok(Target::Stdout),
        }
    }

    fn render(&self, figure: &Figure, format: Format) -> Result<Vec<u8>, Failure> {
        match format {
            Format::Svg => Ok(figure.svg().into_bytes()),
            Format::Png => {
                let theme = if self.dark { Theme::Dark } else { Theme::Light };
                let width = self.width.unwrap_or(2 * figure.size().0);
                Ok(figure.to_png(width, theme)?)
            }
        }
    }
}

fn list(common: &Common) -> Result<(), Failure> {
    if common.json {
        let figures: Vec<Value> = FIGURES.iter().map(about).collect();
        return output::json(&json!({ "figures": figures }));
    }
    for entry in &FIGURES {
        output::line(&format!("{:<20}  {}", entry.name, entry.title))?;
    }
    Ok(())
}

fn about(entry: &FigureEntry) -> Value {
    json!({ "name": entry.name, "title": entry.title, "alt": entry.alt })
}

/// Writes the file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // Renaming would put a file in the place of a link, a pipe or a device.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let named = |message: &dyn std::fmt::Display| format!("{}: {message}", path.display());
    match fs::metadata(&real) {
        Ok(found) if found.is_dir() => Err(named(&"it is a folder")),
        Ok(found) if !found.is_file() => fs::write(&real, bytes).map_err(|error| named(&error)),
        // This error has the path.
        _ => checkpoint::write_whole(&real, bytes).map_err(|error| error.to_string()),
    }
    .map_err(|message| Failure::failed(format!("cannot write {message}")))
}

impl From<PlotError> for Failure {
    fn from(error: PlotError) -> Self {
        match error {
            PlotError::Width { .. } => Self::usage(format!("--{error}"))
                .with_hint("leave --width out for twice the width of the drawing"),
            error => Self::failed(error.to_string()),
        }
    }
}
