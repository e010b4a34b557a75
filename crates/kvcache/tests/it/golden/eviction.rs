//! Eviction policies by hand.

use llm_kvcache::eviction::{SnapKvConfig, accumulate, heavy_hitters, snapkv, window};
use ndarray::{array, stack};

#[test]
fn a_window_by_hand() {
    assert_eq!(window(7, 1, 2), [0, 5, 6]);
    assert!(window(7, 0, 0).is_empty());
    assert_eq!(window(3, 9, 0), [0, 1, 2]);
}

/// Two heads, three queries that see one key more each:
///
/// ```text
/// head 0: [1, 0, 0], [1/2, 1/2, 0], [1/4, 1/4, 1/2]
/// head 1: [1, 0, 0], [3/4, 1/4, 0], [1/2, 0, 1/2]
/// sums:   1 + 1/2 + 1/4 + 1 + 3/4 + 1/2 = 4;  1/2 + 1/4 + 1/4 = 1;  1/2 + 1/2 = 1
/// ```
///
/// Then a query that gives 0.1, 0.1, 0.2, 0.6 in one head: 4.1, 1.1, 1.2, 0.6. With one heavy hitter and one recent
/// token, 0 and 3 remain; with two, 2 remains too, since 1.2 > 1.1.
#[test]
fn heavy_hitters_by_hand() {
    let mut scores = Vec::new();
    let head_0 = array![[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]];
    let head_1 = array![[1.0, 0.0, 0.0], [0.75, 0.25, 0.0], [0.5, 0.0, 0.5]];
    let weights = stack![ndarray::Axis(0), head_0, head_1];
    accumulate(&mut scores, &weights).unwrap();
    assert_eq!(scores, [4.0, 1.0, 1.0]);
    // 1 and 2 are equal: the later one stays.
    assert_eq!(heavy_hitters(&scores, 2, 0).unwrap(), [0, 2]);
    accumulate(&mut scores, &array![[[0.1, 0.1, 0.2, 0.6]]]).unwrap();
    assert_eq!(heavy_hitters(&scores, 1, 1).unwrap(), [0, 3]);
    assert_eq!(heavy_hitters(&scores, 2, 1).unwrap(), [0, 2, 3]);
    assert_eq!(heavy_hitters(&scores, 0, 9).unwrap(), [0, 1, 2, 3]);
    // Zeros of both signs are equal.
    assert_eq!(heavy_hitters(&[0.0, -0.0], 1, 0).unwrap(), [1]);
    assert_eq!(heavy_hitters(&[-0.0, 0.0], 1, 0).unwrap(), [1]);
}

/// Two queries over eight keys, the last two of them their own. Votes of the six older ones:
///
/// ```text
/// [0.1, 0.0, 0.3, 0.0, 0.0, 0.2]  +  [0.1, 0.1, 0.3, 0.0, 0.1, 0.0]  =  [0.2, 0.1, 0.6, 0.0, 0.1, 0.2]
/// pools of 3:  [0.2, 0.6, 0.6, 0.6, 0.2, 0.2]
/// ```
///
/// Three places beside the two of the window: 1, 2, 3. Without pooling (kernel 1) they are 2, then 0 and 5 with 0.2.
/// Four places with pooling: of 0.2 at 0, 4 and 5 the last.
#[test]
fn snapkv_by_hand() {
    let weights = array![[
        [0.1, 0.0, 0.3, 0.0, 0.0, 0.2, 0.4, 0.0],
        [0.1, 0.1, 0.3, 0.0, 0.1, 0.0, 0.2, 0.2],
    ]];
    let keep = |budget, kernel| snapkv(&weights, &SnapKvConfig::new(budget, 2, kernel)).unwrap();
    assert_eq!(keep(5, 3), [1, 2, 3, 6, 7]);
    assert_eq!(keep(5, 1), [0, 2, 5, 6, 7]);
    assert_eq!(keep(6, 3), [1, 2, 3, 5, 6, 7]);
    assert_eq!(keep(2, 3), [6, 7]);
    assert_eq!(keep(8, 3), [0, 1, 2, 3, 4, 5, 6, 7]);
}
