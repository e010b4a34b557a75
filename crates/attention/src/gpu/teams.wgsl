// teams.wgsl: what neighboring lanes of a subgroup have together (a snippet, prepended to kernels, which say how many: TEAM, a power
// of two; every subgroup must have as many lanes).

// The place of an invocation in its workgroup, by which neighbors are neighboring lanes of one subgroup. How invocations are
// dealt to subgroups is up to the driver, but for that it fills them.
fn role_of(subgroup: u32, lane: u32, subgroup_size: u32) -> u32 {
    return subgroup * subgroup_size + lane;
}

// The same bits in each lane of a team: both partners of a step add the same two numbers.
fn team_sum(x: vec4<f32>) -> vec4<f32> {
    var sum = x;
    for (var step = 1u; step < TEAM; step *= 2u) {
        sum += subgroupShuffleXor(sum, step);
    }
    return sum;
}
