//! Whether tests need a device, and which one they get.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock};

use crate::sync::lock;
use crate::{Gpu, GpuError, GpuOptions, Mask, Needs};

/// What `LLM_GPU` says about tests that need a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `off`: they are skipped.
    Off,
    /// `auto`, or nothing: they run where there is a device, and say loudly that they were skipped where there is none.
    Auto,
    /// `require`: without a device they fail.
    Require,
}

impl Policy {
    /// Reads the value of `LLM_GPU`.
    ///
    /// # Errors
    ///
    /// A message that names the three words, if it is another one.
    pub fn parse(value: Option<&str>) -> Result<Self, String> {
        match value {
            Some("off") => Ok(Self::Off),
            None | Some("" | "auto") => Ok(Self::Auto),
            Some("require") => Ok(Self::Require),
            Some(other) => Err(format!(
                "LLM_GPU must be off, auto or require, got `{other}`"
            )),
        }
    }
}

/// Reads the value of `LLM_GPU_MASK`: a list of `subgroups`, `f16`, `timestamps` and `limits` with commas between them. What it names is not used
/// although the adapter has it.
///
/// # Errors
///
/// A message that names the known words, if there is another one.
pub fn options(mask: Option<&str>) -> Result<GpuOptions, String> {
    let mut options = GpuOptions {
        // If the tested kernels can use them, they should be tested.
        cooperative_matrices: true,
        ..GpuOptions::default()
    };
    let words = mask.unwrap_or_default().split(',').map(str::trim);
    for word in words.filter(|word| !word.is_empty()) {
        let Mask {
            subgroups,
            f16,
            timestamps,
            limits,
        } = &mut options.mask;
        *match word {
            "subgroups" => subgroups,
            "f16" => f16,
            "timestamps" => timestamps,
            "limits" => limits,
            _ => {
                return Err(format!(
                    "LLM_GPU_MASK must list subgroups, f16, timestamps or limits, got `{word}`"
                ));
            }
        } = true;
    }
    // They are made of both.
    options.cooperative_matrices = !options.mask.subgroups && !options.mask.f16;
    Ok(options)
}

/// The device for tests, one for the whole test program, chosen by `LLM_GPU` and `LLM_GPU_MASK`; `None` if the test should be
/// skipped. Then a line `GPU-TEST-SKIPPED: …` goes to the standard error, past the capture of the test harness: a green run must not mean
/// that nothing ran.
///
/// # Panics
///
/// If `LLM_GPU=require` and there is no device, if a device exists and cannot be had, or if a variable has an unknown value.
#[expect(
    clippy::panic,
    reason = "a test that cannot have its device has to fail"
)]
#[must_use]
pub fn gpu() -> Option<Gpu> {
    static GPU: OnceLock<Result<Gpu, GpuError>> = OnceLock::new();
    let variable = |name| std::env::var(name).ok();
    let policy = Policy::parse(variable("LLM_GPU").as_deref()).unwrap_or_else(|e| panic!("{e}"));
    let options = options(variable("LLM_GPU_MASK").as_deref()).unwrap_or_else(|e| panic!("{e}"));
    if policy == Policy::Off {
        skipped("LLM_GPU=off");
        return None;
    }
    match GPU.get_or_init(|| Gpu::new_blocking(&options)) {
        Ok(gpu) => Some(gpu.clone()),
        Err(GpuError::NoAdapter { reason }) if policy == Policy::Auto => {
            skipped(reason);
            None
        }
        Err(error) => panic!("this test needs a GPU (LLM_GPU={policy:?}): {error}"),
    }
}

/// [`gpu`], if it has what a kernel needs: `None`, and a line `GPU-TEST-SKIPPED: …`, if not. That it has not is no failure, whatever
/// `LLM_GPU` says: what a device lacks cannot be tested on it.
///
/// # Panics
///
/// As [`gpu`].
///
/// # Example
///
/// ```
/// use llm_gpu::{Needs, testing::gpu_with};
///
/// // In a test of a kernel with these needs:
/// let Some(gpu) = gpu_with(&Needs::CORE.with_subgroups().with_f16()) else { return };
/// assert!(gpu.capabilities().f16);
/// ```
#[must_use]
pub fn gpu_with(needs: &Needs) -> Option<Gpu> {
    let gpu = gpu()?;
    let capabilities = gpu.capabilities();
    if let Some(feature) = capabilities.lacks(needs) {
        skipped(&format!("this device has no {feature}"));
        return None;
    }
    let (limit, needed) = (capabilities.limits.workgroup_bytes, needs.workgroup_bytes);
    if needed > limit {
        skipped(&format!(
            "this device has {limit} bytes of workgroup memory, not {needed}"
        ));
        return None;
    }
    Some(gpu)
}

/// Says it where the harness does not swallow it: `eprintln!` would be captured. A program that runs many test programs, as `cargo xtask test`,
/// has it written to the file `LLM_GPU_SKIPS` too, to count.
fn skipped(reason: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let test = std::thread::current();
    let name = test.name().unwrap_or("?");
    let reason = reason.lines().next().unwrap_or_default();
    let line = format!("{name}: {reason}\n");
    // Once for each test, although a property asks for each of its cases.
    if !lock(&SAID).insert(line.clone()) {
        return;
    }
    // If even that cannot be written there is nobody to tell.
    let _ = std::io::stderr().write_all(format!("GPU-TEST-SKIPPED: {line}").as_bytes());
    if let Some(path) = std::env::var_os("LLM_GPU_SKIPS") {
        let mut options = std::fs::OpenOptions::new();
        let _ = options
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_one_of_three_words() {
        assert_eq!(Policy::parse(None), Ok(Policy::Auto));
        assert_eq!(Policy::parse(Some("auto")), Ok(Policy::Auto));
        assert_eq!(Policy::parse(Some("off")), Ok(Policy::Off));
        assert_eq!(Policy::parse(Some("require")), Ok(Policy::Require));
        let error = Policy::parse(Some("Require")).unwrap_err();
        assert!(error.contains("`Require`"), "{error}");
    }

    #[test]
    fn the_mask_is_a_list_of_known_words() {
        let mask = options(Some("subgroups, f16")).unwrap().mask;
        assert!(mask.subgroups && mask.f16 && !mask.timestamps && !mask.limits);
        assert!(options(Some("limits,timestamps")).unwrap().mask.limits);
        assert_eq!(options(Some("")).unwrap().mask, Mask::default());
        let error = options(Some("subgroup")).unwrap_err();
        assert!(error.contains("`subgroup`"), "{error}");
    }
}
