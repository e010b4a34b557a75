//! Any operations on a pool on the device do what they do to lists of tokens.

use std::collections::BTreeMap;

use llm_kvcache::gpu::llm_gpu::{Gpu, GpuTensor, Recorder};
use llm_kvcache::gpu::{GpuPool, GpuSlots, Int4};
use llm_kvcache::paged::{PageShape, PageTable, PoolConfig, SequenceId};
use ndarray::{Array3, Axis, concatenate};
use proptest::prelude::*;
use proptest::sample::Index;

use super::half::{bf16, f16};
use super::{Kind, bits, downloaded, features, few, gpu, numbers};

const LAYERS: usize = 2;

#[derive(Clone, Debug)]
enum Operation {
    Create,
    Append {
        at: Index,
        n: usize,
    },
    /// One token to each, whose places the device finds.
    Step,
    /// Room for tokens that are written at once in one layer and never in the other.
    Extend {
        at: Index,
        n: usize,
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
    },
    Reorder {
        from: Vec<Index>,
    },
    Compact,
}

fn operation() -> impl Strategy<Value = Operation> {
    let at = any::<Index>;
    prop_oneof![
        2 => Just(Operation::Create),
        6 => (at(), 0..7_usize).prop_map(|(at, n)| Operation::Append { at, n }),
        6 => Just(Operation::Step),
        2 => (at(), 0..4_usize).prop_map(|(at, n)| Operation::Extend { at, n }),
        4 => at().prop_map(|at| Operation::Fork { at }),
        3 => (at(), 0..6_usize).prop_map(|(at, back)| Operation::Crop { at, back }),
        2 => at().prop_map(|at| Operation::Free { at }),
        3 => (at(), prop::collection::vec(any::<bool>(), 12))
            .prop_map(|(at, keep)| Operation::Retain { at, keep }),
        2 => prop::collection::vec(at(), 4).prop_map(|from| Operation::Reorder { from }),
        2 => Just(Operation::Compact),
    ]
}

/// A token is a number for each layer, from which its keys and values are drawn; 0 stands for zeros.
type Token = [u64; LAYERS];

struct World<'a, E: Kind> {
    gpu: &'a Gpu,
    config: PoolConfig,
    shape: PageShape,
    table: PageTable,
    pool: GpuPool<E>,
    recorder: Recorder,
    model: BTreeMap<SequenceId, Vec<Token>>,
    next: u64,
    statuses: Vec<GpuSlots>,
}

impl<'a, E: Kind> World<'a, E> {
    fn new(gpu: &'a Gpu, config: PoolConfig, key: u64) -> Self {
        let pool = GpuPool::<E>::new(gpu, &config).unwrap();
        Self {
            gpu,
            config,
            shape: pool.shape(),
            table: PageTable::new(config.n_pages, config.page_size).unwrap(),
            pool,
            recorder: gpu.recorder(),
            model: BTreeMap::new(),
            next: key,
            statuses: Vec::new(),
        }
    }

