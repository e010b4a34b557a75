//! Stop strings of any kind in bytes of any kind, cut anywhere: the text that looking at every beginning finds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_sampling::SamplingError;
use llm_sampling::reference::stop_strings as reference;
use llm_sampling::stream::{StopStreamer, StopStrings, StopText};

fuzz_target!(|input: (Vec<String>, Vec<Vec<u8>>, bool)| {
    let (strings, pieces, include) = input;
    let stops = match StopStrings::new(&strings) {
        Ok(stops) => stops,
        Err(SamplingError::EmptyStopString(i)) => {
            assert!(strings[i].is_empty());
            return;
        }
        Err(other) => panic!("undocumented: {other}"),
    };
    let stop_text = if include {
        StopText::Include
    } else {
        StopText::Drop
    };
    let mut streamer = StopStreamer::new(stops, stop_text);
    let mut text = String::new();
    for piece in &pieces {
        text.push_str(&streamer.push(piece));
    }
    text.push_str(&streamer.finish());
    let all = pieces.concat();
    if all.len() > 256 {
        return; // the reference takes the square of that
    }
    let whole = String::from_utf8_lossy(&all);
    assert_eq!(
        (text, streamer.stopped()),
        reference::cut(&whole, &strings, include)
    );
});
