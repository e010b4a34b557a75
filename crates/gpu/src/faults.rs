//! Errors that come late: what the device reports when no call waits for it.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::GpuError;
use crate::sync::lock;

/// Most errors that are kept until somebody asks. The first tell the cause; later ones are consequences.
const MOST: usize = 16;

/// What went wrong and was not yet reported to a caller.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    lost: Mutex<Option<String>>,
    late: Mutex<VecDeque<GpuError>>,
}

impl Faults {
    /// The device is gone, for good.
    pub(crate) fn lose(&self, reason: String) {
        lock(&self.lost).get_or_insert(reason);
    }

    /// An error that no call was there to return.
    pub(crate) fn add(&self, error: GpuError) {
        let mut late = lock(&self.late);
        if late.len() < MOST {
            late.push_back(error);
        }
    }

    /// The loss of the device, each time; else the oldest late error, once.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        if let Some(reason) = lock(&self.lost).clone() {
            return Err(GpuError::DeviceLost { reason });
        }
        match lock(&self.late).pop_front() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_error_is_reported_once_and_a_loss_always() {
        let faults = Faults::default();
        faults.add(GpuError::NotTimed);
        assert_eq!(faults.check(), Err(GpuError::NotTimed));
        assert_eq!(faults.check(), Ok(()));
        faults.lose("first".to_owned());
        faults.lose("second".to_owned());
        for _ in 0..2 {
            let reason = "first".to_owned();
            assert_eq!(faults.check(), Err(GpuError::DeviceLost { reason }));
        }
    }

    #[test]
    fn the_first_errors_are_kept_and_their_number_is_bounded() {
        let faults = Faults::default();
        for got in 0..100 {
            faults.add(GpuError::Len { shape: vec![], got });
        }
        for got in 0..MOST {
            assert_eq!(faults.check(), Err(GpuError::Len { shape: vec![], got }));
        }
        assert_eq!(faults.check(), Ok(()));
    }
}
