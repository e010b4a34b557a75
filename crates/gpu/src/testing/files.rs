//! Whether every shader file is one that is checked.

use std::io;
use std::path::{Path, PathBuf};

use crate::Kernel;

/// The shader files below `src` of a crate that are neither a kernel of the list nor a snippet of one: nobody checks them.
///
/// `root` is the folder of the crate.
///
/// # Errors
///
/// What the system says where a folder or file cannot be read.
///
/// # Example
///
/// ```
/// use llm_gpu::testing::unlisted_files;
///
/// // The only shader files of this crate are snippets, and there is no kernel that uses them.
/// let files = unlisted_files(&[], env!("CARGO_MANIFEST_DIR"))?;
/// assert!(files.iter().any(|file| file.ends_with("snippets/linear.wgsl")));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn unlisted_files(kernels: &[&Kernel], root: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
    let (mut folders, mut unlisted) = (vec![root.as_ref().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "wgsl")
            {
                let text = std::fs::read_to_string(&path)?;
                let mut snippets = kernels.iter().flat_map(|kernel| kernel.snippets);
                let is_kernel = kernels.iter().any(|kernel| kernel.source == text);
                if !is_kernel && !snippets.any(|snippet| snippet.source == text) {
                    unlisted.push(path);
                }
            }
        }
    }
    unlisted.sort();
    Ok(unlisted)
}
