// write.wgsl: whether tokens may be written (a snippet, prepended to the kernels that write them).

// What was refused: [0] a slot, [1] a key, [2] a value; 0 where nothing was.
@group(0) @binding(2) var<storage, read> status: array<u32>;

fn is_refused() -> bool {
    return (status[0] | status[1] | status[2]) != 0u;
}
