//! What may happen to a pool.

use proptest::prelude::*;
use proptest::sample::Index;

/// Sequences are named by their place among those that live, and sometimes one that is dead.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create {
        salt: u8,
    },
    Prefix {
        salt: u8,
        ids: Vec<u32>,
    },
    Append {
        at: Index,
        ids: Vec<u32>,
    },
    AppendBatch {
        at: Vec<Index>,
        ids: Vec<u32>,
    },
    Extend {
        at: Vec<Index>,
        n: usize,
    },
    Write {
        at: Index,
        ids: Vec<u32>,
    },
    Fork {
        at: Index,
    },
    Crop {
        at: Index,
        back: usize,
    },
    Free {
        at: Index,
    },
    Retain {
        at: Index,
        keep: Vec<bool>,
        is_wrong: bool,
    },
    Reorder {
        at: Vec<Index>,
        from: Vec<Index>,
    },
    Publish {
        at: Index,
    },
    Forget,
    Compact,
    SaveAndLoad,
    Resize {
        n_pages: usize,
    },
}

fn ids() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..2_u32, 0..6)
}

fn indices() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..4)
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let at = any::<Index>;
    prop_oneof![
        2 => (0..2_u8).prop_map(|salt| Operation::Create { salt }),
        3 => (0..2_u8, ids()).prop_map(|(salt, ids)| Operation::Prefix { salt, ids }),
        6 => (at(), ids()).prop_map(|(at, ids)| Operation::Append { at, ids }),
        3 => (indices(), ids()).prop_map(|(at, ids)| Operation::AppendBatch { at, ids }),
        2 => (indices(), 0..4_usize).prop_map(|(at, n)| Operation::Extend { at, n }),
        3 => (at(), ids()).prop_map(|(at, ids)| Operation::Write { at, ids }),
        3 => at().prop_map(|at| Operation::Fork { at }),
        3 => (at(), 0..6_usize).prop_map(|(at, back)| Operation::Crop { at, back }),
        2 => at().prop_map(|at| Operation::Free { at }),
        3 => (at(), prop::collection::vec(any::<bool>(), 0..12), prop::bool::weighted(0.1))
            .prop_map(|(at, keep, is_wrong)| Operation::Retain { at, keep, is_wrong }),
        2 => (indices(), indices()).prop_map(|(at, from)| Operation::Reorder { at, from }),
        4 => at().prop_map(|at| Operation::Publish { at }),
        1 => Just(Operation::Forget),
        1 => Just(Operation::Compact),
        2 => Just(Operation::SaveAndLoad),
        1 => (0..10_usize).prop_map(|n_pages| Operation::Resize { n_pages }),
    ]
}
