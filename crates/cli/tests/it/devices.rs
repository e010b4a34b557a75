//! `devices`: honest about what is there.

use crate::program::{json, succeed};

#[test]
fn the_processor_is_shown_and_no_gpu_is_promised() {
    let text = succeed(&["devices"]);
    assert!(text.starts_with("cpu  "), "{text}");
    assert!(text.contains("no GPU part"), "{text}");
}

#[test]
fn json_has_the_threads_that_were_asked_for() {
    let object = json(&["devices", "--threads", "3"]);
    assert_eq!(object["cpu"]["threads"], 3);
    assert!(object["cpu"]["processors"].as_u64().unwrap() >= 1);
    assert_eq!(object["gpu"]["built_in"], false);
    assert_eq!(object["gpu"]["adapters"].as_array().unwrap().len(), 0);
}
