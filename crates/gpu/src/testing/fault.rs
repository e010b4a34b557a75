//! What the checks find.

use std::fmt;

/// Something that is wrong with a kernel.
#[derive(Clone, PartialEq, Eq)]
pub struct Fault {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Which rule it breaks.
    pub rule: Rule,
    /// How.
    pub message: String,
}

/// The rules that a kernel has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The file begins with comment lines that a reader can check: name, twin, math, shapes, grid, races, needs, precision.
    Header,
    /// The header names its twin in Rust by a file and a name that are there.
    Twin,
    /// The file has no `enable` or `requires` line; `Kernel::compose` writes them.
    Enable,
    /// The composed text parses.
    Parse,
    /// It is valid with what the kernel says that it needs, and nothing more.
    Valid,
    /// It needs what it says that it needs.
    Needs,
    /// There is one entry point, of the name of the kernel.
    EntryPoint,
    /// The bindings are those that the kernel states.
    Bindings,
    /// The parameter block equals its twin in Rust.
    Params,
    /// The `override` constants are those that the kernel states.
    Constants,
    /// A core kernel has workgroups that every WebGPU device can run.
    WorkgroupSize,
    /// The workgroup memory is what the kernel states.
    WorkgroupMemory,
    /// It compiles under the profile.
    Build,
}

// One line for each in what `assert_eq!` prints.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.wgsl: {:?}: {}", self.kernel, self.rule, self.message)
    }
}
