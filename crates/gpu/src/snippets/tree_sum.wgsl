// tree_sum.wgsl: the sum over the invocations of a workgroup, in a fixed order.

// The kernel has workgroups of so many invocations, and 4 * TREE_INVOCATIONS bytes of workgroup memory for this.
const TREE_INVOCATIONS: u32 = 64u; // a power of two

var<workgroup> tree_partial: array<f32, TREE_INVOCATIONS>;

// All invocations of the workgroup get the sum of what they gave. All of them have to call it: it has barriers.
fn tree_sum(local_index: u32, value: f32) -> f32 {
    tree_partial[local_index] = value;
    for (var width = TREE_INVOCATIONS / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if local_index < width {
            tree_partial[local_index] += tree_partial[local_index + width];
        }
    }
    // With a barrier before and one after, so that the next call may write.
    return workgroupUniformLoad(&tree_partial[0]);
}
