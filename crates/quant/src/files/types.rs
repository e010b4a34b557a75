//! Number types by the names that torch has for them.

use safetensors::Dtype;

/// The type that weights had before they were quantized, and come back in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightType {
    /// 32 bits.
    F32,
    /// 16 bits, 11 of them significant.
    F16,
    /// 16 bits, 8 of them significant.
    Bf16,
}

impl WeightType {
    const ALL: [(Self, &'static str, Dtype); 3] = [
        (Self::F32, "float32", Dtype::F32),
        (Self::F16, "float16", Dtype::F16),
        (Self::Bf16, "bfloat16", Dtype::BF16),
    ];

    /// The name in torch, as in a state and in `config.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|all| all.0 == self)
            .map_or("", |all| all.1)
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|all| all.1 == name).map(|all| all.0)
    }

    /// The type of a stored tensor, if weights can have it.
    #[must_use]
    pub fn from_dtype(dtype: Dtype) -> Option<Self> {
        Self::ALL.iter().find(|all| all.2 == dtype).map(|all| all.0)
    }
}

/// What packed bytes are declared as in a file: their bits are the same. bitsandbytes calls it `quant_storage`.
///
/// Other types than bytes let tools split weights that only know floating point (FSDP).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PackedType {
    /// Bytes.
    #[default]
    U8,
    /// Bytes with a sign.
    I8,
    /// Two bytes each.
    F16,
    /// Two bytes each.
    Bf16,
    /// Four bytes each.
    F32,
    /// Eight bytes each.
    F64,
}

impl PackedType {
    const ALL: [(Self, &'static str, Dtype); 6] = [
        (Self::U8, "uint8", Dtype::U8),
        (Self::I8, "int8", Dtype::I8),
        (Self::F16, "float16", Dtype::F16),
        (Self::Bf16, "bfloat16", Dtype::BF16),
        (Self::F32, "float32", Dtype::F32),
        (Self::F64, "float64", Dtype::F64),
    ];

    /// The name in torch, as in `config.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|all| all.0 == self)
            .map_or("", |all| all.1)
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|all| all.1 == name).map(|all| all.0)
    }

    /// The type of a stored tensor.
    #[must_use]
    pub fn dtype(self) -> Dtype {
        Self::ALL
            .iter()
            .find(|all| all.0 == self)
            .map_or(Dtype::U8, |all| all.2)
    }

    /// The type for that of a stored tensor, if packed bytes can have it.
    #[must_use]
    pub fn from_dtype(dtype: Dtype) -> Option<Self> {
        Self::ALL.iter().find(|all| all.2 == dtype).map(|all| all.0)
    }
}
