//! Both loop orders and the standard form: results, counts, and what the papers say of them.

use llm_attention::io_count::{self, IoCount, Sizes, Tiles};
use llm_attention::ndarray::{Array1, Array2, Array4, Axis, s};
use llm_attention::{AttentionConfig, AttentionError, Mask, reference};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::Tolerance;
use proptest::prelude::*;

use crate::cases::close;

/// Scores of 100 at most, so weights err by 1e-14 of themselves; sums of 30 values.
const F64: Tolerance = Tolerance::new(1e-11, 1e-11);

fn draw(shape: [usize; 2], key: u64, stream: u64) -> Array2<f64> {
    let random = Philox4x32::new(key);
    let mut i = 0;
    Array2::from_shape_simple_fn(shape, || {
        i += 1;
        random.normal_f64(stream, i)
    })
}

/// Any sizes, zero included, and any tiles.
fn cases() -> impl Strategy<Value = (Sizes, Tiles, u64)> {
    let sizes = (0_usize..30, 0_usize..30, 0_usize..8, 0_usize..8);
    let tile = || prop_oneof![8 => 1_usize..12, 1 => Just(usize::MAX)];
    (sizes, tile(), tile(), any::<u64>()).prop_map(
        |((seq, kv_seq, head_dim, value_dim), query_tile, key_tile, key)| {
            let sizes = Sizes {
                seq,
                kv_seq,
                head_dim,
                value_dim,
            };
            (
                sizes,
                Tiles {
                    query_tile,
                    key_tile,
                },
                key,
            )
        },
    )
}

fn arrays(sizes: Sizes, key: u64) -> [Array2<f64>; 3] {
    let Sizes {
        seq,
        kv_seq,
        head_dim,
        value_dim,
    } = sizes;
    [
        draw([seq, head_dim], key, 0),
        draw([kv_seq, head_dim], key, 1),
        draw([kv_seq, value_dim], key, 2),
    ]
}

proptest! {
    // ANCHOR: law
    /// All three are attention.
    #[test]
    fn all_equal_the_reference((sizes, tiles, key) in cases()) {
        let [q, k, v] = arrays(sizes, key);
        let one_head = |x: &Array2<f64>| -> Array4<f64> {
            x.clone().insert_axis(Axis(0)).insert_axis(Axis(0))
        };
        let config = AttentionConfig::new(Mask::Full);
        let (want, want_lse) =
            reference::attention::forward(&one_head(&q), &one_head(&k), &one_head(&v), &config).unwrap();
        let want = want.slice(s![0, 0, .., ..]).to_owned();
        let (out, _) = io_count::standard(&q, &k, &v).unwrap();
        close(&out, &want, F64)?;
        let (out, _) = io_count::flash1(&q, &k, &v, tiles).unwrap();
        close(&out, &want, F64)?;
        let (out, lse, _) = io_count::flash2(&q, &k, &v, tiles).unwrap();
        close(&out, &want, F64)?;
        let want_lse: Array1<f64> = want_lse.slice(s![0, 0, ..]).to_owned();
        close(&lse, &want_lse, F64)?;
    }
    // ANCHOR_END: law

    /// What was counted on the way is what the sums in the documentation say.
    #[test]
    fn counts_equal_the_sums((sizes, tiles, key) in cases()) {
        let [q, k, v] = arrays(sizes, key);
        let (_, io) = io_count::standard(&q, &k, &v).unwrap();
        prop_assert_eq!(io, IoCount::of_standard(sizes));
        let (_, io) = io_count::flash1(&q, &k, &v, tiles).unwrap();
        prop_assert_eq!(io, IoCount::of_flash1(sizes, tiles));
        let (_, _, io) = io_count::flash2(&q, &k, &v, tiles).unwrap();
        prop_assert_eq!(io, IoCount::of_flash2(sizes, tiles));
    }

    /// What must be moved in any case: inputs read once, results written once.
    #[test]
    fn nothing_moves_less_than_inputs_and_results((sizes, tiles, _) in cases()) {
        let Sizes { seq, kv_seq, head_dim, value_dim } = sizes;
        prop_assume!(seq > 0 && kv_seq > 0);
        let inputs = seq * head_dim + kv_seq * (head_dim + value_dim);
        for io in [
            IoCount::of_standard(sizes),
            IoCount::of_flash1(sizes, tiles),
            IoCount::of_flash2(sizes, tiles),
        ] {
            prop_assert!(io.read >= inputs && io.written >= seq * value_dim);
        }
        // The second generation writes nothing twice, whatever the tiles.
        prop_assert_eq!(IoCount::of_flash2(sizes, tiles).written, seq * (value_dim + 1));
    }
}

