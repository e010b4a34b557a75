//! What each scaling does to the frequencies, as a share of the plain ones.

use std::error::Error;

use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeScaling, YarnConfig};

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: scalings
    // A model that was trained on 2048 tokens reads 8192.
    let config = RopeConfig::new(64, RopePairing::HalfSplit);
    let plain = rope::inv_freq(&config)?;
    let scalings = [
        ("linear", RopeScaling::Linear { factor: 4.0 }),
        ("NTK-aware", RopeScaling::StaticNtk { alpha: 4.0 }),
        (
            "dynamic NTK",
            RopeScaling::DynamicNtk {
                factor: 4.0,
                max_position_embeddings: 2048,
            },
        ),
        (
            "YaRN",
            RopeScaling::Yarn(YarnConfig::hugging_face(4.0, 2048)),
        ),
        (
            "Llama 3.1",
            RopeScaling::Llama3 {
                factor: 4.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 2048,
            },
        ),
    ];
    println!("share of plane  0     8    16    20    24    31   factor");
    for (name, scaling) in &scalings {
        let scaled = rope::frequencies(&config, scaling, Some(8192))?;
        print!("{name:12}");
        for i in [0, 8, 16, 20, 24, 31] {
            print!("{:6.3}", scaled.inv_freq[i] / plain[i]);
        }
        println!("{:9.3}", scaled.attention_factor);
    }
    // ANCHOR_END: scalings
    Ok(())
}
