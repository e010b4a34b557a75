// signed.wgsl: sums of f32 of any sign, by their bits, as IEEE 754 rounds them.
//
// A kernel that includes this includes single.wgsl too.

const MAGNITUDE: u32 = 0x7fffffffu;
const SIGN: u32 = 0x80000000u;
const NAN: u32 = 0x7fc00000u;

fn signed_sum(a: u32, b: u32) -> u32 {
    let x = a & MAGNITUDE;
    let y = b & MAGNITUDE;
    let is_same_sign = (a & SIGN) == (b & SIGN);
    if (max(x, y) >= INFINITY) {
        if (max(x, y) > INFINITY || (x == y && !is_same_sign)) {
            return NAN;
        }
        return select(b, a, x == INFINITY);
    }
    if (is_same_sign) {
        return single_sum(x, y) | (a & SIGN);
    }
    let distance = single_distance(x, y);
    if (distance == 0u) {
        return 0u; // whatever the signs
    }
    return distance | (select(b, a, x > y) & SIGN);
}
