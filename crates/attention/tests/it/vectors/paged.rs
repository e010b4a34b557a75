//! Vector files of `attention.paged` and of `attention.sdpa_storage`.

use llm_attention::paged::{self, PageElement, PagedKv, UnscaledElement};
use llm_attention::{AttentionConfig, reference};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Array, Array1, Array2, Array4, Dimension, Ix1, Ix2, Ix4, s};

/// Runs one case of `attention.paged` on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = super::config(case)?;
    let layout = "[n_pages, kv_heads, page_size, features]";
    if !matches!(case.param_str("layout"), Ok(text) if text == layout) {
        return Err(case.unknown_param("layout", layout));
    }
    let table = Tables {
        block_table: numbers::<Ix2>(case, "block_table")?,
        lengths: numbers::<Ix1>(case, "lengths")?,
    };
    match (tier, case.param_str("storage")?) {
        #[cfg(not(feature = "gpu"))]
        (Tier::Gpu, _) => Err(case.unsupported("built without the feature `gpu`")),
        (_, storage) if !["float32", "float16", "bfloat16"].contains(&storage) => {
            Err(unknown(case))
        }
        (Tier::Reference, _) => {
            let (q, k) = (case.input_f64::<Ix4>("q")?, case.input_f64::<Ix4>("k")?);
            let v = case.input_f64::<Ix4>("v")?;
            let Tables {
                block_table,
                lengths,
            } = &table;
            let (out, lse) = reference::paged::forward(&q, &k, &v, block_table, lengths, &config)
                .map_err(VectorError::op)?;
            case.expect("out", &out)?;
            case.expect("lse", &lse)
        }
        (tier, storage) => {
            let q = case.input_f32::<Ix4>("q")?;
            let [k, v] = ["k", "v"];
            match storage {
                "bfloat16" => {
                    let pages = [case.input_bf16::<Ix4>(k)?, case.input_bf16::<Ix4>(v)?];
                    table.expect(case, tier, &q, &pages, config)
                }
                "float16" => {
                    let pages = [case.input_f16::<Ix4>(k)?, case.input_f16::<Ix4>(v)?];
                    table.expect(case, tier, &q, &pages, config)
                }
                _ => {
                    let pages = [case.input_f32::<Ix4>(k)?, case.input_f32::<Ix4>(v)?];
                    table.expect(case, tier, &q, &pages, config)
                }
            }
        }
    }
}

/// Runs one case of `attention.sdpa_storage` on one tier: keys and values in pages of any size.
pub(super) fn storage(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = super::config(case)?;
    match (tier, case.param_str("storage")?) {
        #[cfg(not(feature = "gpu"))]
        (Tier::Gpu, _) => Err(case.unsupported("built without the feature `gpu`")),
        (_, storage) if !["float16", "bfloat16"].contains(&storage) => Err(unknown(case)),
        (Tier::Reference, _) => {
            let (q, k) = (case.input_f64::<Ix4>("q")?, case.input_f64::<Ix4>("k")?);
            let v = case.input_f64::<Ix4>("v")?;
            let (out, _) =
                reference::attention::forward(&q, &k, &v, &config).map_err(VectorError::op)?;
            case.expect("out", &out)
        }
        (tier, storage) => {
            let q = case.input_f32::<Ix4>("q")?;
            let [k, v] = ["k", "v"];
            for page_size in [1, 4, 100] {
                if storage == "bfloat16" {
                    let arrays = [case.input_bf16::<Ix4>(k)?, case.input_bf16::<Ix4>(v)?];
                    let (table, pages) = in_pages(&arrays, page_size);
                    table.expect(case, tier, &q, &pages, config)?;
                } else {
                    let arrays = [case.input_f16::<Ix4>(k)?, case.input_f16::<Ix4>(v)?];
                    let (table, pages) = in_pages(&arrays, page_size);
                    table.expect(case, tier, &q, &pages, config)?;
                }
            }
            Ok(())
        }
    }
}

/// What pages may hold on the CPU and on the device.
#[cfg(feature = "gpu")]
trait OnEveryTier:
    PageElement<f32> + UnscaledElement + llm_attention::gpu::paged::GpuPageElement
{
}
#[cfg(feature = "gpu")]
impl<S: PageElement<f32> + UnscaledElement + llm_attention::gpu::paged::GpuPageElement> OnEveryTier
    for S
{
}
#[cfg(not(feature = "gpu"))]
trait OnEveryTier: PageElement<f32> + UnscaledElement {}
#[cfg(not(feature = "gpu"))]
impl<S: PageElement<f32> + UnscaledElement> OnEveryTier for S {}

struct Tables {
    block_table: Array2<u32>,
    lengths: Array1<u32>,
}

impl Tables {
    /// With the default tiles, and with some that cut these small cases.
    fn expect<S: OnEveryTier>(
        &self,
        case: &Case,
        tier: Tier,
        q: &Array4<f32>,
        pages: &[Array4<S>; 2],
        config: AttentionConfig,
    ) -> Result<(), VectorError> {
        #[cfg(feature = "gpu")]
        if tier == Tier::Gpu {
            let Tables {
                block_table,
                lengths,
            } = self;
            return super::device::pages(case, pages, block_table, lengths, &config);
        }
        assert_eq!(tier, Tier::Cpu);
        let [k, v] = pages;
        let kv = PagedKv::new(k, v, &self.block_table, &self.lengths);
        for config in [config, config.with_tile(3, 2)] {
            let (out, lse) = paged::forward_with_lse(q, &kv, &config).map_err(VectorError::op)?;
            case.expect("out", &out)?;
            case.expect_if_present("lse", &lse)?;
        }
        Ok(())
    }
}

/// Keys and values of sequences of one length, in pages from the last to the first.
fn in_pages<S: UnscaledElement + Copy + Default>(
    arrays: &[Array4<S>; 2],
    page_size: usize,
) -> (Tables, [Array4<S>; 2]) {
    let (batch, n_kv_heads, kv_seq, _) = arrays[0].dim();
    let max_pages = kv_seq.div_ceil(page_size);
    let n_pages = batch * max_pages;
    let block_table = Array2::from_shape_fn((batch, max_pages), |(b, index)| {
        (n_pages - 1 - b * max_pages - index) as u32
    });
    let pages = arrays.each_ref().map(|x| {
        let shape = (n_pages, n_kv_heads, page_size, x.dim().3);
        let mut pages = Array4::from_elem(shape, S::default());
        for ((b, index), &page) in block_table.indexed_iter() {
            let tokens = index * page_size..kv_seq.min((index + 1) * page_size);
            let places = s![page as usize, .., ..tokens.len(), ..];
            pages
                .slice_mut(places)
                .assign(&x.slice(s![b, .., tokens, ..]));
        }
        pages
    });
    let lengths = Array1::from_elem(batch, kv_seq as u32);
    let tables = Tables {
        block_table,
        lengths,
    };
    (tables, pages)
}

fn numbers<D: Dimension>(case: &Case, name: &str) -> Result<Array<u32, D>, VectorError> {
    let numbers = case.input_i64::<D>(name)?;
    Ok(numbers.mapv(|x| u32::try_from(x).unwrap()))
}

fn unknown(case: &Case) -> VectorError {
    case.unknown_param("storage", "\"float32\", \"float16\" or \"bfloat16\"")
}
