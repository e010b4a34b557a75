// kerple_score.wgsl: KERPLE's bias of one score (a snippet, prepended to kernels; also for attention kernels elsewhere).

// `kernel` as in src/kerple.rs `KerpleKernel`: 0 = logarithmic, 1 = power; `distance` is not negative.
fn kerple_score_bias(r1: f32, r2: f32, distance: f32, kernel: u32) -> f32 {
    if (distance == 0.0) {
        return 0.0;
    }
    if (kernel == 0u) {
        return -r1 * log(1.0 + r2 * distance);
    }
    return -r1 * exp2(r2 * log2(distance));
}

// The derivatives of the bias by r1 and r2.
fn kerple_gradient(r1: f32, r2: f32, distance: f32, kernel: u32) -> vec2<f32> {
    if (distance == 0.0) {
        return vec2<f32>(0.0, 0.0);
    }
    if (kernel == 0u) {
        let inner = 1.0 + r2 * distance;
        return vec2<f32>(-log(inner), -r1 * distance / inner);
    }
    let power = exp2(r2 * log2(distance));
    return vec2<f32>(-power, -r1 * power * log(distance));
}
