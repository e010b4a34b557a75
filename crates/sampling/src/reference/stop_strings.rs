//! Stop strings by looking at every beginning of the text.

// ANCHOR: cut
/// The text up to the first stop string to be complete (of those that end together, the longest), and which one that is.
#[must_use]
pub fn cut(text: &str, stops: &[String], include: bool) -> (String, Option<usize>) {
    for end in 0..=text.len() {
        let Some(so_far) = text.get(..end) else {
            continue; // in the middle of a character
        };
        let mut longest: Option<usize> = None;
        for (i, stop) in stops.iter().enumerate() {
            if so_far.ends_with(stop.as_str())
                && longest.is_none_or(|best| stop.len() > stops[best].len())
            {
                longest = Some(i);
            }
        }
        if let Some(i) = longest {
            let end = if include { end } else { end - stops[i].len() };
            return (text[..end].to_owned(), Some(i));
        }
    }
    (text.to_owned(), None)
}
// ANCHOR_END: cut
