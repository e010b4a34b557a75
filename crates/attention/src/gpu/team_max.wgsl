// team_max.wgsl: the largest number of a team of teams.wgsl (a snippet, prepended to kernels).

fn team_max(x: vec4<f32>) -> vec4<f32> {
    var largest = x;
    for (var step = 1u; step < TEAM; step *= 2u) {
        largest = max(largest, subgroupShuffleXor(largest, step));
    }
    return largest;
}
