//! `devices`: honest about what is there.

use crate::program::{json, succeed};

#[test]
fn the_processor_is_shown_and_each_adapter_or_none() {
    let text = succeed(&["devices"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("cpu  "), "{text}");
    assert!(lines.len() >= 2, "{text}");
    for line in &lines[1..] {
        assert!(line.starts_with("gpu  "), "{text}");
    }
}

#[test]
fn json_has_the_threads_that_were_asked_for() {
    let object = json(&["devices", "--threads", "3"]);
    assert_eq!(object["cpu"]["threads"], 3);
    assert!(object["cpu"]["processors"].as_u64().unwrap() >= 1);
    for adapter in object["gpu"]["adapters"].as_array().unwrap() {
        assert!(adapter["name"].is_string() && adapter["software"].is_boolean());
        assert!(adapter["binding_bytes"].as_u64().unwrap() >= 1 << 20);
    }
}
