//! The checks that need no driver: our own kernels pass, and each kind of mistake is found.

use llm_gpu::params::{Field, Layout};
use llm_gpu::testing::{Fault, Profile, Rule, build_on_noop, check_kernels, check_twins, noop};
use llm_gpu::{Access, Kernel, Needs, Snippet, Target, snippet};

use crate::kernels::{KERNELS, LAYOUTS, SCALE, SUM_1_TREE, SUM_2_SUBGROUP};

#[test]
fn our_own_kernels_are_as_stated() {
    assert_eq!(check_kernels(KERNELS, LAYOUTS), []);
    assert_eq!(check_twins(KERNELS, env!("CARGO_MANIFEST_DIR")), []);
}

#[test]
fn our_own_kernels_build_under_every_profile() {
    assert_eq!(build_on_noop(KERNELS), []);
}

/// The rules that a kernel breaks, in order, without repetitions.
fn broken(kernel: &Kernel, layouts: &[Layout]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = check_kernels(&[kernel], layouts)
        .into_iter()
        .map(|fault: Fault| fault.rule)
        .collect();
    rules.dedup();
    rules
}

/// `scale` with a part of its text replaced.
fn scale_with(from: &str, to: &str) -> Kernel {
    assert!(SCALE.source.contains(from), "{from}");
    Kernel {
        source: SCALE.source.replacen(from, to, 1).leak(),
        ..SCALE
    }
}

#[test]
fn a_missing_header_line_is_found() {
    for word in [
        "Twin",
        "Math",
        "Shapes",
        "Grid",
        "Races",
        "Needs",
        "Precision",
    ] {
        let kernel = scale_with(&format!("// {word}"), "//");
        assert_eq!(broken(&kernel, LAYOUTS), [Rule::Header], "{word}");
    }
    let kernel = scale_with("// scale.wgsl", "// shale.wgsl");
    assert_eq!(broken(&kernel, LAYOUTS), [Rule::Header]);
}

#[test]
fn a_parameter_block_that_differs_from_its_twin_is_found() {
    // Another order, another name, another type of the same size, a field too few, a field too many.
    for (from, to) in [
        (
            "    n: u32,\n    factor: f32,\n",
            "    factor: f32,\n    n: u32,\n",
        ),
        ("factor: f32,", "factor: f32,\n    more: u32,"),
        ("    n: u32,", "    n: u32,\n    @align(16)"),
    ] {
        let kernel = scale_with(from, to);
        assert_eq!(broken(&kernel, LAYOUTS), [Rule::Params], "{to}");
    }
    let fields = |fields: &[Field]| Layout {
        fields: fields.to_vec().leak(),
        ..LAYOUTS[0]
    };
    let [n, factor] = LAYOUTS[0].fields else {
        panic!("two fields")
    };
    for layout in [
        fields(&[*factor, *n]),
        fields(&[*n]),
        fields(&[
            *n,
            Field {
                name: "fuctor",
                ..*factor
            },
        ]),
        fields(&[
            *n,
            Field {
                ty: "u32",
                ..*factor
            },
        ]),
        fields(&[
            *n,
            Field {
                offset: 8,
                ..*factor
            },
        ]),
        fields(&[*n, Field { size: 8, ..*factor }]),
        Layout {
            size: 12,
            ..LAYOUTS[0]
        },
        Layout {
            name: "ShaleParams",
            ..LAYOUTS[0]
        },
    ] {
        assert_eq!(broken(&SCALE, &[layout]), [Rule::Params], "{layout:?}");
    }
    let params_size = 12;
    let kernel = Kernel {
        params_size,
        ..SCALE
    };
    assert_eq!(broken(&kernel, LAYOUTS), [Rule::Params]);
}

