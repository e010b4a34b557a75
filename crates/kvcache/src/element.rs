//! The number types that stores keep as they are.

use std::fmt::Debug;

use half::{bf16, f16};
use num_traits::Zero;

/// `f32`, `f64`, `f16` or `bf16`. Sealed.
///
/// Stores copy the bits, whatever they mean. Who wants to keep half the bytes rounds before
/// appending (`x.mapv(f16::from_f32)`), and says so.
pub trait Element: Copy + Zero + Debug + Send + Sync + sealed::Bytes + 'static {}

pub(crate) mod sealed {
    /// How a number stands in a file.
    pub trait Bytes {
        /// The type, in files.
        const CODE: u64;

        /// Adds its bytes, the lowest first.
        fn write_to(self, bytes: &mut Vec<u8>);

        /// Reads as many bytes as the type has.
        fn read_from(bytes: &[u8]) -> Self;
    }
}

macro_rules! element {
    ($type:ty, $code:literal) => {
        impl Element for $type {}

        impl sealed::Bytes for $type {
            const CODE: u64 = $code;

            fn write_to(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn read_from(bytes: &[u8]) -> Self {
                let mut all = [0; size_of::<Self>()];
                for (to, from) in all.iter_mut().zip(bytes) {
                    *to = *from;
                }
                Self::from_le_bytes(all)
            }
        }
    };
}

element!(f32, 1);
element!(f64, 2);
element!(f16, 3);
element!(bf16, 4);
