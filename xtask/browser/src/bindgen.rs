//! From a built `.wasm` to a module that a page can import.

use std::path::Path;

use anyhow::{Context as _, Result};
use wasm_bindgen_cli_support::Bindgen;

/// Writes `NAME.js` and `NAME_bg.wasm` into `out` for the file `NAME.wasm` that cargo built.
///
/// The library has the version of `wasm-bindgen` in the lock file, so there is no program to install that could have another.
/// Returns the files with their sizes in bytes.
///
/// # Errors
///
/// If the file is not WebAssembly, was built with another version of `wasm-bindgen`, or `out` cannot be written.
pub fn bindgen(wasm: &Path, out: &Path) -> Result<Vec<(String, u64)>> {
    let name = wasm
        .file_stem()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} must have a name in UTF-8", wasm.display()))?;
    Bindgen::new()
        .input_path(wasm)
        .web(true)?
        .typescript(false)
        .omit_default_module_path(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(out)
        .with_context(|| format!("cannot make a module of {}", wasm.display()))?;
    [format!("{name}.js"), format!("{name}_bg.wasm")]
        .into_iter()
        .map(|file| {
            let bytes = std::fs::metadata(out.join(&file))
                .with_context(|| format!("{file} was not written"))?
                .len();
            Ok((file, bytes))
        })
        .collect()
}