#[test]
fn a_binding_that_is_not_as_stated_is_found() {
    let x = "@group(0) @binding(1) var<storage, read_write> x: array<f32>;";
    let undeclared = scale_with(
        x,
        "@group(0) @binding(1) var<storage, read_write> x: array<f32>;\n\
         @group(0) @binding(2) var<storage, read> y: array<f32>;",
    );
    assert_eq!(broken(&undeclared, LAYOUTS), [Rule::Bindings]);
    let number = scale_with("@binding(1)", "@binding(2)");
    assert_eq!(broken(&number, LAYOUTS), [Rule::Bindings]);
    let group = scale_with("@group(0) @binding(1)", "@group(1) @binding(1)");
    assert_eq!(broken(&group, LAYOUTS), [Rule::Bindings]);
    let bindings = &[Access::Read];
    let access = Kernel { bindings, ..SCALE };
    assert_eq!(broken(&access, LAYOUTS), [Rule::Bindings]);
    let bindings = &[Access::Write, Access::Read];
    let missing = Kernel { bindings, ..SCALE };
    assert_eq!(broken(&missing, LAYOUTS), [Rule::Bindings]);
    let storage = scale_with("var<uniform> params", "var<storage, read> params");
    assert_eq!(broken(&storage, LAYOUTS), [Rule::Bindings]);
    let params_size = 0;
    let none = Kernel {
        params_size,
        ..SCALE
    };
    assert!(broken(&none, LAYOUTS).contains(&Rule::Bindings));
}

#[test]
fn a_feature_that_a_core_kernel_uses_is_found() {
    let f16 = Kernel {
        needs: Needs::CORE.with_f16(),
        ..scale_with(
            "x[i] = params.factor * x[i];",
            "x[i] = f32(f16(params.factor) * f16(x[i]));",
        )
    };
    assert_eq!(broken(&f16, LAYOUTS), []);
    let needs = Needs::CORE;
    // Without `enable f16;` the parser refuses it already.
    assert_eq!(broken(&Kernel { needs, ..f16 }, LAYOUTS), [Rule::Parse]);
    let needs = Needs::CORE.with_workgroup_bytes(256);
    let subgroups = Kernel {
        needs,
        ..SUM_2_SUBGROUP
    };
    assert_eq!(broken(&subgroups, LAYOUTS), [Rule::Valid]);
}

#[test]
fn a_feature_that_a_kernel_does_not_use_is_found() {
    for needs in [
        Needs::CORE.with_f16(),
        Needs::CORE.with_subgroups(),
        Needs::CORE.with_cooperative_matrix(),
    ] {
        assert_eq!(broken(&Kernel { needs, ..SCALE }, LAYOUTS), [Rule::Needs]);
    }
}

#[test]
fn an_entry_point_of_another_name_is_found() {
    let kernel = scale_with("fn scale(", "fn main(");
    assert_eq!(broken(&kernel, LAYOUTS), [Rule::EntryPoint]);
    let two = scale_with(
        "@compute @workgroup_size(WORKGROUP_SIZE)",
        "@compute @workgroup_size(1) fn other() {}\n\n@compute @workgroup_size(WORKGROUP_SIZE)",
    );
    assert_eq!(broken(&two, LAYOUTS), [Rule::EntryPoint]);
}

#[test]
fn text_that_does_not_parse_or_is_not_valid_is_found() {
    let parse = scale_with("return;", "return");
    assert_eq!(broken(&parse, LAYOUTS), [Rule::Parse]);
    let snippets = &[];
    let missing = Kernel { snippets, ..SCALE };
    assert_eq!(broken(&missing, LAYOUTS), [Rule::Parse]);
    // Parses, but the type of a condition is no bool.
    let valid = scale_with("if i >= params.n {", "if i {");
    assert_eq!(broken(&valid, LAYOUTS), [Rule::Valid]);
}