fn square(n: usize, d: usize) -> Sizes {
    Sizes {
        seq: n,
        kv_seq: n,
        head_dim: d,
        value_dim: d,
    }
}

// Theorem 2 of the first paper: standard attention moves Θ(N d + N²) elements, FlashAttention
// Θ(N² d² / M), for d <= M <= N d. With c = r = 4 N d / M, for sizes that divide, and X = N² d² / M:
//   standard  4 N² + 4 N d
//   first     c N (3 d + 4) + N (3 d + 2) = 12 X + 16 / d X + (3 + 2 / d) M / (N d) X
//   second    2 r N d + N (2 d + 1)       =  8 X + (2 + 1 / d) M / (N d) X
#[test]
fn the_theorem_of_the_paper() {
    for d in [32, 64, 128] {
        for n in [1 << 12, 1 << 14, 1 << 16] {
            let sizes = square(n, d);
            let standard = IoCount::of_standard(sizes).total();
            assert_eq!(standard, 4 * n * n + 4 * n * d);
            for memory in [1 << 15, 1 << 16, 1 << 17] {
                let x = n as f64 * n as f64 * (d * d) as f64 / memory as f64;
                let once = memory as f64 / (n * d) as f64;
                let flash1 = IoCount::of_flash1(sizes, Tiles::for_flash1(memory, d)).total();
                let flash2 = IoCount::of_flash2(sizes, Tiles::for_flash2(memory, d)).total();
                let (first, second) = (flash1 as f64 / x, flash2 as f64 / x);
                assert!(12.0 < first && first <= 12.0 + 16.0 / d as f64 + 4.0 * once);
                assert!(8.0 < second && second <= 8.0 + 3.0 * once);
                assert!(flash2 < flash1);
                // 12 d² / M < 4: a head of 128 does not gain from 2^15 elements.
                assert_eq!(flash1 < standard, 3 * d * d < memory, "{d} {n} {memory}");
            }
        }
    }
}

// Twice the memory, half the traffic; twice the tokens, four times the traffic. The standard form
// gains nothing from memory.
#[test]
fn memory_halves_the_traffic() {
    let total = |n, memory| {
        let sizes = square(n, 64);
        [
            IoCount::of_flash1(sizes, Tiles::for_flash1(memory, 64)).total() as f64,
            IoCount::of_flash2(sizes, Tiles::for_flash2(memory, 64)).total() as f64,
        ]
    };
    let n = 1 << 16;
    let (less, more, longer) = (total(n, 1 << 16), total(n, 1 << 17), total(2 * n, 1 << 16));
    for m in [0, 1] {
        assert!((less[m] / more[m] - 2.0).abs() < 0.02);
        assert!((longer[m] / less[m] - 4.0).abs() < 0.02);
    }
}

// Queries in the outer loop, but the tiles of the first paper: at most head_dim queries, so keys
// and values are read N / d times, 2 N² elements, however much memory there is.
#[test]
fn the_outer_loop_needs_the_large_tile() {
    let sizes = square(1 << 14, 64);
    let read = |memory| IoCount::of_flash2(sizes, Tiles::for_flash1(memory, 64)).read;
    assert_eq!(read(1 << 16), read(1 << 20));
    assert_eq!(read(1 << 16), (1 << 14) * 64 + 2 * (1 << 28));
}

