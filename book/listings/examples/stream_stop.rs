//! A stop string that comes in pieces, and one that only seems to.

use llm_sampling::SamplingError;
use llm_sampling::stream::{StopStreamer, StopStrings, StopText};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: stop
    let stops = StopStrings::new(&["</answer>"])?;
    let mut streamer = StopStreamer::new(stops, StopText::Drop);
    for token in ["1 <", " 2", " </an", "d", " 3 <</ans", "wer> 4"] {
        let text = streamer.push(token.as_bytes());
        println!("{token:?} gives {text:?}, holds {:?}", streamer.held());
    }
    println!("stopped by string {:?}", streamer.stopped());
    // ANCHOR_END: stop
    Ok(())
}
