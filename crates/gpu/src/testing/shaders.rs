//! Checks of kernels on their text alone, by naga: no driver, no device.

use naga::back::pipeline_constants;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, ArraySize, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner};

use super::fault::{Fault, Rule};
use super::header;
use crate::kernel::MAX_PARAMS;
use crate::params::Layout;
use crate::{Access, Kernel, Needs, Target};

/// Bytes of workgroup memory that every WebGPU device has.
const CORE_WORKGROUP_BYTES: u32 = 16 << 10;
/// Invocations that a workgroup may have on every WebGPU device.
const CORE_INVOCATIONS: u32 = 256;
/// The same in the dimension z alone.
const CORE_INVOCATIONS_Z: u32 = 64;

/// Checks kernels as text: the header, and that the composed file parses, is valid with nothing but what the kernel says that it needs (for
/// [`Needs::CORE`]: core WebGPU), has the entry point, bindings, constants and workgroup memory that the kernel states, and parameters that equal
/// their twin in `layouts` field by field.
///
/// # Example
///
/// ```
/// use llm_gpu::{Kernel, Needs, testing::{Rule, check_kernels}};
///
/// static BROKEN: Kernel = Kernel {
///     name: "broken",
///     source: "fn broken() {",
///     snippets: &[],
///     bindings: &[],
///     params_size: 0,
///     constants: &[],
///     needs: Needs::CORE,
/// };
/// assert!(check_kernels(&[&BROKEN], &[]).iter().any(|fault| fault.rule == Rule::Parse));
/// ```
#[must_use]
pub fn check_kernels(kernels: &[&Kernel], layouts: &[Layout]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for kernel in kernels {
        let mut add = |rule, message| {
            faults.push(Fault {
                kernel: kernel.name,
                rule,
                message,
            });
        };
        for problem in header::problems(kernel.name, kernel.source) {
            add(Rule::Header, problem);
        }
        let snippets = kernel.snippets.iter().map(|snippet| snippet.source);
        for line in snippets.chain([kernel.source]).flat_map(str::lines) {
            if line.starts_with("enable ") || line.starts_with("requires ") {
                add(
                    Rule::Enable,
                    format!("`{line}` must be left to `Kernel::compose`"),
                );
            }
        }
        let text = kernel.compose(Target::Native);
        let module = match naga::front::wgsl::parse_str(&text) {
            Ok(module) => module,
            Err(error) => {
                add(Rule::Parse, error.emit_to_string(&text));
                continue;
            }
        };
        let valid = |needs: &Needs| {
            let mut validator = Validator::new(ValidationFlags::all(), capabilities(needs));
            let outcome = validator.validate(&module);
            outcome.map_err(|error| error.emit_to_string(&text))
        };
        let info = match valid(&kernel.needs) {
            Ok(info) => info,
            Err(error) => {
                add(Rule::Valid, error);
                continue;
            }
        };
        for (feature, without) in without_each(kernel.needs) {
            if valid(&without).is_ok() {
                add(
                    Rule::Needs,
                    format!("it states {feature} and does not need it"),
                );
            }
        }
        if let Some(problem) = entry_point(kernel, &module) {
            add(Rule::EntryPoint, problem);
        }
        for problem in bindings(kernel, &module) {
            add(Rule::Bindings, problem);
        }
        for problem in params(kernel, &module, layouts) {
            add(Rule::Params, problem);
        }
        for problem in constants(kernel, &module) {
            add(Rule::Constants, problem);
        }
        let resolved = match at_defaults(kernel, &module, &info) {
            Ok(resolved) => resolved,
            Err(error) => {
                add(
                    Rule::Constants,
                    format!("the defaults of the overrides must fit: {error}"),
                );
                continue;
            }
        };
        if let Some(problem) = workgroup_size(kernel, &resolved) {
            add(Rule::WorkgroupSize, problem);
        }
        for problem in workgroup_memory(kernel, &module, &resolved) {
            add(Rule::WorkgroupMemory, problem);
        }
    }
    faults
}

/// What naga has to allow for these needs.
fn capabilities(needs: &Needs) -> Capabilities {
    // `pack2x16float` and its kin are core WebGPU; naga counts them because old OpenGL lacks them.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let subgroups = Capabilities::SUBGROUP | Capabilities::SUBGROUP_BARRIER;
    capabilities.set(subgroups, needs.subgroups);
    capabilities.set(Capabilities::SHADER_FLOAT16, needs.f16);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, needs.cooperative_matrix);
    capabilities
}

