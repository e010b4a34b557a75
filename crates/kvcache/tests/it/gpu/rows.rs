//! Contiguous caches and rings on the device do what those of the CPU do, and refuse what they refuse.

use llm_kvcache::gpu::llm_gpu::{Gpu, GpuTensor};
use llm_kvcache::gpu::{GpuContiguousCache, GpuKvCacheError, GpuRingCache};
use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, KvCacheError};
use ndarray::{Array3, Axis, stack};
use proptest::prelude::*;

use super::half::{bf16, f16};
use super::{Kind, bits, downloaded, features, few, gpu, numbers};

#[derive(Clone, Debug)]
enum Operation {
    Append {
        row: usize,
        n: usize,
    },
    AppendAll {
        n: usize,
    },
    Crop {
        row: usize,
        len: usize,
    },
    /// The first rows of these.
    Reorder {
        rows: Vec<usize>,
    },
    Clear,
}

/// Rows and lengths are seldom out of range: see [`Operation::of`].
fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (0..100_usize, 0..5_usize).prop_map(|(row, n)| Operation::Append { row, n }),
        4 => (0..4_usize).prop_map(|n| Operation::AppendAll { n }),
        4 => (0..100_usize, 0..9_usize).prop_map(|(row, len)| Operation::Crop { row, len }),
        5 => prop::collection::vec(0..100_usize, 5).prop_map(|rows| Operation::Reorder { rows }),
        1 => Just(Operation::Clear),
    ]
}

impl Operation {
    /// The same for so many rows: of a number below 90 what is left of it, so that some rows are not there, and some lists too long.
    fn of(&self, batch: usize) -> Self {
        let row = |row: &usize| if *row < 90 { row % batch } else { *row };
        match self {
            Self::Append { row: at, n } => Self::Append {
                row: row(at),
                n: *n,
            },
            Self::Crop { row: at, len } => Self::Crop {
                row: row(at),
                len: *len,
            },
            Self::Reorder { rows } => Self::Reorder {
                rows: match rows[4] {
                    98.. => rows[..4].iter().map(row).collect(),
                    _ => rows[..batch].iter().map(row).collect(),
                },
            },
            other => other.clone(),
        }
    }
}

#[derive(Clone, Debug)]
struct Sizes {
    batch: usize,
    heads: usize,
    capacity: usize,
    slack: usize,
    head_dim: usize,
    value_dim: usize,
}

impl Sizes {
    fn ring(&self) -> RingConfig {
        RingConfig::new(self.batch, self.heads, self.capacity, self.head_dim)
            .with_slack(self.slack)
            .with_value_dim(self.value_dim)
    }
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (
        1..5_usize,
        0..3_usize,
        1..9_usize,
        0..3_usize,
        features(),
        features(),
    )
        .prop_map(
            |(batch, heads, capacity, slack, head_dim, value_dim)| Sizes {
                batch,
                heads,
                capacity,
                slack,
                head_dim,
                value_dim,
            },
        )
}

/// New tokens of so many rows, on the host and on the device.
struct Tokens {
    k: Vec<Array3<f32>>,
    v: Vec<Array3<f32>>,
}

impl Tokens {
    fn draw(sizes: &Sizes, rows: usize, n: usize, key: u64) -> Self {
        let array = |row: usize, features, part| {
            numbers(key + 2 * row as u64 + part, [sizes.heads, n, features])
        };
        Self {
            k: (0..rows).map(|row| array(row, sizes.head_dim, 0)).collect(),
            v: (0..rows)
                .map(|row| array(row, sizes.value_dim, 1))
                .collect(),
        }
    }

    fn one(&self, gpu: &Gpu) -> [GpuTensor<f32>; 2] {
        [&self.k, &self.v].map(|x| gpu.upload(&x[0]).unwrap())
    }

    fn all(&self, gpu: &Gpu) -> [GpuTensor<f32>; 2] {
        self.stacked().map(|x| gpu.upload(&x).unwrap())
    }

    fn stacked(&self) -> [ndarray::Array4<f32>; 2] {
        [&self.k, &self.v].map(|x| {
            let views: Vec<_> = x.iter().map(|x| x.view()).collect();
            stack(Axis(0), &views).unwrap()
        })
    }
}

fn same<T>(
    got: Result<T, GpuKvCacheError>,
    want: Result<(), KvCacheError>,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.map(|_| ()), want.map_err(GpuKvCacheError::from));
    Ok(())
}

/// Keys and values of a row: on the device, and on the CPU.
type Row = ([GpuTensor<f32>; 2], [Array3<f32>; 2]);

