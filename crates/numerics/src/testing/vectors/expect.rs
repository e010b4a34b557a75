//! Expected outputs of a case: comparison that notes what was compared.

use ndarray::{ArrayD, ArrayRef, Dimension};
use num_traits::{PrimInt, ToPrimitive};

use super::tensor::Tensor;
use super::{Case, VectorError};
use crate::testing::tolerance::{compare_pairs, to_f64};
use crate::testing::{Comparison, Difference, Mismatch, Tolerance, compare};

/// Expected outputs.
impl Case {
    /// True if the file has the output `out.<name>`. Does not mark it as compared.
    #[must_use]
    pub fn has_output(&self, name: &str) -> bool {
        self.outputs.contains_key(name)
    }

    /// Names of the outputs, sorted, without prefix.
    pub fn output_names(&self) -> impl Iterator<Item = &str> {
        self.outputs.keys().map(String::as_str)
    }

    /// Compares `got` with the expected `out.<name>` at the [`tolerance`](Self::tolerance) of the case.
    ///
    /// # Errors
    ///
    /// - [`VectorError::MissingOutput`] if the file lacks it.
    /// - [`VectorError::Mismatch`] if shape or values differ.
    /// - [`VectorError::ElementType`] if the file holds no numbers there.
    pub fn expect<A: ToPrimitive, D: Dimension>(
        &self,
        name: &str,
        got: &ArrayRef<A, D>,
    ) -> Result<(), VectorError> {
        let tensor = self.output(name)?;
        let want = if tensor.is_integer() {
            tensor.to_i64()?.mapv(|value| value as f64)
        } else {
            tensor.to_f64()?
        };
        self.note_comparison(name, compare(got, &want, self.tolerance()))
    }

    /// [`expect`](Self::expect) where the file has the output; does nothing where it has not.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Self::expect), but for the missing output.
    pub fn expect_if_present<A: ToPrimitive, D: Dimension>(
        &self,
        name: &str,
        got: &ArrayRef<A, D>,
    ) -> Result<(), VectorError> {
        if self.has_output(name) {
            self.expect(name, got)
        } else {
            Ok(())
        }
    }

    /// [`expect`](Self::expect) for a single number; the output may have any rank and must have one element.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Self::expect); [`VectorError::Value`] if there is not exactly one element.
    pub fn expect_scalar(&self, name: &str, got: f64) -> Result<(), VectorError> {
        let tensor = self.output(name)?;
        let want = if tensor.is_integer() {
            tensor.single(&tensor.to_i64()?)? as f64
        } else {
            tensor.single(&tensor.to_f64()?)?
        };
        self.note_comparison(
            name,
            compare_pairs([(got, want)].into_iter(), &tensor.shape, self.tolerance()),
        )
    }

    /// Compares integers with an expected output of any integer type: equal, whatever the tolerance of the case.
    ///
    /// # Errors
    ///
    /// - [`VectorError::MissingOutput`] if the file lacks it.
    /// - [`VectorError::ElementType`] if the file does not hold integers there.
    /// - [`VectorError::Mismatch`] if shape or values differ.
    pub fn expect_int<I: PrimInt, D: Dimension>(
        &self,
        name: &str,
        got: &ArrayRef<I, D>,
    ) -> Result<(), VectorError> {
        let want = self.output(name)?.to_i64()?;
        self.note_comparison(name, compare_integers(got, &want))
    }

    /// [`expect_int`](Self::expect_int) where the file has the output; does nothing where it has not.
    ///
    /// # Errors
    ///
    /// Those of [`expect_int`](Self::expect_int), but for the missing output.
    pub fn expect_int_if_present<I: PrimInt, D: Dimension>(
        &self,
        name: &str,
        got: &ArrayRef<I, D>,
    ) -> Result<(), VectorError> {
        if self.has_output(name) {
            self.expect_int(name, got)
        } else {
            Ok(())
        }
    }

    /// Compares Booleans with an expected output of type bool.
    ///
    /// # Errors
    ///
    /// - [`VectorError::MissingOutput`] if the file lacks it.
    /// - [`VectorError::ElementType`] or [`VectorError::Value`] if the file does not hold Booleans there.
    /// - [`VectorError::Mismatch`] if shape or values differ.
    pub fn expect_bool<D: Dimension>(
        &self,
        name: &str,
        got: &ArrayRef<bool, D>,
    ) -> Result<(), VectorError> {
        let want = self.output(name)?.to_bool()?;
        self.note_comparison(
            name,
            compare_integers(&got.mapv(u8::from), &want.mapv(i64::from)),
        )
    }

    /// The expected output itself, any float type, for an op that compares in another way (up to order or sign, error against error).
    ///
    /// Marks the output as compared: the caller must do so.
    ///
    /// # Errors
    ///
    /// - [`VectorError::MissingOutput`] if the file lacks it.
    /// - [`VectorError::ElementType`] if it is not a float type.
    pub fn output_f64(&self, name: &str) -> Result<ArrayD<f64>, VectorError> {
        self.output(name)?.to_f64()
    }

    /// The expected output itself, any integer type. See [`output_f64`](Self::output_f64).
    ///
    /// # Errors
    ///
    /// - [`VectorError::MissingOutput`] if the file lacks it.
    /// - [`VectorError::ElementType`] or [`VectorError::Value`] if it does not hold integers.
    pub fn output_i64(&self, name: &str) -> Result<ArrayD<i64>, VectorError> {
        self.output(name)?.to_i64()
    }

    fn output(&self, name: &str) -> Result<&Tensor, VectorError> {
        let tensor = self
            .outputs
            .get(name)
            .ok_or_else(|| VectorError::MissingOutput(name.to_owned()))?;
        tensor.used.set(true);
        Ok(tensor)
    }

    /// Keeps the comparison with the worst ratio, passed or not.
    fn note_comparison(
        &self,
        name: &str,
        result: Result<Comparison, Mismatch>,
    ) -> Result<(), VectorError> {
        let found = match &result {
            Ok(found)
            | Err(Mismatch::Values {
                comparison: found, ..
            }) => Some(found),
            Err(Mismatch::Shape { .. }) => None,
        };
        if let Some(found) = found {
            let mut worst = self.worst.borrow_mut();
            if worst
                .as_ref()
                .is_none_or(|worst| found.worst_ratio > worst.worst_ratio)
            {
                *worst = Some(found.clone());
            }
        }
        let refuse = |mismatch| VectorError::Mismatch {
            name: name.to_owned(),
            mismatch: Box::new(mismatch),
        };
        result.map(|_| ()).map_err(refuse)
    }
}

/// Equality of integers. The comparison as f64 merges neighbors above 2⁵³, so equality is checked on the integers as well.
fn compare_integers<I: PrimInt, D: Dimension>(
    got: &ArrayRef<I, D>,
    want: &ArrayD<i64>,
) -> Result<Comparison, Mismatch> {
    let tolerance = Tolerance::exact();
    let mut comparison = compare(got, want, tolerance)?;
    let mut differ = got
        .iter()
        .zip(want.indexed_iter())
        .filter(|(got, (_, want))| got.to_i64() != Some(**want));
    let Some((first, (index, &expected))) = differ.next() else {
        return Ok(comparison);
    };
    let mismatches = 1 + differ.count();
    comparison.worst_ratio = f64::INFINITY;
    comparison.worst = Some(Difference {
        index: index.slice().to_vec(),
        got: to_f64(first),
        want: expected as f64,
        allowed: 0.0,
    });
    Err(Mismatch::Values {
        mismatches,
        shape: want.shape().to_vec(),
        tolerance,
        comparison,
    })
}
