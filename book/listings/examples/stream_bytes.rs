//! Characters that are cut by the borders of tokens.

use llm_sampling::stream::TextStreamer;

fn main() {
    // ANCHOR: bytes
    let tokens: [&[u8]; 4] = [b"caf\xC3", b"\xA9 \xE7", b"\x8C", b"\xAB!"];
    let mut streamer = TextStreamer::new();
    for token in tokens {
        let alone = String::from_utf8_lossy(token);
        let streamed = streamer.push(token);
        println!("alone {alone:?}, streamed {streamed:?}");
    }
    println!("at the end {:?}", streamer.finish());
    // ANCHOR_END: bytes
}
