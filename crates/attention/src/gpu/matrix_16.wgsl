// matrix_16.wgsl: the cooperative matrices of devices that have 16 x 16 x 16 (a snippet, prepended to kernels).

const MATRIX: u32 = 16u;
alias LeftMatrix = coop_mat16x16<f16, A>;
alias RightMatrix = coop_mat16x16<f16, B>;
alias SumMatrix = coop_mat16x16<f32, C>;
