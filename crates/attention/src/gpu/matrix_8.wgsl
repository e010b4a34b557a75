// matrix_8.wgsl: the cooperative matrices of devices that have 8 x 8 x 8 (a snippet, prepended to kernels).

const MATRIX: u32 = 8u;
alias LeftMatrix = coop_mat8x8<f16, A>;
alias RightMatrix = coop_mat8x8<f16, B>;
alias SumMatrix = coop_mat8x8<f32, C>;
