//! A training run on disk.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use llm_decoder::{Params, checkpoint};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::TinyModelError;
use crate::recipe::Recipe;
use crate::train::Trainer;

/// The three sets of numbers of a run: weights and the optimizer's two moments.
const SETS: [&str; 3] = ["weights", "m", "v"];

impl Trainer {
    /// Writes the run to a file: a safetensors file with weights and moments in f32.
    ///
    /// It is written beside its place and renamed when it is whole and on the disk, so that
    /// an interruption leaves the old file or the new one.
    ///
    /// # Errors
    ///
    /// [`TinyModelError::Decoder`] if the file cannot be written, [`TinyModelError::State`] if
    /// the format cannot hold the run.
    pub fn save(&self, path: &Path) -> Result<(), TinyModelError> {
        let mut stored: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (set, params) in SETS.iter().zip([self.model.params(), &self.m, &self.v]) {
            for (name, tensor) in params.tensors() {
                let bytes = tensor.iter().flat_map(|x| x.to_le_bytes()).collect();
                stored.push((format!("{set}.{name}"), tensor.shape().to_vec(), bytes));
            }
        }
        let damaged =
            |error: safetensors::SafeTensorError| TinyModelError::State(error.to_string());
        let views = stored
            .iter()
            .map(|(name, shape, bytes)| {
                let view = TensorView::new(Dtype::F32, shape.clone(), bytes)?;
                Ok((name.as_str(), view))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(damaged)?;
        let metadata = HashMap::from([
            ("step".to_owned(), self.step.to_string()),
            ("recipe".to_owned(), self.recipe.fingerprint()),
        ]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(damaged)?;
        Ok(checkpoint::write_whole(path, &bytes)?)
    }

    /// Goes on with a run that [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// - [`TinyModelError::Io`] if the file cannot be read.
    /// - [`TinyModelError::State`] if it is damaged or belongs to another recipe.
    pub fn resume(path: &Path, recipe: Recipe) -> Result<Self, TinyModelError> {
        let bytes = fs::read(path).map_err(|source| TinyModelError::Io {
            path: path.to_owned(),
            source,
        })?;
        let damaged = |what: String| TinyModelError::State(what);
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        if metadata.get("recipe") != Some(&recipe.fingerprint()) {
            return Err(damaged(
                "the run was started with another recipe".to_owned(),
            ));
        }
        let step = metadata
            .get("step")
            .and_then(|step| step.parse().ok())
            .ok_or_else(|| damaged("the number of the step is missing".to_owned()))?;
        let mut trainer = Self::new(recipe)?;
        trainer.step = step;
        let Self { model, m, v, .. } = &mut trainer;
        for (set, params) in SETS.iter().zip([model.params_mut(), m, v]) {
            read_set(&file, set, params)?;
        }
        Ok(trainer)
    }
}

fn read_set(
    file: &SafeTensors<'_>,
    set: &str,
    params: &mut Params<f32>,
) -> Result<(), TinyModelError> {
    for (name, mut tensor) in params.tensors_mut() {
        let name = format!("{set}.{name}");
        let view = file
            .tensor(&name)
            .map_err(|error| TinyModelError::State(error.to_string()))?;
        if view.dtype() != Dtype::F32 || view.shape() != tensor.shape() {
            return Err(TinyModelError::State(format!(
                "tensor {name} must be F32 {:?}, got {:?} {:?}",
                tensor.shape(),
                view.dtype(),
                view.shape()
            )));
        }
        let (values, _) = view.data().as_chunks();
        for (x, bytes) in tensor.iter_mut().zip(values) {
            *x = f32::from_le_bytes(*bytes);
        }
    }
    Ok(())
}
