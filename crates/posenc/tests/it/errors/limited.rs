//! Where memory has room for a result but not for a list beside it: an error, not an abort.
//!
//! A process of its own, with a limit on its addresses, takes all of them but 128 MiB.

use std::hint::black_box;
use std::process::Command;

use llm_posenc::PosencError;
use llm_posenc::alibi::{self, AlibiOrigin};
use llm_posenc::kerple::{self, KerpleKernel};
use llm_posenc::rope::axes::{self, MropeVariant};
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeScaling};
use llm_posenc::t5::{self, T5Config, T5Direction};
use ndarray::{Array2, Array3, array};

/// An allocator may have up to 64 MiB more in hand: no list below fits there.
const LEFT: usize = 128 << 20;

/// Set in the process whose memory is limited.
const IS_LIMITED: &str = "LLM_POSENC_IS_LIMITED";

#[test]
fn lists_beside_the_result_are_refused_where_there_is_no_room() {
    if std::env::var_os(IS_LIMITED).is_some() {
        return limited();
    }
    let name = "errors::limited::lists_beside_the_result_are_refused_where_there_is_no_room";
    let script = "ulimit -v 4000000 && exec \"$0\" --exact \"$1\"";
    let me = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(me)
        .arg(name)
        .env(IS_LIMITED, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

fn limited() {
    let lengths = vec![5; 3 << 20];
    let taken = all_but(LEFT);
    let origin = AlibiOrigin::SignedDistance;
    let (one, n) = (array![1.0_f32], 20 << 20); // 80 MiB

    let shape = [1, n, 1];
    let want = PosencError::BiasTooLarge { shape };
    let error = alibi::bias(&one, n, 1, origin).unwrap_err();
    assert_eq!(error, want);
    let error = kerple::bias(&one, &one, n, 1, KerpleKernel::Power).unwrap_err();
    assert_eq!(error, want);
    // A single query is written where it belongs.
    let bias = alibi::bias(&one, 1, n, origin).unwrap();
    assert_eq!(bias[[0, 0, 0]], 1.0 - n as f32);
    drop(bias);

    // Fewer buckets than entries.
    let config = T5Config::new(4, 8, T5Direction::Causal).unwrap();
    let table = Array2::<f32>::ones((4, 1));
    let (seq, kv_seq) = (5 << 10, 5 << 10); // 100 MiB
    let bias = t5::bias(&table, seq, kv_seq, 0, &config).unwrap();
    assert_eq!(bias[[0, seq - 1, 0]], 1.0);
    drop(bias);
    let error = t5::bias(&table, n, 1, 0, &config).unwrap_err();
    assert_eq!(error, want);

    // Three columns of positions take 120 MiB, the table 40: whether that fits is the allocator's business.
    let zero = Array3::<usize>::zeros((1, 1, 1));
    let rows = 5 << 20;
    let positions = zero.broadcast((3, 1, rows)).unwrap();
    let frequency = array![1.0];
    match axes::mrope_table(&frequency, &positions, &[1], MropeVariant::Chunked, 1.0) {
        Ok(table) => assert_eq!(table.rows(), rows),
        Err(PosencError::TooLarge { rows: got, .. }) => assert_eq!(got, rows),
        Err(other) => panic!("{other}"),
    }

    // One frequency for each pass takes 24 MiB, what it is kept in more.
    let config = RopeConfig::new(2, RopePairing::HalfSplit);
    let rows = lengths.len();
    let dynamic = RopeScaling::DynamicNtk {
        factor: 2.0,
        max_position_embeddings: 4,
    };
    for scaling in [RopeScaling::Linear { factor: 2.0 }, dynamic] {
        let config = match scaling {
            RopeScaling::DynamicNtk { .. } => RopeConfig::new(4, RopePairing::HalfSplit),
            _ => config,
        };
        let columns = config.rotary_dim / 2;
        let error = rope::update_sequence(&config, &scaling, &lengths);
        assert_eq!(error, Err(PosencError::TooLarge { rows, columns }));
    }
    drop(taken);
}

/// Takes what addresses there are, but for some bytes.
fn all_but(left: usize) -> Vec<u8> {
    let fits = |n: usize| {
        let mut list = Vec::<u8>::new();
        let fits = list.try_reserve_exact(n).is_ok();
        black_box(list); // or the compiler would do without it
        fits
    };
    let mut most = 0;
    for bit in (20..40).rev() {
        if fits(most + (1 << bit)) {
            most += 1 << bit;
        }
    }
    assert!(most > left, "{most} bytes are too few for this test");
    let mut taken = Vec::new();
    taken.try_reserve_exact(most - left).unwrap();
    black_box(taken)
}