/// The needs without one of the features that they have, for each.
fn without_each(needs: Needs) -> Vec<(&'static str, Needs)> {
    let mut less = Vec::new();
    if needs.subgroups {
        let subgroups = false;
        less.push(("subgroups", Needs { subgroups, ..needs }));
    }
    if needs.f16 {
        less.push((
            "f16",
            Needs {
                f16: false,
                ..needs
            },
        ));
    }
    if needs.cooperative_matrix {
        let cooperative_matrix = false;
        less.push((
            "cooperative matrices",
            Needs {
                cooperative_matrix,
                ..needs
            },
        ));
    }
    less
}

fn entry_point(kernel: &Kernel, module: &Module) -> Option<String> {
    let names: Vec<&str> = module
        .entry_points
        .iter()
        .filter(|entry| entry.stage == ShaderStage::Compute)
        .map(|entry| entry.name.as_str())
        .collect();
    (names != [kernel.name] || module.entry_points.len() != 1).then(|| {
        format!(
            "there must be one entry point `{}`, got {names:?}",
            kernel.name
        )
    })
}

fn bindings(kernel: &Kernel, module: &Module) -> Vec<String> {
    let mut problems = Vec::new();
    // The parameters and the tensors: whether each was declared.
    let mut declared = vec![false; kernel.bindings.len() + 1];
    for (_, variable) in module.global_variables.iter() {
        let Some(place) = &variable.binding else {
            continue;
        };
        let name = variable.name.as_deref().unwrap_or("?");
        let number = place.binding as usize;
        let stated = match number.checked_sub(1) {
            None => (kernel.params_size > 0).then_some(AddressSpace::Uniform),
            Some(tensor) => kernel.bindings.get(tensor).map(|access| {
                let access = match access {
                    Access::Read => StorageAccess::LOAD,
                    Access::Write => StorageAccess::LOAD | StorageAccess::STORE,
                };
                AddressSpace::Storage { access }
            }),
        };
        if place.group != 0 {
            problems.push(format!(
                "`{name}` must be in group 0, got group {}",
                place.group
            ));
        } else if stated.is_none() {
            problems.push(format!(
                "`{name}` is at binding {number}, which the kernel does not state"
            ));
        } else if stated != Some(variable.space) {
            problems.push(format!(
                "`{name}` at binding {number} must be {:?}, got {:?}",
                stated.unwrap_or(AddressSpace::Handle),
                variable.space
            ));
        } else {
            declared[number] = true;
        }
    }
    for (number, declared) in declared.into_iter().enumerate() {
        let stated = number > 0 || kernel.params_size > 0;
        if stated && !declared && problems.is_empty() {
            problems.push(format!(
                "the kernel states binding {number}, which the shader does not declare"
            ));
        }
    }
    problems
}

fn params(kernel: &Kernel, module: &Module, layouts: &[Layout]) -> Vec<String> {
    let uniform = module
        .global_variables
        .iter()
        .find(|(_, variable)| variable.space == AddressSpace::Uniform);
    let Some((_, uniform)) = uniform else {
        return Vec::new(); // the rule on bindings says so if one is missing
    };
    let ty = &module.types[uniform.ty];
    let (Some(name), TypeInner::Struct { members, span }) = (&ty.name, &ty.inner) else {
        return vec!["the parameters must be a struct".to_owned()];
    };
    let Some(layout) = layouts.iter().find(|layout| layout.name == name) else {
        return vec![format!("no layout in Rust is called `{name}`")];
    };
    let mut problems = Vec::new();
    let got: Vec<String> = members
        .iter()
        .map(|member| {
            let inner = &module.types[member.ty].inner;
            let name = member.name.as_deref().unwrap_or("?");
            let size = inner.try_size(module.to_ctx()).unwrap_or(u32::MAX);
            format!(
                "{name}: {} at {} with {size} bytes",
                rust_name(module, inner),
                member.offset
            )
        })
        .collect();
    let want: Vec<String> = layout
        .fields
        .iter()
        .map(|field| {
            format!(
                "{}: {} at {} with {} bytes",
                field.name, field.ty, field.offset, field.size
            )
        })
        .collect();
    for i in 0..got.len().max(want.len()) {
        let nothing = String::from("nothing");
        let (want, got) = (want.get(i), got.get(i));
        if want != got {
            problems.push(format!(
                "field {i} of `{name}` must be `{}` as in Rust, got `{}`",
                want.unwrap_or(&nothing),
                got.unwrap_or(&nothing)
            ));
        }
    }
    if *span as usize != layout.size || layout.size != kernel.params_size {
        problems.push(format!(
            "`{name}` has {span} bytes in WGSL, {} in Rust, and the kernel states {}",
            layout.size, kernel.params_size
        ));
    }
    if kernel.params_size > MAX_PARAMS {
        problems.push(format!(
            "`{name}` must have at most {MAX_PARAMS} bytes, got {}",
            kernel.params_size
        ));
    }
    problems
}

