//! Which tensors a checkpoint will have, file by file, before one is written.

use std::collections::BTreeMap;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::Method;
use crate::double::NESTED_BLOCK;
use crate::files::four_bit_state::{self, packed_shape};
use crate::files::source::info;
use crate::files::{Checkpoint, FileError, TensorSource, WeightType, int8_state};

/// What will be done.
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    pub(super) n_tensors: usize,
    /// Numbers in all tensors.
    pub(super) n_parameters: u64,
    /// Bytes of all tensors.
    pub(super) n_bytes: u64,
}

/// One file.
pub(super) struct Part {
    pub(super) file: String,
    /// Tensors of the old file, with a type where they are quantized.
    pub(super) tensors: Vec<(String, Option<WeightType>)>,
    /// Tensors of the new one.
    pub(super) announced: Vec<Announced>,
    /// Those of which the length is not known yet.
    pub(super) late: Vec<String>,
}

/// Looks at all tensors of a checkpoint.
pub(super) fn plan(
    source: &Checkpoint,
    choose: impl Fn(&str, &TensorInfo) -> bool,
    method: Method,
) -> Result<Plan, FileError> {
    let mut plan = Plan {
        parts: Vec::new(),
        n_tensors: 0,
        n_parameters: 0,
        n_bytes: 0,
    };
    // What each new tensor comes from. A name may be taken in another file, too.
    let mut owners = BTreeMap::new();
    for file in source.file_names() {
        let mut part = Part {
            file: file.to_owned(),
            tensors: Vec::new(),
            announced: Vec::new(),
            late: Vec::new(),
        };
        let names = source.file(file).map(TensorSource::names);
        for name in names.unwrap_or_default() {
            let info = info(source, &name)?;
            plan.n_tensors += 1;
            plan.n_bytes += n_bytes(info) as u64;
            plan.n_parameters += info.shape.iter().product::<usize>() as u64;
            let dtype = match choose(&name, info) {
                true => Some(check_weight(&name, info, method)?),
                false => None,
            };
            let (n_known, n_late) = (part.announced.len(), part.late.len());
            match dtype {
                Some(dtype) => announce(&name, info, dtype, method, &mut part)?,
                None => {
                    let tensor = (name.clone(), info.dtype, info.shape.clone());
                    part.announced.push(tensor);
                }
            }
            let known = part.announced[n_known..].iter().map(|tensor| &tensor.0);
            for made in known.chain(&part.late[n_late..]) {
                if let Some(other) = owners.insert(made.clone(), name.clone()) {
                    let weight = if *made == name { other } else { name };
                    let name = made.clone();
                    return Err(FileError::NameTaken { name, weight });
                }
            }
            part.tensors.push((name, dtype));
        }
        plan.parts.push(part);
    }
    Ok(plan)
}

pub(super) fn n_bytes(info: &TensorInfo) -> usize {
    info.data_offsets.1 - info.data_offsets.0
}

fn check_weight(name: &str, info: &TensorInfo, method: Method) -> Result<WeightType, FileError> {
    // Four bits have a scale for so many numbers, eight for each row: a tiny file could ask for any number of scales.
    if let (Method::EightBit { .. }, &[rows, 0]) = (method, &info.shape[..])
        && rows > 0
    {
        let name = name.to_owned();
        return Err(FileError::NoColumns { name, rows });
    }
    let is_weight = name.ends_with(".weight") && info.shape.len() == 2;
    let dtype = WeightType::from_dtype(info.dtype).filter(|_| is_weight);
    dtype.ok_or_else(|| FileError::NotWeight {
        name: name.to_owned(),
        dtype: info.dtype,
        shape: info.shape.clone(),
    })
}

pub(super) type Announced = (String, Dtype, Vec<usize>);

/// The tensors that a weight will become.
fn announce(
    name: &str,
    info: &TensorInfo,
    dtype: WeightType,
    method: Method,
    part: &mut Part,
) -> Result<(), FileError> {
    let announced = &mut part.announced;
    let Method::FourBit {
        config,
        nested,
        stored_as,
    } = method
    else {
        let [scales, format] = int8_state::companions(name)?;
        announced.push((name.to_owned(), Dtype::I8, info.shape.clone()));
        announced.push((scales, Dtype::F32, vec![info.shape[0]]));
        announced.push((format, Dtype::U8, Vec::new()));
        return Ok(());
    };
    let len: usize = info.shape.iter().product(); // fits: the header was checked
    let n_blocks = len.div_ceil(config.block);
    let [absmax, map, nested_absmax, nested_map] = four_bit_state::companions(name);
    let shape = packed_shape(len.div_ceil(2), stored_as)?;
    announced.push((name.to_owned(), stored_as.dtype(), shape));
    announced.push((map, Dtype::F32, vec![16]));
    let state = four_bit_state::state_name(name, config.code);
    if nested.is_some() {
        announced.push((absmax, Dtype::U8, vec![n_blocks]));
        announced.push((
            nested_absmax,
            Dtype::F32,
            vec![n_blocks.div_ceil(NESTED_BLOCK)],
        ));
        announced.push((nested_map, Dtype::F32, vec![256]));
        part.late.push(state);
    } else {
        announced.push((absmax, Dtype::F32, vec![n_blocks]));
        let json = four_bit_state::json(config.code, config.block, dtype, &info.shape, None);
        announced.push((state, Dtype::U8, vec![json.len()]));
    }
    Ok(())
}
