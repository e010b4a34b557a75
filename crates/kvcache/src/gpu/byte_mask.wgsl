// byte_mask.wgsl: which bytes of a word are meant (a snippet, prepended to kernels).

// The bytes of word `word` that are among the `n` from byte `first` on.
fn byte_mask(word: u32, first: u32, n: u32) -> u32 {
    var mask = 0u;
    for (var i = 0u; i < 4u; i++) {
        if (4u * word + i - first < n) { // wraps around before the first
            mask |= 0xffu << (8u * i);
        }
    }
    return mask;
}