#[test]
fn constants_that_are_not_as_stated_are_found() {
    let constants = &["WORKGROUP_SIZE", "TILE"];
    let more = Kernel { constants, ..SCALE };
    assert_eq!(broken(&more, LAYOUTS), [Rule::Constants]);
    let constants = &[];
    let fewer = Kernel { constants, ..SCALE };
    assert_eq!(broken(&fewer, LAYOUTS), [Rule::Constants]);
}

#[test]
fn workgroup_memory_that_is_not_as_stated_is_found() {
    for bytes in [0, 255, 257] {
        let needs = Needs::CORE.with_workgroup_bytes(bytes);
        let kernel = Kernel {
            needs,
            ..SUM_1_TREE
        };
        assert_eq!(broken(&kernel, LAYOUTS), [Rule::WorkgroupMemory], "{bytes}");
    }
    // More than every device has, stated as it is.
    let kernel = Kernel {
        needs: Needs::CORE.with_workgroup_bytes(16_400),
        ..sum_with_array_of("4100")
    };
    assert_eq!(broken(&kernel, LAYOUTS), [Rule::WorkgroupMemory]);
    // A constant sets the size: the default is the least that must be stated.
    let source = format!("{}\noverride SIZE: u32 = 64u;\n", SUM_1_TREE.source);
    let kernel = |bytes| Kernel {
        source: source.clone().leak(),
        constants: &["SIZE"],
        needs: Needs::CORE.with_workgroup_bytes(bytes),
        ..sum_with_array_of("SIZE")
    };
    assert_eq!(broken(&kernel(1024), LAYOUTS), []);
    assert_eq!(broken(&kernel(128), LAYOUTS), [Rule::WorkgroupMemory]);
}

/// `sum_1_tree` with so many elements in workgroup memory.
fn sum_with_array_of(size: &str) -> Kernel {
    let (from, to) = (
        "array<f32, TREE_INVOCATIONS>",
        format!("array<f32, {size}>"),
    );
    assert!(snippet::TREE_SUM.source.contains(from));
    let source = snippet::TREE_SUM.source.replace(from, &to).leak();
    let snippet = Snippet {
        source,
        ..snippet::TREE_SUM
    };
    Kernel {
        snippets: vec![snippet].leak(),
        ..SUM_1_TREE
    }
}

#[test]
fn a_workgroup_that_is_too_large_for_a_core_kernel_is_found() {
    for (from, to) in [
        ("WORKGROUP_SIZE: u32 = 64u", "WORKGROUP_SIZE: u32 = 257u"),
        ("@workgroup_size(WORKGROUP_SIZE)", "@workgroup_size(32, 9)"),
        (
            "@workgroup_size(WORKGROUP_SIZE)",
            "@workgroup_size(1, 1, 65)",
        ),
    ] {
        assert_eq!(
            broken(&scale_with(from, to), LAYOUTS),
            [Rule::WorkgroupSize],
            "{to}"
        );
    }
    let kernel = scale_with("WORKGROUP_SIZE: u32 = 64u", "WORKGROUP_SIZE: u32 = 256u");
    assert_eq!(broken(&kernel, LAYOUTS), []);
}

#[test]
fn a_constant_without_default_is_found() {
    let kernel = scale_with("WORKGROUP_SIZE: u32 = 64u", "WORKGROUP_SIZE: u32");
    assert_eq!(broken(&kernel, LAYOUTS), [Rule::Constants]);
}

#[test]
fn an_enable_line_in_a_file_is_found() {
    let kernel = Kernel {
        source: format!("{}\nenable f16;\n", SCALE.source).leak(),
        ..SCALE
    };
    assert_eq!(broken(&kernel, LAYOUTS), [Rule::Enable, Rule::Parse]);
}

