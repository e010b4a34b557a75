// linear.wgsl: the place of a workgroup or an invocation in a grid that the host may have folded.
//
// Both saturate at 0xffffffff instead of wrapping around, so that `if index >= n` holds for all that lies beyond the end of a grid which
// covers n items: no n is above 0xffffffff.

// Workgroups before this one, x fastest.
fn linear_workgroup(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>) -> u32 {
    let row = linear_mul_add(workgroup_id.z, num_workgroups.y, workgroup_id.y);
    return linear_mul_add(row, num_workgroups.x, workgroup_id.x);
}

// Invocations before this one, for a workgroup of `workgroup_size` invocations.
fn linear_invocation(workgroup_id: vec3<u32>, local_index: u32, workgroup_size: u32, num_workgroups: vec3<u32>) -> u32 {
    return linear_mul_add(linear_workgroup(workgroup_id, num_workgroups), workgroup_size, local_index);
}

// min(a * b + c, 0xffffffff) for b > 0.
fn linear_mul_add(a: u32, b: u32, c: u32) -> u32 {
    if a > (0xffffffffu - c) / b {
        return 0xffffffffu;
    }
    return a * b + c;
}