#[test]
fn tiles_of_a_memory() {
    let tiles = |query_tile, key_tile| Tiles {
        query_tile,
        key_tile,
    };
    assert_eq!(Tiles::for_flash1(1000, 64), tiles(4, 4)); // ceil(1000 / 256)
    assert_eq!(Tiles::for_flash1(1 << 16, 64), tiles(64, 256));
    assert_eq!(Tiles::for_flash2(1 << 16, 64), tiles(256, 64));
    assert_eq!(Tiles::for_flash1(0, 64), tiles(1, 1));
    assert_eq!(Tiles::for_flash1(7, 0), tiles(1, 7));
    assert_eq!(Tiles::for_flash1(usize::MAX, usize::MAX), tiles(1, 1));
}

#[test]
fn totals_do_not_overflow() {
    let huge = square(usize::MAX, 2);
    let tiles = Tiles {
        query_tile: 1,
        key_tile: 1,
    };
    for io in [
        IoCount::of_standard(huge),
        IoCount::of_flash1(huge, tiles),
        IoCount::of_flash2(huge, tiles),
    ] {
        assert_eq!(io.total(), usize::MAX);
    }
}

#[test]
fn tiles_must_have_rows() {
    let x = Array2::ones((3, 2));
    for (query_tile, key_tile) in [(0, 1), (1, 0)] {
        let tiles = Tiles {
            query_tile,
            key_tile,
        };
        let want = AttentionError::Tile {
            query_tile,
            key_tile,
        };
        assert_eq!(io_count::flash1(&x, &x, &x, tiles).unwrap_err(), want);
        assert_eq!(io_count::flash2(&x, &x, &x, tiles).unwrap_err(), want);
    }
}

#[test]
fn matrices_must_fit() {
    let (q, k) = (Array2::ones((3, 2)), Array2::ones((5, 2)));
    let tiles = Tiles {
        query_tile: 1,
        key_tile: 1,
    };
    let run = |k: &Array2<f64>, v: &Array2<f64>| {
        let error = io_count::standard(&q, k, v).unwrap_err();
        assert_eq!(io_count::flash1(&q, k, v, tiles).unwrap_err(), error);
        assert_eq!(io_count::flash2(&q, k, v, tiles).unwrap_err(), error);
        error
    };
    let shape = |name, expected, got| AttentionError::MatrixShape {
        name,
        expected,
        got,
    };
    let (wide, long) = (Array2::ones((5, 4)), Array2::ones((6, 4)));
    assert_eq!(run(&wide, &k), shape("k", [5, 2], [5, 4]));
    assert_eq!(run(&k, &long), shape("v", [5, 4], [6, 4]));
    assert_eq!(
        shape("v", [5, 4], [6, 4]).to_string(),
        "v must have shape [5, 4], got [6, 4]"
    );
}

#[cfg(target_pointer_width = "64")]
#[test]
fn scores_must_fit_into_memory() {
    let x = Array2::<f64>::ones((1, 1));
    let long = x.broadcast((1 << 60, 1)).unwrap();
    let shape = [1, 1, 1 << 60, 1];
    let got = io_count::standard(&long, &x, &x);
    assert_eq!(got.unwrap_err(), AttentionError::TooLarge { shape });
    // Long keys, of which a copy would be made.
    let tile = Tiles {
        query_tile: 1,
        key_tile: 1,
    };
    for got in [
        io_count::standard(&x, &long, &long),
        io_count::flash1(&x, &long, &long, tile),
        io_count::flash2(&x, &long, &long, tile).map(|(out, _, count)| (out, count)),
    ] {
        assert_eq!(got.unwrap_err(), AttentionError::TooLarge { shape });
    }
}
