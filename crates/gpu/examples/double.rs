//! A kernel of your own in twenty lines: doubles each number on the GPU.

use llm_gpu::{Access, Gpu, GpuError, GpuOptions, Grid, Kernel, Needs};

static DOUBLE: Kernel = Kernel {
    name: "double",
    source: "
        @group(0) @binding(1) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(64)
        fn double(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&x) { x[id.x] = 2.0 * x[id.x]; }
        }",
    snippets: &[],
    bindings: &[Access::Write],
    params_size: 0,
    constants: &[],
    needs: Needs::CORE,
};

fn main() -> Result<(), GpuError> {
    let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
        Ok(gpu) => gpu,
        Err(error @ GpuError::NoAdapter { .. }) => {
            println!("{error}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    println!(
        "on {} by {}",
        gpu.capabilities().name,
        gpu.capabilities().backend
    );
    let x = gpu.upload(&ndarray::array![1.0_f32, 2.5, -4.0])?;
    let mut recorder = gpu.recorder();
    recorder.dispatch(&DOUBLE, &[], &(), &[x.write()], Grid::linear(x.len(), 64)?)?;
    recorder.submit()?;
    println!("{}", x.download_blocking()?);
    Ok(())
}
