//! Counts how many positions of a context are left when they are kept in half precision.

use llm_numerics::half::{bf16, f16};
use llm_posenc::positions::{collisions, first_collision, positions_in};
use ndarray::array;

fn main() -> Result<(), llm_posenc::PosencError> {
    let positions = array![255, 256, 257, 258, 259];
    println!(
        "{positions} in bfloat16: {}",
        positions_in::<bf16>(&positions)?
    );
    println!(
        "first collision: bfloat16 {:?}, float16 {:?}",
        first_collision::<bf16>(),
        first_collision::<f16>()
    );
    println!("context   bfloat16    float16");
    for context in [256, 2048, 4096, 32_768, 131_072] {
        let lost = |collisions: &mut dyn Iterator<Item = llm_posenc::positions::Collision>| {
            collisions.map(|c| c.last - c.first).sum::<usize>()
        };
        let bf16 = context - lost(&mut collisions::<bf16>(0..context));
        let f16 = context - lost(&mut collisions::<f16>(0..context));
        println!("{context:7} {bf16:10} {f16:10}");
        assert!(bf16 <= context && (context > 2048 || f16 == context));
    }
    Ok(())
}
