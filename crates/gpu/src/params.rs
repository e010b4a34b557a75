//! The parameter block of a kernel in Rust, with a description that tests compare with the shader.

/// One field of a parameter block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its type as written in Rust: `u32`, `i32`, `f32`, or an array of these.
    pub ty: &'static str,
    /// Its first byte.
    pub offset: usize,
    /// Its number of bytes.
    pub size: usize,
}

/// A parameter block, field by field: what [`params!`](crate::params!) derives, and what
/// `testing::check_kernels` compares with the struct of the same name in the shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Name of the struct, in Rust and in WGSL.
    pub name: &'static str,
    /// Its number of bytes.
    pub size: usize,
    /// Its fields in order.
    pub fields: &'static [Field],
}

/// Defines the parameter block of a kernel: a `#[repr(C)]` struct of four-byte numbers, or arrays of four of them, that can be sent as bytes, with a
/// constant `LAYOUT` for the test that compares it with its twin in the shader.
///
/// The size must be a multiple of four, at most [`MAX_PARAMS`](crate::kernel::MAX_PARAMS), and free of padding, which the compiler checks.
///
/// # Example
///
/// ```
/// llm_gpu::params! {
///     /// Parameters of `scale.wgsl`.
///     pub struct ScaleParams {
///         /// Number of elements.
///         n: u32,
///         /// What each is multiplied by.
///         factor: f32,
///     }
/// }
///
/// assert_eq!(ScaleParams::LAYOUT.fields[1].offset, 4);
/// let bytes = llm_gpu::bytemuck::bytes_of(&ScaleParams { n: 3, factor: 0.5 }).to_vec();
/// assert_eq!(bytes.len(), ScaleParams::LAYOUT.size);
/// ```
#[macro_export]
macro_rules! params {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_attribute:meta])* $field:ident : $ty:ty),* $(,)?
    }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, $crate::bytemuck::Pod, $crate::bytemuck::Zeroable)]
        #[bytemuck(crate = "llm_gpu::bytemuck")]
        #[repr(C)]
        $visibility struct $name {
            $($(#[$field_attribute])* pub $field: $ty,)*
        }

        impl $name {
            /// The fields, for the test that compares them with the shader.
            pub const LAYOUT: $crate::params::Layout = $crate::params::Layout {
                name: stringify!($name),
                size: ::std::mem::size_of::<Self>(),
                fields: &[$($crate::params::Field {
                    name: stringify!($field),
                    ty: stringify!($ty),
                    offset: ::std::mem::offset_of!(Self, $field),
                    size: ::std::mem::size_of::<$ty>(),
                },)*],
            };
        }
    };
}
