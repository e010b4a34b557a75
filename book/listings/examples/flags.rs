//! Flags of `generate`, and the mode that they ask for.

use llm_sampling::huggingface::{ModeFlags, mode};

fn main() {
    // ANCHOR: flags
    type Set = fn(&mut ModeFlags);
    let all: [(&str, Set); 10] = [
        ("", |_| {}),
        ("penalty_alpha=0.6 top_k=4", |f| {
            (f.penalty_alpha, f.top_k) = (Some(0.6), Some(4));
        }),
        ("do_sample", |f| f.do_sample = true),
        ("num_beams=4", |f| f.num_beams = Some(4)),
        ("num_beams=4 do_sample", |f| {
            (f.num_beams, f.do_sample) = (Some(4), true);
        }),
        ("num_beams=4 num_beam_groups=2", |f| {
            (f.num_beams, f.num_beam_groups) = (Some(4), Some(2));
        }),
        ("num_beams=4 force_words_ids", |f| {
            (f.num_beams, f.force_words_ids) = (Some(4), true);
        }),
        ("force_words_ids", |f| f.force_words_ids = true),
        ("num_beams=4 penalty_alpha=0.6 top_k=4", |f| {
            (f.num_beams, f.penalty_alpha, f.top_k) = (Some(4), Some(0.6), Some(4));
        }),
        ("prompt_lookup_num_tokens=3", |f| {
            f.prompt_lookup_num_tokens = Some(3);
        }),
    ];
    for (written, set) in all {
        let mut flags = ModeFlags::default();
        set(&mut flags);
        match mode(&flags) {
            Ok(mode) => println!("[{written}] {mode:?}"),
            Err(error) => println!("[{written}] error: {error}"),
        }
    }
    // ANCHOR_END: flags
}
