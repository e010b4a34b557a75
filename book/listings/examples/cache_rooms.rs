//! What eight sequences of a thousand tokens take in each store, for Llama 3 8B in 16 bits.

use llm_kvcache::KvCacheError;
use llm_kvcache::calculator::{Room, batch_bytes, bytes_per_token};

fn main() -> Result<(), KvCacheError> {
    // ANCHOR: rooms
    let token = bytes_per_token(32, 8, 128, 2)?; // 32 layers, 8 key-value heads of 128
    println!("{token} bytes a token");
    let (window, slack) = (512, 0);
    let rooms = [
        (
            "contiguous, room for 8192",
            Room::Contiguous { capacity: 8192 },
        ),
        ("pages of 256", Room::Paged { page_size: 256 }),
        ("pages of 16", Room::Paged { page_size: 16 }),
        (
            "sinks and a window",
            Room::Sinks {
                n_sinks: 4,
                window,
                slack,
            },
        ),
        ("ring", Room::Ring { window, slack }),
    ];
    for (name, room) in rooms {
        let mebibytes = batch_bytes(token, 8, 1000, room)? >> 20;
        println!(
            "{name:25}  {:4} tokens each, {mebibytes:5} MiB",
            room.tokens(1000)
        );
    }
    // ANCHOR_END: rooms
    Ok(())
}
