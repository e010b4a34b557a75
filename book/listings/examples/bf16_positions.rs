//! The article's collision: positions that bfloat16 and float16 cannot tell apart.

use llm_numerics::half::{bf16, f16};
use llm_posenc::positions::{first_collision, positions_in};
use ndarray::array;

fn main() -> Result<(), llm_posenc::PosencError> {
    // ANCHOR: collision
    let positions = array![255, 256, 257, 258, 259];
    println!("integers {positions}");
    println!("bfloat16 {}", positions_in::<bf16>(&positions)?);
    println!("float16  {}", positions_in::<f16>(&positions)?);
    println!("float32  {}", positions_in::<f32>(&positions)?);
    // ANCHOR_END: collision
    println!();
    println!("first position that equals the next one:");
    println!("bfloat16 {:?}", first_collision::<bf16>());
    println!("float16  {:?}", first_collision::<f16>());
    println!("float32  {:?}", first_collision::<f32>());
    Ok(())
}
