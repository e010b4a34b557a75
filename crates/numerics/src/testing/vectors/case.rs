//! One vector file: its metadata and inputs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use ndarray::{Array, ArrayD, Dimension};
use safetensors::{Dtype, SafeTensors};

use super::tensor::Tensor;
use super::{Tier, VectorError};
use crate::testing::{Comparison, Tolerance};

/// One vector file.
///
/// Every accessor notes what was read or compared; [`leftovers`](Self::leftovers) tells what was not.
#[derive(Debug)]
pub struct Case {
    pub(super) name: String,
    pub(super) op: String,
    pub(super) source: String,
    pub(super) params: BTreeMap<String, (serde_json::Value, Cell<bool>)>,
    pub(super) inputs: BTreeMap<String, Tensor>,
    pub(super) outputs: BTreeMap<String, Tensor>,
    pub(super) file_tolerance: Tolerance,
    pub(super) tier: Tier,
    pub(super) worst: RefCell<Option<Comparison>>,
}

impl Case {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// - [`VectorError::Unreadable`] if it is not a file that can be read.
    /// - Those of [`from_bytes`](Self::from_bytes).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, VectorError> {
        let path = path.as_ref();
        if !path.is_file() {
            return Err(VectorError::Unreadable(format!(
                "{}, not a file",
                path.display()
            )));
        }
        let bytes = std::fs::read(path)
            .map_err(|error| VectorError::Unreadable(format!("{}, {error}", path.display())))?;
        let name = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        Self::from_bytes(&name.unwrap_or_default(), &bytes)
    }

    /// Reads the content of a file, under the name `name` of the case.
    ///
    /// `params` and `source` may be absent, then they are empty.
    ///
    /// # Errors
    ///
    /// - [`VectorError::Format`] if the bytes are not a safetensors file.
    /// - [`VectorError::Metadata`] if `op`, `rtol` or `atol` is missing, a tolerance is not a finite number from 0, or `params` is
    ///   not a JSON object.
    /// - [`VectorError::TensorName`] if a tensor is neither `in.<name>` nor `out.<name>`.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, VectorError> {
        let format = |error: safetensors::SafeTensorError| VectorError::Format(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(format)?;
        let empty = std::collections::HashMap::new();
        let metadata = header.metadata().as_ref().unwrap_or(&empty);

        let op = metadata
            .get("op")
            .filter(|op| !op.is_empty())
            .ok_or_else(|| VectorError::Metadata {
                key: "op",
                expected: "`<crate>.<op>`",
                got: "none".to_owned(),
            })?;
        let tolerance = |key: &'static str| {
            let text = metadata.get(key);
            text.and_then(|text| text.trim().parse::<f64>().ok())
                .filter(|&value| value >= 0.0 && value.is_finite())
                .ok_or_else(|| VectorError::Metadata {
                    key,
                    expected: "a finite number that is not negative",
                    got: text.map_or_else(|| "none".to_owned(), |text| format!("`{text}`")),
                })
        };
        let file_tolerance = Tolerance::new(tolerance("atol")?, tolerance("rtol")?);
        let params = match metadata.get("params") {
            None => serde_json::Map::new(),
            Some(text) => serde_json::from_str(text).map_err(|error| VectorError::Metadata {
                key: "params",
                expected: "a JSON object",
                got: error.to_string(),
            })?,
        };

        let (mut inputs, mut outputs) = (BTreeMap::new(), BTreeMap::new());
        for (full_name, view) in tensors.iter() {
            let tensor = Tensor::new(full_name, &view);
            if let Some(input) = full_name.strip_prefix("in.") {
                inputs.insert(input.to_owned(), tensor);
            } else if let Some(output) = full_name.strip_prefix("out.") {
                outputs.insert(output.to_owned(), tensor);
            } else {
                return Err(VectorError::TensorName(full_name.to_owned()));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            op: op.clone(),
            source: metadata.get("source").cloned().unwrap_or_default(),
            params: params
                .into_iter()
                .map(|(key, value)| (key, (value, Cell::new(false))))
                .collect(),
            inputs,
            outputs,
            file_tolerance,
            tier: Tier::Cpu,
            worst: RefCell::new(None),
        })
    }

    /// The op with its crate, as `posenc.rope.apply`.
    #[must_use]
    pub fn op(&self) -> &str {
        &self.op
    }

    /// The stem of the file name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Library, version and function that made the expected values.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tier that runs now; [`Tier::Cpu`] for a case read by hand.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The tolerance of the file for the [`tier`](Self::tier).
    #[must_use]
    pub fn tolerance(&self) -> Tolerance {
        self.tier.tolerance(self.file_tolerance)
    }

    /// Starts over for a tier: nothing is read, nothing is compared.
    pub fn reset(&mut self, tier: Tier) {
        self.tier = tier;
        self.worst.replace(None);
        self.params.values().for_each(|(_, used)| used.set(false));
        self.inputs
            .values()
            .chain(self.outputs.values())
            .for_each(|tensor| tensor.used.set(false));
    }

    /// What the op left aside since the last [`reset`](Self::reset): parameters, inputs and outputs.
    #[must_use]
    pub fn leftovers(&self) -> Vec<VectorError> {
        let unused = |tensors: &BTreeMap<String, Tensor>| -> Vec<String> {
            tensors
                .values()
                .filter(|tensor| !tensor.used.get())
                .map(|tensor| tensor.name.clone())
                .collect()
        };
        let params: Vec<String> = self
            .params
            .iter()
            .filter(|(_, (_, used))| !used.get())
            .map(|(name, (value, _))| format!("{name} = {value}"))
            .collect();
        let (inputs, outputs) = (unused(&self.inputs), unused(&self.outputs));
        let mut found = Vec::new();
        if !params.is_empty() {
            found.push(VectorError::UnusedParams(params));
        }
        if !inputs.is_empty() {
            found.push(VectorError::UnreadInputs(inputs));
        }
        if !outputs.is_empty() {
            found.push(VectorError::UncomparedOutputs(outputs));
        }
        found
    }

    /// The error for an op that the crate does not have.
    #[must_use]
    pub fn unknown_op(&self) -> VectorError {
        VectorError::UnknownOp(self.op.clone())
    }

    /// The error for a tier on which the op has no form; the runner counts the case as skipped there.
    #[must_use]
    pub fn unsupported(&self, reason: &str) -> VectorError {
        VectorError::TierUnsupported(reason.to_owned())
    }

    /// True if the file has the input `in.<name>`. Does not mark it as read.
    #[must_use]
    pub fn has_input(&self, name: &str) -> bool {
        self.inputs.contains_key(name)
    }

    /// Names of the inputs, sorted, without prefix.
    pub fn input_names(&self) -> impl Iterator<Item = &str> {
        self.inputs.keys().map(String::as_str)
    }

    /// Element type of an input in the file. Does not mark it as read.
    #[must_use]
    pub fn input_dtype(&self, name: &str) -> Option<Dtype> {
        self.inputs.get(name).map(|tensor| tensor.dtype)
    }

    /// Shape of an input. Does not mark it as read.
    #[must_use]
    pub fn input_shape(&self, name: &str) -> Option<&[usize]> {
        self.inputs.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// Shape of an output, for ops whose sizes stand nowhere else. Does not mark it as compared.
    #[must_use]
    pub fn output_shape(&self, name: &str) -> Option<&[usize]> {
        self.outputs.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// The only element of a float input of any rank.
    ///
    /// # Errors
    ///
    /// Those of [`input_f64`](Self::input_f64); [`VectorError::Value`] if there is not exactly one element.
    pub fn input_scalar_f64(&self, name: &str) -> Result<f64, VectorError> {
        let tensor = self.input(name)?;
        tensor.single(&tensor.to_f64()?)
    }

    /// The only element of an integer input of any rank.
    ///
    /// # Errors
    ///
    /// Those of [`input_i64`](Self::input_i64); [`VectorError::Value`] if there is not exactly one element.
    pub fn input_scalar_i64(&self, name: &str) -> Result<i64, VectorError> {
        let tensor = self.input(name)?;
        tensor.single(&tensor.to_i64()?)
    }

    fn input(&self, name: &str) -> Result<&Tensor, VectorError> {
        let tensor = self
            .inputs
            .get(name)
            .ok_or_else(|| VectorError::MissingInput(name.to_owned()))?;
        tensor.used.set(true);
        Ok(tensor)
    }
}

/// Writes the two accessors of one element type.
macro_rules! inputs {
    ($($fixed:ident $dynamic:ident $convert:ident $type:ty, $doc:literal;)*) => {
        /// Inputs as arrays: `case.input_f32::<Ix4>("q")`. The forms ending in `_dyn` take any rank.
        impl Case {$(
            #[doc = concat!("The input `in.<name>` as `", stringify!($type), "`: ", $doc, ".")]
            ///
            /// # Errors
            ///
            /// - [`VectorError::MissingInput`] if the file lacks it.
            /// - [`VectorError::ElementType`] or [`VectorError::Value`] if it cannot be read so.
            /// - [`VectorError::Rank`] if it has another number of axes.
            pub fn $fixed<D: Dimension>(&self, name: &str) -> Result<Array<$type, D>, VectorError> {
                let tensor = self.input(name)?;
                tensor.ranked(tensor.$convert()?)
            }

            #[doc = concat!("[`", stringify!($fixed), "`](Self::", stringify!($fixed), ") with any number of axes.")]
            ///
            /// # Errors
            ///
            /// The same, but for the rank.
            pub fn $dynamic(&self, name: &str) -> Result<ArrayD<$type>, VectorError> {
                self.input(name)?.$convert()
            }
        )*}
    };
}

inputs! {
    input_f32 input_f32_dyn to_f32 f32, "f16, bf16 and f32 exactly, f64 rounded to nearest";
    input_f64 input_f64_dyn to_f64 f64, "f16, bf16, f32 and f64 exactly";
    input_f16 input_f16_dyn to_f16 f16, "f16 only";
    input_bf16 input_bf16_dyn to_bf16 bf16, "bf16 only";
    input_i64 input_i64_dyn to_i64 i64, "any integer type or bool, exactly";
    input_usize input_usize_dyn to_usize usize, "any integer type or bool, none negative";
    input_i8 input_i8_dyn to_i8 i8, "i8 only";
    input_u8 input_u8_dyn to_u8 u8, "u8 only";
    input_bool input_bool_dyn to_bool bool, "bool only";
}