/// The two stores with one interface. The CPU keeps the numbers as they came: they become what they become on their way out.
trait Both<E: Kind>: Sized {
    fn new(gpu: &Gpu, sizes: &Sizes) -> Self;
    fn step(
        &mut self,
        gpu: &Gpu,
        sizes: &Sizes,
        step: &Operation,
        key: u64,
    ) -> Result<(), TestCaseError>;
    /// What each row holds.
    fn rows(&self, gpu: &Gpu) -> Vec<Row>;
}

macro_rules! both {
    ($name:ident, $gpu:ident, $cpu:ident, $keys:ident, $values:ident, $new_gpu:expr, $new_cpu:expr) => {
        struct $name<E: Kind> {
            on_device: $gpu<E>,
            on_cpu: $cpu<f32>,
        }

        impl<E: Kind> Both<E> for $name<E> {
            fn new(gpu: &Gpu, sizes: &Sizes) -> Self {
                Self {
                    on_device: $new_gpu(gpu, sizes).unwrap(),
                    on_cpu: $new_cpu(sizes).unwrap(),
                }
            }

            fn step(
                &mut self,
                gpu: &Gpu,
                sizes: &Sizes,
                step: &Operation,
                key: u64,
            ) -> Result<(), TestCaseError> {
                let mut recorder = gpu.recorder();
                match step {
                    Operation::Append { row, n } => {
                        let new = Tokens::draw(sizes, 1, *n, key);
                        let [k, v] = new.one(gpu);
                        let got = self.on_device.append(&mut recorder, *row, &k, &v);
                        same(got, self.on_cpu.append(*row, &new.k[0], &new.v[0]))?;
                    }
                    Operation::AppendAll { n } => {
                        let new = Tokens::draw(sizes, sizes.batch, *n, key);
                        let [k, v] = new.all(gpu);
                        let got = self.on_device.append_all(&mut recorder, &k, &v);
                        let [k, v] = new.stacked();
                        same(got, self.on_cpu.append_all(&k, &v))?;
                    }
                    Operation::Crop { row, len } => {
                        same(
                            self.on_device.crop(*row, *len),
                            self.on_cpu.crop(*row, *len),
                        )?;
                    }
                    Operation::Reorder { rows } => {
                        let got = self.on_device.reorder(&mut recorder, rows);
                        same(got, self.on_cpu.reorder(rows))?;
                    }
                    Operation::Clear => {
                        self.on_device.clear();
                        self.on_cpu.clear();
                    }
                }
                recorder.submit().unwrap();
                Ok(())
            }

            fn rows(&self, gpu: &Gpu) -> Vec<Row> {
                let mut recorder = gpu.recorder();
                let mut rows = Vec::new();
                for row in 0..self.on_cpu.batch() {
                    let (k, v) = self.on_device.gather(&mut recorder, row).unwrap();
                    let (keys, values) = (
                        self.on_cpu.$keys(row).unwrap(),
                        self.on_cpu.$values(row).unwrap(),
                    );
                    rows.push(([k, v], [keys.to_owned(), values.to_owned()]));
                }
                recorder.submit().unwrap();
                rows
            }
        }
    };
}

both!(
    Contiguous,
    GpuContiguousCache,
    ContiguousCache,
    keys,
    values,
    |gpu, s: &Sizes| GpuContiguousCache::new(
        gpu,
        s.batch,
        s.heads,
        s.capacity,
        s.head_dim,
        s.value_dim
    ),
    |s: &Sizes| ContiguousCache::new(s.batch, s.heads, s.capacity, s.head_dim, s.value_dim)
);
both!(
    Ring,
    GpuRingCache,
    RingCache,
    ordered_keys,
    ordered_values,
    |gpu, sizes: &Sizes| GpuRingCache::new(gpu, &sizes.ring()),
    |sizes: &Sizes| RingCache::new(&sizes.ring())
);

fn run<E: Kind, B: Both<E>>(
    gpu: &Gpu,
    sizes: &Sizes,
    steps: &[Operation],
    key: u64,
) -> Result<(), TestCaseError> {
    let mut both = B::new(gpu, sizes);
    for (i, step) in steps.iter().enumerate() {
        both.step(gpu, sizes, &step.of(sizes.batch), key + 100 * i as u64)?;
    }
    for (row, (got, want)) in both.rows(gpu).into_iter().enumerate() {
        for (got, want) in got.iter().zip(&want) {
            prop_assert_eq!(got.shape(), want.shape(), "row {}", row);
            let want = E::round_trip(want).into_dyn();
            prop_assert_eq!(bits(&downloaded(got)), bits(&want), "row {}", row);
        }
    }
    Ok(())
}

fn steps() -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 0..12)
}