#[test]
fn what_a_profile_does_not_allow_is_found() {
    static WIDE: std::sync::LazyLock<Kernel> = std::sync::LazyLock::new(|| {
        scale_with("@workgroup_size(WORKGROUP_SIZE)", "@workgroup_size(512)")
    });
    let faults = build_on_noop(&[&WIDE]);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].message.starts_with("WebMinimum: "), "{faults:?}");

    static MANY: Kernel = Kernel {
        bindings: &[Access::Read; 9],
        ..SCALE
    };
    let faults = build_on_noop(&[&MANY]);
    let want = "WebMinimum: at most 8 storage bindings, got 9";
    assert!(
        faults.iter().any(|fault| fault.message == want),
        "{faults:?}"
    );

    static GREEDY: Kernel = Kernel {
        needs: Needs::CORE.with_workgroup_bytes(1 << 20),
        ..SCALE
    };
    assert_eq!(build_on_noop(&[&GREEDY]).len(), Profile::ALL.len());

    static IMPOSSIBLE: Kernel = Kernel {
        needs: Needs::CORE.with_subgroups().with_workgroup_bytes(1 << 20),
        ..SCALE
    };
    let faults = build_on_noop(&[&IMPOSSIBLE]);
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].message.contains("nothing was checked"),
        "{faults:?}"
    );
}

#[test]
fn each_profile_has_what_it_says() {
    let capabilities = Profile::ALL.map(|profile| noop(profile).unwrap().capabilities().clone());
    let [web, software, nvidia] = capabilities;
    assert_eq!(
        (web.subgroups, web.f16, web.timestamps),
        (None, false, false)
    );
    assert_eq!(web.limits.storage_bindings, 8);
    assert!(software.software && software.f16);
    assert_eq!(software.subgroups, Some((8, 8)));
    assert_eq!(nvidia.subgroups, Some((32, 32)));
    assert_eq!(nvidia.cooperative_matrices.len(), 1);
    assert!(nvidia.limits.binding_bytes > 1 << 30);
    for capabilities in [web, software, nvidia] {
        assert_eq!(capabilities.backend, "noop");
        assert!(capabilities.meets(&Needs::CORE));
    }
}

#[test]
fn a_cooperative_matrix_kernel_builds_for_the_large_card_only() {
    static MATRIX: Kernel = Kernel {
        name: "matrix",
        source: "
            @group(0) @binding(1) var<storage, read> a: array<f16>;
            @group(0) @binding(2) var<storage, read> b: array<f16>;
            @group(0) @binding(3) var<storage, read_write> c: array<f32>;
            @compute @workgroup_size(32)
            fn matrix() {
                var sum = coop_mat16x16<f32, C>();
                let left = coopLoadT<coop_mat16x16<f16, A>>(&a[0], 16u);
                let right = coopLoadT<coop_mat16x16<f16, B>>(&b[0], 16u);
                sum = coopMultiplyAdd(left, right, sum);
                let first = 0u;
                let stride = 16u;
                coopStoreT(sum, &c[first], stride);
            }",
        snippets: &[],
        bindings: &[Access::Read, Access::Read, Access::Write],
        params_size: 0,
        constants: &[],
        needs: Needs::CORE.with_f16().with_cooperative_matrix(),
    };
    assert_eq!(broken(&MATRIX, &[]), [Rule::Header]);
    assert_eq!(build_on_noop(&[&MATRIX]), []);
    assert!(
        !noop(Profile::SoftwareVulkan)
            .unwrap()
            .capabilities()
            .meets(&MATRIX.needs)
    );
}

#[test]
fn enable_lines_stand_first_and_follow_the_platform() {
    let kernel = Kernel {
        needs: Needs::CORE.with_f16().with_subgroups(),
        ..SCALE
    };
    let web = kernel.compose(Target::Web);
    assert!(web.starts_with("enable f16;\nenable subgroups;\n"));
    let native = kernel.compose(Target::Native);
    assert!(native.starts_with("enable f16;\n"));
    assert!(!native.contains("enable subgroups"));
    for text in [web, native] {
        assert!(text.contains(snippet::LINEAR.source) && text.ends_with(SCALE.source));
    }
}
