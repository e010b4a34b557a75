// tanh.wgsl: the hyperbolic tangent of the softcap (a snippet, prepended to kernels).

// Right in its last digits near zero, and without overflow far from it; devices' own may fail at either.
fn score_tanh(x: f32) -> f32 {
    let size = abs(x);
    if (size < 0.25) {
        let square = x * x;
        return x * (1.0 + square * (-0.33333334 + square * (0.13333334 + square * (-0.053968254 + square * 0.021869488))));
    }
    return sign(x) * (1.0 - 2.0 / (exp(2.0 * min(size, 20.0)) + 1.0));
}