    fn pick(&self, at: Index) -> Option<SequenceId> {
        let ids: Vec<_> = self.model.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[at.index(ids.len())])
    }

    /// Keys or values of tokens in a layer, `[kv_heads, n, features]`.
    fn array(&self, layer: usize, tokens: &[Token], is_key: bool) -> Array3<f32> {
        let features = if is_key {
            self.config.head_dim
        } else {
            self.config.value_dim
        };
        let one = [self.config.n_kv_heads, 1, features];
        let mut arrays = vec![Array3::zeros([one[0], 0, features])];
        arrays.extend(tokens.iter().map(|token| match token[layer] {
            0 => Array3::zeros(one),
            number => numbers(2 * number + u64::from(is_key), one),
        }));
        let views: Vec<_> = arrays.iter().map(|x| x.view()).collect();
        concatenate(Axis(1), &views).unwrap()
    }

    fn upload(&self, layer: usize, tokens: &[Token], batch: Option<usize>) -> [GpuTensor<f32>; 2] {
        [true, false].map(|is_key| {
            let x = self.array(layer, tokens, is_key);
            match batch {
                None => self.gpu.upload(&x).unwrap(),
                // One token for each row: [batch, kv_heads, 1, features].
                Some(_) => {
                    let x = x.permuted_axes([1, 0, 2]).insert_axis(Axis(2));
                    self.gpu.upload(&x).unwrap()
                }
            }
        })
    }

    fn tokens(&mut self, n: usize) -> Vec<Token> {
        let new = |world: &mut Self| {
            world.next += 1;
            [world.next; LAYERS]
        };
        (0..n).map(|_| new(self)).collect()
    }

    /// Room in the table, and the copies that it asks for; false if the pool is full.
    fn grow(&mut self, by: &[(SequenceId, usize)]) -> bool {
        match self.table.grow(by) {
            Ok(copies) => {
                self.pool.copy_pages(&mut self.recorder, &copies).unwrap();
                true
            }
            Err(_) => false,
        }
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Create => {
                let id = self.table.create(b"").unwrap();
                self.model.insert(id, Vec::new());
            }
            Operation::Append { at, n } => {
                let Some(id) = self.pick(*at) else { return };
                let start = self.model[&id].len();
                if !self.grow(&[(id, *n)]) {
                    return;
                }
                let new = self.tokens(*n);
                let range = [(id, start..start + n)];
                let slots = GpuSlots::for_writing(self.gpu, self.shape, &self.table, &range);
                let slots = slots.unwrap();
                for layer in 0..LAYERS {
                    let [k, v] = self.upload(layer, &new, None);
                    let pages = self.pool.layer(layer).unwrap();
                    pages.write(&mut self.recorder, &slots, &k, &v).unwrap();
                }
                self.statuses.push(slots);
                self.model.get_mut(&id).unwrap().extend(new);
            }
            Operation::Step => {
                let ids: Vec<_> = self.model.keys().copied().collect();
                let by: Vec<_> = ids.iter().map(|&id| (id, 1)).collect();
                if !self.grow(&by) {
                    return;
                }
                let new = self.tokens(ids.len());
                let (table, lengths) = self.table.block_table(&ids).unwrap();
                let (table, lengths) = (
                    self.gpu.upload(&table).unwrap(),
                    self.gpu.upload(&lengths).unwrap(),
                );
                let (recorder, shape) = (&mut self.recorder, self.shape);
                let slots = GpuSlots::of_block_table(recorder, shape, &table, &lengths, 1);
                let slots = slots.unwrap();
                for layer in 0..LAYERS {
                    let [k, v] = self.upload(layer, &new, Some(ids.len()));
                    let pages = self.pool.layer(layer).unwrap();
                    pages.write(&mut self.recorder, &slots, &k, &v).unwrap();
                }
                self.statuses.push(slots);
                for (id, token) in ids.iter().zip(new) {
                    self.model.get_mut(id).unwrap().push(token);
                }
            }
            Operation::Extend { at, n } => {
                let Some(id) = self.pick(*at) else { return };
                let start = self.model[&id].len();
                if !self.grow(&[(id, *n)]) {
                    return;
                }
                let range = [(id, start..start + n)];
                let slots = GpuSlots::for_writing(self.gpu, self.shape, &self.table, &range);
                let slots = slots.unwrap();
                for layer in 0..LAYERS {
                    let pages = self.pool.layer(layer).unwrap();
                    pages.clear(&mut self.recorder, &slots).unwrap();
                }
                let mut new = self.tokens(*n);
                let [k, v] = self.upload(0, &new, None);
                let pages = self.pool.layer(0).unwrap();
                pages.write(&mut self.recorder, &slots, &k, &v).unwrap();
                new.iter_mut().for_each(|token| token[1] = 0);
                self.statuses.push(slots);
                self.model.get_mut(&id).unwrap().extend(new);
            }
            Operation::Fork { at } => {
                let Some(id) = self.pick(*at) else { return };
                let new = self.table.fork(id).unwrap();
                self.model.insert(new, self.model[&id].clone());
            }
            Operation::Crop { at, back } => {
                let Some(id) = self.pick(*at) else { return };
                let list = self.model.get_mut(&id).unwrap();
                list.truncate(list.len().saturating_sub(*back));
                self.table.crop(id, list.len()).unwrap();
            }
            Operation::Free { at } => {
                let Some(id) = self.pick(*at) else { return };
                self.table.free(id).unwrap();
                self.model.remove(&id);
            }
            Operation::Retain { at, keep } => {
                let Some(id) = self.pick(*at) else { return };
                let list = &self.model[&id];
                let kept: Vec<usize> = (0..list.len())
                    .filter(|&i| keep.get(i).copied().unwrap_or(true))
                    .collect();
                let new: Vec<Token> = kept.iter().map(|&i| list[i]).collect();
                if let Ok(moves) = self.table.retain(id, &kept) {
                    self.pool.move_tokens(&mut self.recorder, &moves).unwrap();
                    self.model.insert(id, new);
                }
            }
            Operation::Reorder { from } => {
                let ids: Vec<_> = self.model.keys().copied().take(from.len()).collect();
                let sources: Vec<_> = (ids.iter().zip(from))
                    .map(|(_, from)| ids[from.index(ids.len())])
                    .collect();
                self.table.reorder(&ids, &sources).unwrap();
                let new: Vec<_> = sources.iter().map(|id| self.model[id].clone()).collect();
                self.model.extend(ids.into_iter().zip(new));
            }
            Operation::Compact => {
                let copies = self.table.compact().unwrap();
                self.pool.copy_pages(&mut self.recorder, &copies).unwrap();
            }
        }
    }

    fn check(mut self) -> Result<(), TestCaseError> {
        let mut gathered = Vec::new();
        for (&id, tokens) in &self.model {
            let range = [(id, 0..tokens.len())];
            let slots = GpuSlots::for_reading(self.gpu, self.shape, &self.table, &range).unwrap();
            for layer in 0..LAYERS {
                let pages = self.pool.layer(layer).unwrap();
                let (k, v) = pages.gather(&mut self.recorder, &slots).unwrap();
                gathered.push((layer, tokens.clone(), [k, v]));
            }
        }
        std::mem::replace(&mut self.recorder, self.gpu.recorder())
            .submit()
            .unwrap();
        for slots in &self.statuses {
            prop_assert_eq!(slots.check_blocking(), Ok(()));
        }
        for (layer, tokens, got) in gathered {
            for (is_key, got) in [true, false].into_iter().zip(got) {
                let want = E::round_trip(&self.array(layer, &tokens, is_key)).into_dyn();
                prop_assert_eq!(bits(&downloaded(&got)), bits(&want));
            }
        }
        Ok(())
    }
}

fn configs() -> impl Strategy<Value = PoolConfig> {
    (4..14_usize, 1..6_usize, 1..3_usize, features(), features()).prop_map(
        |(n_pages, page_size, heads, head_dim, value_dim)| {
            PoolConfig::new(LAYERS, n_pages, page_size, heads, head_dim).with_value_dim(value_dim)
        },
    )
}

macro_rules! of_kind {
    ($($name:ident: $type:ty,)*) => {$(
        #[test]
        fn $name() {
            let Some(gpu) = gpu() else { return };
            let steps = prop::collection::vec(operation(), 1..24);
            proptest!(few(48), |(config in configs(), steps in steps, key in any::<u32>())| {
                let mut world = World::<$type>::new(&gpu, config, u64::from(key) << 16);
                world.step(&Operation::Create);
                for step in &steps {
                    world.step(step);
                }
                world.check()?;
            });
        }
    )*};
}

of_kind! {
    a_pool_of_f32_is_lists_of_tokens: f32,
    a_pool_of_f16_is_lists_of_tokens: f16,
    a_pool_of_bf16_is_lists_of_tokens: bf16,
    a_pool_of_int8_is_lists_of_tokens: i8,
    a_pool_of_int4_is_lists_of_tokens: Int4,
}