#[test]
fn contiguous_caches_do_what_those_of_the_cpu_do() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(40), |(sizes in sizes(), steps in steps(), key in any::<u32>())| {
        let key = u64::from(key) << 16;
        run::<f32, Contiguous<f32>>(&gpu, &sizes, &steps, key)?;
        run::<f16, Contiguous<f16>>(&gpu, &sizes, &steps, key)?;
        run::<bf16, Contiguous<bf16>>(&gpu, &sizes, &steps, key)?;
        run::<i8, Contiguous<i8>>(&gpu, &sizes, &steps, key)?;
    });
}

#[test]
fn rings_do_what_those_of_the_cpu_do() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(40), |(sizes in sizes(), steps in steps(), key in any::<u32>())| {
        let key = u64::from(key) << 16;
        run::<f32, Ring<f32>>(&gpu, &sizes, &steps, key)?;
        run::<f16, Ring<f16>>(&gpu, &sizes, &steps, key)?;
        run::<bf16, Ring<bf16>>(&gpu, &sizes, &steps, key)?;
        run::<i8, Ring<i8>>(&gpu, &sizes, &steps, key)?;
    });
}

/// Beams whose rows have other lengths, and a ring in which the tokens that are left lie behind places of none.
#[test]
fn rows_take_their_lengths_along() {
    let Some(gpu) = gpu() else { return };
    let sizes = Sizes {
        batch: 2,
        heads: 2,
        capacity: 4,
        slack: 2,
        head_dim: 3,
        value_dim: 5,
    };
    let steps = [
        Operation::Append { row: 0, n: 3 },
        Operation::Append { row: 1, n: 1 },
        Operation::Reorder {
            rows: vec![1, 0, 0, 0, 0],
        },
        Operation::Append { row: 1, n: 1 },
    ];
    run::<f16, Contiguous<f16>>(&gpu, &sizes, &steps, 1).unwrap();
    run::<i8, Ring<i8>>(&gpu, &sizes, &steps, 2).unwrap();
    // Of a row of 6 places that saw 8 tokens, 2 to 7, the last three are taken back: 2, 3 and 4 are at places 2, 3 and 4.
    let steps = [
        Operation::Append { row: 0, n: 8 },
        Operation::Crop { row: 0, len: 5 },
        Operation::Reorder { rows: vec![0; 5] },
    ];
    run::<f32, Ring<f32>>(&gpu, &sizes, &steps, 3).unwrap();
}

/// Each row of a contiguous cache is a page, so that attention reads it where it lies.
#[test]
fn rows_are_pages() {
    let Some(gpu) = gpu() else { return };
    let mut cache = GpuContiguousCache::<f32>::new(&gpu, 3, 1, 4, 2, 2).unwrap();
    let x = gpu.upload(&Array3::<f32>::ones((1, 3, 2))).unwrap();
    let mut recorder = gpu.recorder();
    cache.append(&mut recorder, 1, &x, &x).unwrap();
    recorder.submit().unwrap();
    let (table, lengths) = cache.block_table().unwrap();
    let table = table.download_blocking().unwrap();
    assert_eq!(table, ndarray::array![[0, 1, 2]].t().into_dyn());
    let lengths = lengths.download_blocking().unwrap();
    assert_eq!(lengths, ndarray::array![0, 3, 0].into_dyn());
    let keys = cache.pages().k().download_blocking().unwrap();
    assert_eq!(keys.shape(), [3, 1, 4, 2]);
    let row = keys.index_axis(Axis(0), 1);
    assert_eq!((row.sum(), keys.sum()), (6.0, 6.0));
    assert_eq!(row[[0, 3, 0]], 0.0);
}

/// Rows without room for a token.
#[test]
fn a_cache_of_no_capacity_is_full() {
    let Some(gpu) = gpu() else { return };
    let mut cache = GpuContiguousCache::<f16>::new(&gpu, 1, 1, 0, 2, 2).unwrap();
    let x = gpu.upload(&Array3::<f32>::ones((1, 1, 2))).unwrap();
    let got = cache.append(&mut gpu.recorder(), 0, &x, &x).unwrap_err();
    let want = KvCacheError::Full {
        row: 0,
        len: 0,
        seq: 1,
        capacity: 0,
    };
    assert_eq!(got, want.into());
    let nothing = gpu.zeros::<f32>(&[1, 0, 2]).unwrap();
    cache
        .append(&mut gpu.recorder(), 0, &nothing, &nothing)
        .unwrap();
    assert!(cache.is_empty());
    let config = RingConfig::new(1, 1, 0, 2).with_slack(3);
    let got = GpuRingCache::<f16>::new(&gpu, &config).unwrap_err();
    assert_eq!(got, KvCacheError::Window.into());
}
