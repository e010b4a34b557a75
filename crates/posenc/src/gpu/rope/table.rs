//! The table of cosines and sines on the device: copied there, or made there from positions.

use llm_gpu::{Access, Gpu, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};
use ndarray::ArrayRef1;

use crate::PosencError;
use crate::gpu::{TURNS, WORKGROUP_SIZE, turns_per_token, word};
use crate::rope::{RopeTable, check_inv_freq};

llm_gpu::params! {
    /// The parameter block of `rope_table.wgsl`.
    pub(in crate::gpu) struct RopeTableParams {
        n_elements: u32,
        n_planes: u32,
        factor: f32,
        pad0: u32,
    }
}

pub(in crate::gpu) static ROPE_TABLE: Kernel = Kernel {
    name: "rope_table",
    source: include_str!("../rope_table.wgsl"),
    snippets: &[snippet::LINEAR, TURNS],
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    params_size: size_of::<RopeTableParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Cosines and sines on the device: what the rotation multiplies with.
///
/// Invariant: both have the shape `[rows, rotary_dim / 2]`. Rows are one per sequence element where the whole
/// batch has the same positions, else one per batch row and sequence element.
#[derive(Clone, Debug)]
pub struct GpuRopeTable {
    cos: GpuTensor<f32>,
    sin: GpuTensor<f32>,
}

impl GpuRopeTable {
    /// Copies a table to the device.
    ///
    /// # Errors
    ///
    /// [`PosencError::Gpu`] if the device has no room for it.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::gpu::rope::GpuRopeTable;
    /// use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
    ///
    /// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
    /// let config = RopeConfig::new(8, RopePairing::HalfSplit);
    /// let table = RopeTable::from_config(&config, &ndarray::array![0, 1, 2])?;
    /// let table = GpuRopeTable::upload(&gpu, &table)?;
    /// assert_eq!(table.cos().shape(), [3, 4]);
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn upload(gpu: &Gpu, table: &RopeTable) -> Result<Self, PosencError> {
        Ok(Self {
            cos: gpu.upload(&table.cos())?,
            sin: gpu.upload(&table.sin())?,
        })
    }

    /// Records the table of positions that are on the device already.
    ///
    /// ```text
    /// cos = attention_factor cos(position inv_freq),  sin = attention_factor sin(position inv_freq)
    /// ```
    ///
    /// # Shapes
    ///
    /// - `positions`: `[seq]` or `[batch, seq]`
    /// - `inv_freq`: `[rotary_dim / 2]`
    ///
    /// # Errors
    ///
    /// - [`PosencError::InvFreq`] if a frequency is not finite.
    /// - [`PosencError::TooLarge`] if there are more frequencies than memory holds, because they repeat.
    /// - [`PosencError::AttentionFactor`] if the factor is not finite in f32.
    /// - [`PosencError::Gpu`] if the device has no room for the table.
    ///
    /// # Precision
    ///
    /// 3e-7 times the factor for angles up to 2^30 radians: they are formed in 64-bit integers, as fractions of a turn.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::gpu::rope::GpuRopeTable;
    /// use llm_posenc::rope::{self, RopeConfig, RopePairing};
    ///
    /// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
    /// let inv_freq = rope::inv_freq(&RopeConfig::new(8, RopePairing::HalfSplit))?;
    /// let positions = gpu.upload(&ndarray::array![0_u32, 1_000_000])?; // [2]
    /// let mut recorder = gpu.recorder();
    /// let table = GpuRopeTable::record(&mut recorder, &positions, &inv_freq, 1.0)?;
    /// recorder.submit()?;
    /// let cos = table.cos().download_blocking()?; // [2, 4]
    /// assert!((f64::from(cos[[1, 0]]) - 1e6_f64.cos()).abs() < 3e-7);
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn record(
        recorder: &mut Recorder,
        positions: &GpuTensor<u32>,
        inv_freq: &ArrayRef1<f64>,
        attention_factor: f64,
    ) -> Result<Self, PosencError> {
        check_inv_freq(inv_freq)?;
        // The shader has it in f32.
        if !(attention_factor as f32).is_finite() {
            return Err(PosencError::AttentionFactor {
                got: attention_factor,
            });
        }
        let shape = [positions.len(), inv_freq.len()];
        let cos = recorder.output::<f32>(&shape)?;
        let sin = recorder.output::<f32>(&shape)?;
        // Without positions there may be any number of frequencies.
        let n_planes = if cos.is_empty() { 0 } else { inv_freq.len() };
        let used = inv_freq.iter().copied().take(n_planes);
        let frequencies = turns_per_token(recorder.gpu(), used)?;
        let params = RopeTableParams {
            n_elements: word(cos.len())?,
            n_planes: word(n_planes)?,
            factor: attention_factor as f32,
            pad0: 0,
        };
        recorder.dispatch(
            &ROPE_TABLE,
            &[],
            &params,
            &[
                positions.read(),
                frequencies.read(),
                cos.write(),
                sin.write(),
            ],
            Grid::linear(cos.len(), WORKGROUP_SIZE)?,
        )?;
        Ok(Self { cos, sin })
    }

    /// The cosines, times the attention factor: `[rows, rotary_dim / 2]`.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::gpu::rope::GpuRopeTable;
    /// use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
    ///
    /// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
    /// let config = RopeConfig::new(2, RopePairing::HalfSplit);
    /// let table = RopeTable::from_config(&config, &ndarray::array![0])?;
    /// let table = GpuRopeTable::upload(&gpu, &table)?;
    /// assert_eq!(table.cos().download_blocking()?, ndarray::array![[1.0]].into_dyn());
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    #[must_use]
    pub fn cos(&self) -> &GpuTensor<f32> {
        &self.cos
    }

    /// The sines, times the attention factor: `[rows, rotary_dim / 2]`.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::gpu::rope::GpuRopeTable;
    /// use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
    ///
    /// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
    /// let config = RopeConfig::new(2, RopePairing::HalfSplit);
    /// let table = RopeTable::from_config(&config, &ndarray::array![0])?;
    /// let table = GpuRopeTable::upload(&gpu, &table)?;
    /// assert_eq!(table.sin().download_blocking()?, ndarray::array![[0.0]].into_dyn());
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    #[must_use]
    pub fn sin(&self) -> &GpuTensor<f32> {
        &self.sin
    }

    /// Rows and planes.
    pub(super) fn dim(&self) -> (usize, usize) {
        match *self.cos.shape() {
            [rows, n_planes] => (rows, n_planes),
            _ => (0, 0),
        }
    }
}
