// beam_start.wgsl: the beginning of a search for the candidates of each prompt.
//
// Twin      src/search/best.rs `cut`; compared in tests/it/gpu/beam.rs
// Math      target = n elements, from the largest
// Shapes    status  [n_prompts * n_beams, STATUS_WORDS] u32
//           search  [n_prompts, SEARCH_WORDS] u32
// Grid      linear, one invocation per prompt
// Races     none: each invocation writes the words of its prompt
// Needs     core WebGPU only
// Precision exact

struct BeamStartParams {
    n_prompts: u32,
    n_beams: u32,
    n: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: BeamStartParams;
@group(0) @binding(1) var<storage, read> status: array<u32>;
@group(0) @binding(2) var<storage, read_write> search: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn beam_start(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let prompt = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (prompt >= params.n_prompts) {
        return;
    }
    let at = prompt * SEARCH_WORDS;
    for (var word = 0u; word < SEARCH_WORDS; word++) {
        search[at + word] = 0u;
    }
    search[at + TARGET] = params.n;
    for (var beam = 0u; beam < params.n_beams; beam++) {
        if (status[(prompt * params.n_beams + beam) * STATUS_WORDS] != 0u) {
            search[at + PHASE] = REFUSED;
        }
    }
}