/// How the Rust twin of a type is written.
fn rust_name(module: &Module, inner: &TypeInner) -> String {
    match inner {
        TypeInner::Scalar(scalar) => {
            let bits = u32::from(scalar.width) * 8;
            match scalar.kind {
                ScalarKind::Float => format!("f{bits}"),
                ScalarKind::Sint => format!("i{bits}"),
                ScalarKind::Uint => format!("u{bits}"),
                other => format!("{other:?}"),
            }
        }
        TypeInner::Vector { size, scalar } => {
            let scalar = rust_name(module, &TypeInner::Scalar(*scalar));
            format!("[{scalar}; {}]", *size as u8)
        }
        TypeInner::Array {
            base,
            size: ArraySize::Constant(n),
            ..
        } => {
            let base = rust_name(module, &module.types[*base].inner);
            format!("[{base}; {n}]")
        }
        other => format!("{other:?}"),
    }
}

fn constants(kernel: &Kernel, module: &Module) -> Vec<String> {
    let mut problems = Vec::new();
    let declared: Vec<&str> = module
        .overrides
        .iter()
        .filter_map(|(_, constant)| constant.name.as_deref())
        .collect();
    for name in kernel.constants {
        if !declared.contains(name) {
            problems.push(format!(
                "the kernel states the constant `{name}`, which is no `override`"
            ));
        }
    }
    for name in declared {
        if !kernel.constants.contains(&name) {
            problems.push(format!("the kernel does not state the override `{name}`"));
        }
    }
    problems
}

/// The module with the defaults in place of its constants; an error if a constant has none.
fn at_defaults(kernel: &Kernel, module: &Module, info: &ModuleInfo) -> Result<Module, String> {
    let entry = Some((ShaderStage::Compute, kernel.name));
    let constants = naga::back::PipelineConstants::default();
    let resolved = pipeline_constants::process_overrides(module, info, entry, &constants);
    resolved
        .map(|(module, _)| module.into_owned())
        .map_err(|error| error.to_string())
}

/// `module` has the defaults in place of its constants.
fn workgroup_size(kernel: &Kernel, module: &Module) -> Option<String> {
    let size = module.entry_points.first()?.workgroup_size;
    let invocations = size
        .iter()
        .fold(1_u32, |product, axis| product.saturating_mul(*axis));
    (kernel.needs.is_core() && (invocations > CORE_INVOCATIONS || size[2] > CORE_INVOCATIONS_Z))
        .then(|| {
            format!(
                "a core kernel must have at most {CORE_INVOCATIONS} invocations in a workgroup, and \
                 {CORE_INVOCATIONS_Z} in z, got {size:?}"
            )
        })
}

/// `resolved` has the defaults in place of the constants.
fn workgroup_memory(kernel: &Kernel, module: &Module, resolved: &Module) -> Vec<String> {
    let stated = kernel.needs.workgroup_bytes;
    let mut bytes = 0_u32;
    for (_, variable) in resolved.global_variables.iter() {
        if variable.space == AddressSpace::WorkGroup {
            let size = resolved.types[variable.ty]
                .inner
                .try_size(resolved.to_ctx());
            // Each variable is rounded up to 16 bytes, as WebGPU counts.
            let size = size.and_then(|size| size.checked_next_multiple_of(16));
            bytes = bytes.saturating_add(size.unwrap_or(u32::MAX));
        }
    }
    let by_constants = module.types.iter().any(|(_, ty)| {
        let size = match ty.inner {
            TypeInner::Array { size, .. } => Some(size),
            _ => None,
        };
        matches!(size, Some(ArraySize::Pending(_)))
    });
    let mut problems = Vec::new();
    if !by_constants && stated != bytes {
        problems.push(format!("it uses {bytes} bytes, the kernel states {stated}"));
    } else if stated < bytes {
        problems.push(format!(
            "it uses {bytes} bytes at the defaults of its constants, the kernel states {stated}"
        ));
    }
    if kernel.needs.is_core() && stated > CORE_WORKGROUP_BYTES {
        problems.push(format!(
            "a core kernel must use at most {CORE_WORKGROUP_BYTES} bytes, this one states {stated}"
        ));
    }
    problems
}
