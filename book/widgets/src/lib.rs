//! The live figures of the book: functions that take numbers and return numbers or pictures, for a page to call.
//!
//! Nothing is computed here that a crate can compute: a widget shows the very functions that the chapter is about, in the
//! reader's browser. `widget.js` puts the controls into the page; `static/` has the pictures for readers without it.
//!
//! JavaScript has one kind of number, so whole numbers come in as `f64` and are checked here.

mod error;
pub mod rope;
mod svg;

pub use error::WidgetError;

use wasm_bindgen::prelude::{JsError, wasm_bindgen};

/// For JavaScript: [`rope::score`].
///
/// # Errors
///
/// As [`rope::Settings::new`] and [`rope::score`], with the message for the reader.
#[wasm_bindgen(js_name = ropeScore)]
pub fn rope_score(position: f64, base: f64, pairing: &str, scaling: &str) -> Result<f64, JsError> {
    let settings = rope::Settings::new(position, base, pairing, scaling)?;
    Ok(rope::score(&settings)?)
}

/// For JavaScript: [`rope::planes_svg`].
///
/// # Errors
///
/// As [`rope::Settings::new`] and [`rope::planes_svg`], with the message for the reader.
#[wasm_bindgen(js_name = ropePlanes)]
pub fn rope_planes(
    position: f64,
    base: f64,
    pairing: &str,
    scaling: &str,
) -> Result<String, JsError> {
    let settings = rope::Settings::new(position, base, pairing, scaling)?;
    Ok(rope::planes_svg(&settings)?)
}

/// For JavaScript: [`rope::decay_svg`].
///
/// # Errors
///
/// As [`rope::Settings::new`] and [`rope::decay_svg`], with the message for the reader.
#[wasm_bindgen(js_name = ropeDecay)]
pub fn rope_decay(
    position: f64,
    base: f64,
    pairing: &str,
    scaling: &str,
) -> Result<String, JsError> {
    let settings = rope::Settings::new(position, base, pairing, scaling)?;
    Ok(rope::decay_svg(&settings)?)
}

/// For JavaScript: the choices of pairing.
#[wasm_bindgen(js_name = ropePairings)]
#[must_use]
pub fn rope_pairings() -> Vec<String> {
    rope::PAIRINGS.iter().map(ToString::to_string).collect()
}

/// For JavaScript: the choices of scaling.
#[wasm_bindgen(js_name = ropeScalings)]
#[must_use]
pub fn rope_scalings() -> Vec<String> {
    rope::SCALINGS.iter().map(ToString::to_string).collect()
}
