//! Exercise of the page on streaming: what must wait.

// ANCHOR: exercise
/// The end of the text that may be the beginning of a stop string: the longest one. Empty if there is none.
#[must_use]
pub fn held_back<'a>(text: &'a str, stops: &[&str]) -> &'a str {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let starts = text.char_indices().map(|(start, _)| start);
    let mut ends = starts.map(|start| &text[start..]); // the longest first
    ends.find(|end| stops.iter().any(|stop| stop.starts_with(end)))
        .unwrap_or("")
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_sampling::stream::{StopStreamer, StopStrings, StopText};

    use super::held_back;

    // ANCHOR: tests
    #[test]
    fn only_a_beginning_waits() {
        assert_eq!(held_back("1 < 2", &["</end>"]), "");
        assert_eq!(held_back("1 <", &["</end>"]), "<");
        assert_eq!(held_back("a </e", &["</end>"]), "</e");
        assert_eq!(held_back("aab", &["abc", "bx"]), "ab");
        assert_eq!(held_back("né", &["éa"]), "é");
    }

    #[test]
    fn the_crate_agrees() {
        let stops = ["aabc", "bca"];
        let text = "abaabaabbcbaab";
        let mut streamer = StopStreamer::new(StopStrings::new(&stops).unwrap(), StopText::Drop);
        for (i, letter) in text.char_indices() {
            streamer.push(letter.to_string().as_bytes());
            assert_eq!(streamer.held(), held_back(&text[..=i], &stops));
        }
        assert_eq!(streamer.stopped(), None);
    }
    // ANCHOR_END: tests
}
