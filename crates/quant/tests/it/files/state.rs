//! One weight: read, written again, and compared byte by byte with what bitsandbytes wrote.

use std::fs;
use std::path::{Path, PathBuf};

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_quant::double;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::files::four_bit_state::{self, FourBitTensor};
use llm_quant::files::{
    self, Dtype, FileError, PackedType, Tensor, TensorFile, TensorInfo, TensorSource, WeightType,
};
use llm_quant::four_bit::{self, FourBitCode, FourBitConfig, Scales};
use ndarray::{Array2, ArrayD, IxDyn, arr1};
use proptest::prelude::*;

use super::open;
use crate::properties::strategies::{config, numbers};

/// The tensors `out.state.*` of a vector file under their own names.
struct State(TensorFile<fs::File>);

const PREFIX: &str = "out.state.";

impl TensorSource for State {
    fn names(&self) -> Vec<String> {
        let names = self.0.names();
        let inside = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
        inside.map(str::to_owned).collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.0.info(&format!("{PREFIX}{name}"))
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, FileError> {
        self.0.read(&format!("{PREFIX}{name}"))
    }
}

fn state_files() -> Vec<PathBuf> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let extra = std::env::var_os("LLM_VECTORS").map(|folder| Path::new(&folder).join("quant"));
    let mut files = Vec::new();
    for folder in [Some(committed), extra].into_iter().flatten() {
        if let Ok(entries) = fs::read_dir(folder.join("linear4bit.state_dict")) {
            files.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
    files
}

/// The bits of numbers of any type.
fn wide<S: Storage>(weights: &FourBitTensor) -> Vec<u32> {
    let back: ArrayD<S> = four_bit::dequantize(&weights.weights).unwrap();
    back.iter().map(|x| x.to_f32().to_bits()).collect()
}

#[test]
fn what_bitsandbytes_saved_comes_back_as_its_numbers_and_is_written_to_the_same_bytes() {
    let files = state_files();
    assert!(files.len() >= 41, "the committed files are gone");
    for path in files {
        let mut file = State(TensorFile::open(&path).unwrap());
        assert_eq!(four_bit_state::names(&file), ["weight"], "{path:?}");
        let weights = four_bit_state::read(&mut file, "weight").unwrap();
        let got = match weights.dtype {
            WeightType::F16 => wide::<f16>(&weights),
            WeightType::Bf16 => wide::<bf16>(&weights),
            _ => wide::<f32>(&weights),
        };
        let dtype = file.0.info("out.dequantised").unwrap().dtype;
        let bytes = file.0.read("out.dequantised").unwrap();
        let want: Vec<u32> = match dtype {
            Dtype::F16 => halves(&bytes, |x| f16::from_bits(x).to_f32()),
            Dtype::BF16 => halves(&bytes, |x| bf16::from_bits(x).to_f32()),
            _ => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&x| u32::from_le_bytes(x))
                .collect(),
        };
        assert_eq!(got, want, "{path:?}");
        let tensors = four_bit_state::tensors("weight", &weights).unwrap();
        let n_weight = file
            .names()
            .iter()
            .filter(|name| name.starts_with("weight"))
            .count();
        assert_eq!(tensors.len(), n_weight, "{path:?}");
        for tensor in tensors {
            let info = file.info(&tensor.name).unwrap();
            assert_eq!(
                (tensor.dtype, &tensor.shape),
                (info.dtype, &info.shape),
                "{path:?}"
            );
            assert_eq!(
                tensor.bytes,
                file.read(&tensor.name).unwrap(),
                "{path:?} {}",
                tensor.name
            );
        }
    }
}

fn halves(bytes: &[u8], widen: impl Fn(u16) -> f32) -> Vec<u32> {
    let (pairs, _) = bytes.as_chunks();
    pairs
        .iter()
        .map(|&x| widen(u16::from_le_bytes(x)).to_bits())
        .collect()
}

#[test]
fn a_map_of_nested_scales_that_is_not_ours_is_honored() {
    // Scales 1 to 300 in two nested blocks; the map of the file is ours times 1 + 2^-12.
    let x = Array2::from_shape_fn([300, 32], |(i, j)| {
        (i + 1) as f32 * if j == 0 { 1.0 } else { 0.5 }
    });
    let config = FourBitConfig::new(FourBitCode::Nf4, 32);
    let plain = four_bit::quantize(&x, &config).unwrap();
    let nested = double::compress(plain, EightBitSearch::Nearest).unwrap();
    let mut tensors =
        four_bit_state::tensors("w", &FourBitTensor::new(nested.clone(), WeightType::F32)).unwrap();
    let map = tensors
        .iter_mut()
        .find(|tensor| tensor.name == "w.nested_quant_map")
        .unwrap();
    let other: Vec<f32> = map
        .bytes
        .as_chunks()
        .0
        .iter()
        .map(|&x| f32::from_le_bytes(x) * (1.0 + 1.0 / 4096.0))
        .collect();
    map.bytes = other.iter().flat_map(|x| x.to_le_bytes()).collect();
    let read = four_bit_state::read(&mut open(&tensors), "w").unwrap();
    let Scales::Nested(nested) = nested.scales() else {
        unreachable!()
    };
    let want: Vec<f32> = (0..300)
        .map(|i| other[usize::from(nested.codes()[i])] * nested.absmax()[i / 256] + nested.offset())
        .collect();
    assert_eq!(read.weights.scales(), &Scales::Plain(want));
}

#[test]
fn the_shape_of_packed_bytes_does_not_matter() {
    // Old versions stored them as one row.
    let weights = four_bit::quantize(
        &arr1(&[1.0_f32; 70]),
        &FourBitConfig::new(FourBitCode::Fp4, 64),
    )
    .unwrap();
    let weights = FourBitTensor::new(weights, WeightType::F16);
    let mut tensors = four_bit_state::tensors("w", &weights).unwrap();
    assert_eq!(tensors[0].shape, [35, 1]);
    tensors[0].shape = vec![1, 35];
    assert_eq!(
        four_bit_state::read(&mut open(&tensors), "w").unwrap(),
        weights
    );
}

fn weights() -> impl Strategy<Value = FourBitTensor> {
    let dtype = prop_oneof![
        Just(WeightType::F32),
        Just(WeightType::F16),
        Just(WeightType::Bf16)
    ];
    let search = prop_oneof![
        Just(None),
        Just(Some(EightBitSearch::Nearest)),
        Just(Some(EightBitSearch::BitsandbytesCpu))
    ];
    (numbers(), config(), dtype, search).prop_map(|(x, config, dtype, search)| {
        let plain = four_bit::quantize(&arr1(&x), &config).unwrap();
        let weights = match search {
            Some(search) => double::compress(plain, search).unwrap(),
            None => plain,
        };
        FourBitTensor::new(weights, dtype)
    })
}

proptest! {
    /// Whatever was quantized, through the disk too; zero-length weights too.
    #[test]
    fn what_is_written_is_read(mut weights in weights(), stored_as in 0..6_usize, name in "[a-z.\"\u{e9}]{0,12}") {
        weights.stored_as = [
            PackedType::U8, PackedType::I8, PackedType::F16, PackedType::Bf16, PackedType::F32, PackedType::F64,
        ][stored_as];
        let size = weights.stored_as.dtype().bitsize() / 8;
        let n_bytes = weights.weights.packed().len();
        let tensors = match four_bit_state::tensors(&name, &weights) {
            Ok(tensors) => tensors,
            Err(error) => {
                prop_assert!(!n_bytes.is_multiple_of(size));
                let storage = weights.stored_as.dtype();
                prop_assert_eq!(error, FileError::Storage { n_bytes, storage });
                return Ok(());
            }
        };
        prop_assert!(n_bytes.is_multiple_of(size));
        prop_assert_eq!(&four_bit_state::read(&mut open(&tensors), &name).unwrap(), &weights);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        files::write_tensors(&path, &files::torch_metadata(), &tensors).unwrap();
        let mut file = TensorFile::open(&path).unwrap();
        prop_assert_eq!(&four_bit_state::read(&mut file, &name).unwrap(), &weights);
    }
}

#[test]
fn weights_of_any_rank_are_stored() {
    for shape in [vec![], vec![0], vec![3, 0, 2], vec![2, 3, 5, 7]] {
        let x = ArrayD::<f32>::ones(IxDyn(&shape));
        let weights = four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Nf4, 64)).unwrap();
        let weights = FourBitTensor::new(weights, WeightType::F32);
        let tensors: Vec<Tensor> = four_bit_state::tensors("w", &weights).unwrap();
        assert_eq!(
            four_bit_state::read(&mut open(&tensors), "w").unwrap(),
            weights
        );
    }
}
