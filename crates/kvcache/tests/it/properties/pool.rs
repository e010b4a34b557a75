//! Laws of the pool: any operations on many sequences do what they do to lists of tokens; no page is lost, leaked or
//! freed twice; what is refused changes nothing.

mod contents;
mod operation;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use llm_kvcache::KvCacheError;
use llm_kvcache::paged::{
    FloatPages, Int4Pages, Int8Pages, PageData, PagedCache, PoolConfig, PrefixHash, SequenceId,
};
use llm_kvcache::reference::sequences::SequenceLists;
use ndarray::{Axis, stack};
use proptest::prelude::*;
use proptest::sample::Index;

use contents::{Content, Contents, array, layers, views};
use operation::{Operation, operation};

/// A token of the model: its content, and the id by which it is published.
type Token = (Content, u32);

/// Pages that read and write `f32`.
trait Pages: PageData<Input = f32> {}

impl<P: PageData<Input = f32>> Pages for P {}

struct World<P> {
    cache: PagedCache<P>,
    config: PoolConfig,
    model: SequenceLists<Token>,
    salts: BTreeMap<u64, u8>,
    handles: BTreeMap<u64, SequenceId>,
    dead: Option<SequenceId>,
    contents: Contents,
    /// Prefixes that were published ever: salt and ids.
    published: BTreeSet<(u8, Vec<u32>)>,
    /// Whether the last operation was refused.
    is_refused: bool,
}

impl<P: Pages> World<P> {
    fn new(config: PoolConfig) -> Self {
        Self {
            cache: PagedCache::new(&config).unwrap(),
            config,
            model: SequenceLists::default(),
            salts: BTreeMap::new(),
            handles: BTreeMap::new(),
            dead: None,
            contents: Contents::default(),
            published: BTreeSet::new(),
            is_refused: false,
        }
    }

    /// A living sequence, or now and then a dead one.
    fn pick(&self, at: Index) -> Option<SequenceId> {
        let all: Vec<_> = self.handles.values().copied().chain(self.dead).collect();
        (!all.is_empty()).then(|| all[at.index(all.len())])
    }

    fn add(&mut self, id: SequenceId, salt: u8, tokens: Vec<Token>) {
        self.model.lists.insert(id.number(), tokens);
        self.salts.insert(id.number(), salt);
        self.handles.insert(id.number(), id);
    }

    /// New tokens of a sequence, as the model has them.
    fn tokens(&mut self, id: SequenceId, ids: &[u32]) -> Vec<Token> {
        let (Some(list), Some(&salt)) = (
            self.model.lists.get(&id.number()),
            self.salts.get(&id.number()),
        ) else {
            return ids.iter().map(|&id| (0, id)).collect();
        };
        let mut history: Vec<Content> = list.iter().map(|token| token.0).collect();
        let mut tokens = Vec::new();
        for &id in ids {
            let content = self.contents.of(&history, salt, id);
            history.push(content);
            tokens.push((content, id));
        }
        tokens
    }

    /// Pages that growing takes, counted from the tables alone.
    fn pages_to_grow(&self, by: &[(SequenceId, usize)]) -> usize {
        let table = self.cache.table();
        let page_size = self.config.page_size;
        let mut readers: BTreeMap<u32, usize> = BTreeMap::new();
        for id in table.sequences() {
            for &page in table.pages(id).unwrap() {
                *readers.entry(page).or_default() += 1;
            }
        }
        let mut needed = 0;
        for &(id, n) in by {
            let (len, pages) = (table.len(id).unwrap(), table.pages(id).unwrap());
            needed += (len + n).div_ceil(page_size) - pages.len();
            if n > 0 && len % page_size > 0 {
                let readers = readers.get_mut(&pages[len / page_size]).unwrap();
                if *readers > 1 {
                    *readers -= 1; // it gets a copy
                    needed += 1;
                }
            }
        }
        needed
    }

    /// Checks an outcome against the pages that were needed and there.
    fn judge(
        &mut self,
        outcome: Result<(), KvCacheError>,
        needed: usize,
        available: usize,
    ) -> Result<bool, TestCaseError> {
        match outcome {
            Ok(()) => prop_assert!(needed <= available, "{} of {}", needed, available),
            Err(error) => {
                prop_assert!(needed > available, "{} of {}", needed, available);
                let n_pages = self.cache.table().n_pages();
                let expected = KvCacheError::PoolExhausted {
                    needed,
                    available,
                    n_pages,
                };
                prop_assert_eq!(error, expected);
            }
        }
        self.is_refused = outcome.is_err();
        Ok(outcome.is_ok())
    }

    fn step(&mut self, operation: &Operation) -> Result<(), TestCaseError> {
        let available = self.cache.table().n_available();
        match operation {
            Operation::Create { salt } => {
                let id = self.cache.create(&[*salt]).unwrap();
                self.add(id, *salt, Vec::new());
            }
            Operation::Prefix { salt, ids } => {
                let expected = self.cache.table().cached_tokens(&[*salt], ids);
                let (id, found) = self.cache.create_with_prefix(&[*salt], ids).unwrap();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(found % self.config.page_size, 0);
                if found > 0 {
                    let known = self.published.contains(&(*salt, ids[..found].to_vec()));
                    prop_assert!(
                        known,
                        "{:?} was never published with {}",
                        &ids[..found],
                        salt
                    );
                }
                self.add(id, *salt, Vec::new());
                let tokens = self.tokens(id, &ids[..found]);
                self.model.append(id.number(), &tokens);
            }
            Operation::Append { at, ids } => {
                let Some(id) = self.pick(*at) else {
                    return Ok(());
                };
                let tokens = self.tokens(id, ids);
                let contents: Vec<_> = tokens.iter().map(|token| token.0).collect();
                let (k, v) = (
                    layers(&self.config, &contents, true),
                    layers(&self.config, &contents, false),
                );
                // Without layers the number of tokens cannot be seen.
                let n = if self.config.n_layers == 0 {
                    0
                } else {
                    tokens.len()
                };
                if !self.handles.contains_key(&id.number()) {
                    let error = KvCacheError::Sequence { id: id.number() };
                    prop_assert_eq!(self.cache.append(id, &views(&k), &views(&v)), Err(error));
                    self.is_refused = true;
                    return Ok(());
                }
                let needed = self.pages_to_grow(&[(id, n)]);
                let outcome = self.cache.append(id, &views(&k), &views(&v));
                if self.judge(outcome, needed, available)? {
                    self.model.append(id.number(), &tokens[..n]);
                }
            }
            Operation::AppendBatch { at, ids } => {
                let batch: Vec<_> = at.iter().filter_map(|at| self.pick(*at)).collect();
                let tokens: Vec<_> = batch.iter().map(|&id| self.tokens(id, ids)).collect();
                let stacked = |is_key: bool| -> Vec<_> {
                    let of_layer = |layer| {
                        let rows: Vec<_> = tokens
                            .iter()
                            .map(|row| {
                                let row: Vec<_> = row.iter().map(|token| token.0).collect();
                                array(&self.config, layer, &row, is_key)
                            })
                            .collect();
                        stack(Axis(0), &views(&rows)).unwrap()
                    };
                    (0..self.config.n_layers).map(of_layer).collect()
                };
                if batch.is_empty() {
                    return Ok(());
                }
                let (k, v) = (stacked(true), stacked(false));
                let [k, v] = [&k, &v].map(|x| x.iter().map(|x| x.view()).collect::<Vec<_>>());
                let n = if self.config.n_layers == 0 {
                    0
                } else {
                    ids.len()
                };
                let needed = self.plan(&batch, n);
                let outcome = self.cache.append_batch(&batch, &k, &v);
                if self.judge_batch(outcome, needed, available)? {
                    for (id, tokens) in batch.iter().zip(&tokens) {
                        self.model.append(id.number(), &tokens[..n]);
                    }
                }
            }
            Operation::Extend { at, n } => {
                let batch: Vec<_> = at.iter().filter_map(|at| self.pick(*at)).collect();
                let by: Vec<_> = batch.iter().map(|&id| (id, *n)).collect();
                let needed = self.plan(&batch, *n);
                let outcome = self.cache.extend(&by);
                if self.judge_batch(outcome, needed, available)? {
                    for id in batch {
                        self.model.append(id.number(), &vec![(0, u32::MAX); *n]);
                    }
                }
            }
            Operation::Write { at, ids } => {
                let Some(id) = self.pick(*at) else {
                    return Ok(());
                };
                self.write(id, ids)?;
            }
            Operation::Fork { at } => {
                let Some(id) = self.pick(*at) else {
                    return Ok(());
                };
                match self.cache.fork(id) {
                    Ok(new) => {
                        prop_assert!(self.model.fork(id.number(), new.number()));
                        self.add(
                            new,
                            self.salts[&id.number()],
                            self.model.lists[&new.number()].clone(),
                        );
                    }
                    Err(error) => {
                        prop_assert_eq!(error, KvCacheError::Sequence { id: id.number() });
                        prop_assert!(!self.handles.contains_key(&id.number()));
                    }
                }
                prop_assert_eq!(self.cache.table().n_available(), available);
            }
            Operation::Crop { at, back } => {
                let Some(id) = self.pick(*at) else {
                    return Ok(());
                };
                let len = self.model.lists.get(&id.number()).map_or(0, Vec::len);
                let to = if *back == 5 {
                    len + 1
                } else {
                    len.saturating_sub(*back)
                };
                self.is_refused = self.cache.crop(id, to).is_err();
                prop_assert_eq!(!self.is_refused, self.model.crop(id.number(), to));
            }
            Operation::Free { at } => {
                let Some(id) = self.pick(*at) else {
                    return Ok(());
                };
                let was_there = self.model.lists.remove(&id.number()).is_some();
                self.is_refused = self.cache.free(id).is_err();
                prop_assert_eq!(!self.is_refused, was_there);
                self.handles.remove(&id.number());
                self.salts.remove(&id.number());
                self.dead = Some(id);
            }
            Operation::Retain { at, keep, is_wrong } => {
                let Some(id) = self.pick(*at) else {
                    return Ok(());
                };
                let len = self.model.lists.get(&id.number()).map_or(0, Vec::len);
                let mut list: Vec<_> = (0..len)
                    .filter(|&i| keep.get(i).copied().unwrap_or(true))
                    .collect();
                if *is_wrong {
                    list.push(list.last().copied().unwrap_or(len));
                }
                let needed = self.pages_to_retain(id, &list);
                let outcome = self.cache.retain(id, &list);
                self.is_refused = outcome.is_err();
                match outcome {
                    Err(KvCacheError::PoolExhausted { .. }) => {
                        self.judge(outcome, needed, available)?;
                    }
                    _ => {
                        prop_assert_eq!(outcome.is_ok(), self.model.retain(id.number(), &list));
                        prop_assert!(outcome.is_err() || needed <= available);
                    }
                }
            }
            Operation::Reorder { at, from } => {
                let [at, from] = [at, from].map(|list| -> Vec<_> {
                    list.iter().filter_map(|at| self.pick(*at)).collect()
                });
                let numbers =
                    |ids: &[SequenceId]| -> Vec<u64> { ids.iter().map(|id| id.number()).collect() };
                let done = self.cache.reorder(&at, &from).is_ok();
                self.is_refused = !done;
                let salt = |id: &SequenceId| self.salts.get(&id.number());
                let same_salts = at.iter().zip(&from).all(|(a, b)| salt(a) == salt(b));
                let expected = same_salts && self.model.reorder(&numbers(&at), &numbers(&from));
                prop_assert_eq!(done, expected);
            }
            Operation::Publish { at } => {
                let Some(id) = self.pick(*at) else {
                    return Ok(());
                };
                let Some(list) = self.model.lists.get(&id.number()) else {
                    prop_assert!(self.cache.publish(id, &[]).is_err());
                    return Ok(());
                };
                let ids: Vec<u32> = list.iter().map(|token| token.1).collect();
                prop_assert!(self.cache.publish(id, &[&ids[..], &[7]].concat()).is_err());
                self.cache.publish(id, &ids).unwrap();
                let salt = self.salts[&id.number()];
                for end in (0..=ids.len()).step_by(self.config.page_size) {
                    self.published.insert((salt, ids[..end].to_vec()));
                }
            }
            Operation::Forget => {
                self.cache.forget_prefixes();
                prop_assert_eq!(self.cache.table().n_cached(), 0);
                prop_assert_eq!(self.cache.table().n_available(), available);
            }
            Operation::Compact => {
                self.cache.compact().unwrap();
                let table = self.cache.table();
                let n_live = table.n_pages() - table.n_free();
                for page in 0..table.n_pages() as u32 {
                    let is_live = table.references(page) > 0 || table.is_published(page);
                    prop_assert_eq!(is_live, (page as usize) < n_live);
                }
            }
            Operation::SaveAndLoad => {
                let found = |cache: &PagedCache<P>| -> Vec<usize> {
                    (self.published.iter())
                        .map(|(salt, ids)| cache.table().cached_tokens(&[*salt], ids))
                        .collect()
                };
                let before = found(&self.cache);
                let mut file = Vec::new();
                self.cache.save(&mut file).unwrap();
                let hash = PrefixHash::with_key([7, self.model.lists.len() as u64]);
                let again = PagedCache::load(&file[..], hash, 1 << 20).unwrap();
                prop_assert_eq!(found(&again), before);
                self.cache = again;
                for (&number, &id) in &self.handles {
                    prop_assert_eq!(self.cache.find(number), Some(id));
                }
                prop_assert_eq!(self.cache.table().n_available(), available);
            }
            Operation::Resize { n_pages } => {
                let table = self.cache.table();
                let is_free = |page: u32| table.references(page) == 0 && !table.is_published(page);
                let expected = (*n_pages as u32..table.n_pages() as u32).all(is_free);
                self.is_refused = self.cache.resize(*n_pages).is_err();
                prop_assert_eq!(!self.is_refused, expected);
            }
        }
        Ok(())
    }

    /// Pages that a batch takes, if it is right.
    fn plan(&self, batch: &[SequenceId], n: usize) -> Option<usize> {
        let distinct: BTreeSet<_> = batch.iter().collect();
        let all_live = batch
            .iter()
            .all(|id| self.handles.contains_key(&id.number()));
        let by: Vec<_> = batch.iter().map(|&id| (id, n)).collect();
        (distinct.len() == batch.len() && all_live).then(|| self.pages_to_grow(&by))
    }

    fn judge_batch(
        &mut self,
        outcome: Result<(), KvCacheError>,
        needed: Option<usize>,
        available: usize,
    ) -> Result<bool, TestCaseError> {
        if let Some(needed) = needed {
            return self.judge(outcome, needed, available);
        }
        let is_named = matches!(
            outcome,
            Err(KvCacheError::Repeated { .. } | KvCacheError::Sequence { .. })
        );
        prop_assert!(is_named, "{:?}", outcome);
        self.is_refused = true;
        Ok(false)
    }

    /// Pages that dropping tokens takes: one for each shared page into which something moves.
    fn pages_to_retain(&self, id: SequenceId, keep: &[usize]) -> usize {
        let table = self.cache.table();
        let (Ok(pages), page_size) = (table.pages(id), self.config.page_size) else {
            return 0;
        };
        let rises = keep.windows(2).all(|pair| pair[0] < pair[1]);
        if !rises
            || keep
                .last()
                .is_some_and(|&last| last >= table.len(id).unwrap())
        {
            return 0;
        }
        let changed: BTreeSet<usize> = keep
            .iter()
            .enumerate()
            .filter(|&(i, &token)| i != token)
            .map(|(i, _)| i / page_size)
            .collect();
        let is_shared = |&&index: &&usize| {
            let holders = table
                .sequences()
                .filter(|&other| table.pages(other).unwrap().contains(&pages[index]));
            holders.count() > 1
        };
        changed.iter().filter(is_shared).count()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let table = self.cache.table();
        let mut holders: BTreeMap<u32, usize> = BTreeMap::new();
        let living: Vec<_> = table.sequences().collect();
        prop_assert_eq!(&living, &self.handles.values().copied().collect::<Vec<_>>());
        for &id in &living {
            let list = &self.model.lists[&id.number()];
            prop_assert_eq!(table.len(id), Ok(list.len()));
            prop_assert_eq!(table.salt(id).unwrap(), &[self.salts[&id.number()]]);
            let pages = table.pages(id).unwrap();
            prop_assert_eq!(pages.len(), list.len().div_ceil(self.config.page_size));
            let distinct: BTreeSet<_> = pages.iter().collect();
            prop_assert_eq!(distinct.len(), pages.len());
            for &page in pages {
                *holders.entry(page).or_default() += 1;
            }
            let contents: Vec<_> = list.iter().map(|token| token.0).collect();
            for layer in 0..self.config.n_layers {
                let (k, v) = self.cache.gather(layer, id).unwrap();
                prop_assert_eq!(k, array(&self.config, layer, &contents, true));
                prop_assert_eq!(v, array(&self.config, layer, &contents, false));
            }
        }
        let (mut used, mut cached) = (0, 0);
        for page in 0..table.n_pages() as u32 {
            let expected = holders.get(&page).copied().unwrap_or(0);
            prop_assert_eq!(table.references(page), expected, "page {}", page);
            used += usize::from(expected > 0);
            cached += usize::from(expected == 0 && table.is_published(page));
        }
        prop_assert_eq!(table.n_cached(), cached);
        prop_assert_eq!(used + cached + table.n_free(), table.n_pages());
        let (block_table, lengths) = self.cache.block_table(&living).unwrap();
        for (row, &id) in living.iter().enumerate() {
            let pages = table.pages(id).unwrap();
            prop_assert_eq!(lengths[row] as usize, table.len(id).unwrap());
            prop_assert!(block_table.row(row).iter().zip(pages).all(|(a, b)| a == b));
        }
        Ok(())
    }
}

/// Whether nothing at all has changed: the books, and all that a file has of the pages.
fn assert_same<P: Pages>(a: &PagedCache<P>, b: &PagedCache<P>) -> Result<(), TestCaseError> {
    prop_assert_eq!(format!("{:?}", a.table()), format!("{:?}", b.table()));
    let [a, b] = [a, b].map(|cache| {
        let mut file = Vec::new();
        cache.save(&mut file).unwrap();
        file
    });
    prop_assert!(a == b);
    Ok(())
}

fn config() -> impl Strategy<Value = PoolConfig> {
    (
        0..3_usize,
        0..9_usize,
        1..4_usize,
        0..3_usize,
        any::<bool>(),
    )
        .prop_map(|(n_layers, n_pages, page_size, n_kv_heads, collides)| {
            let hash = if collides {
                PrefixHash::colliding()
            } else {
                PrefixHash::with_key([1, 2])
            };
            PoolConfig::new(n_layers, n_pages, page_size, n_kv_heads, 5)
                .with_value_dim(4)
                .with_hash(hash)
        })
}

/// Runs operations on a pool and on its lists.
fn run<P: Pages>(config: PoolConfig, operations: &[Operation]) -> Result<(), TestCaseError> {
    let mut world = World::<P>::new(config);
    for operation in operations {
        let before = world.cache.clone();
        world.is_refused = false;
        world.step(operation)?;
        if world.is_refused {
            assert_same(&world.cache, &before)?;
        }
        world.check()?;
    }
    // Nothing remains when all sequences are gone.
    for id in world.handles.values() {
        world.cache.free(*id).unwrap();
    }
    let n_pages = world.cache.table().n_pages();
    prop_assert_eq!(world.cache.table().n_available(), n_pages);
    world.cache.forget_prefixes();
    prop_assert_eq!(world.cache.table().n_free(), n_pages);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any operations on a pool do what they do to lists; pages are counted exactly; what is refused does nothing.
    #[test]
    fn a_pool_is_a_list_of_tokens_for_each_sequence(
        config in config(),
        operations in prop::collection::vec(operation(), 0..40),
    ) {
        run::<FloatPages<f32>>(config, &operations)?;
    }

    /// The same in 8 bits, of numbers that 8 bits can say.
    #[test]
    fn a_pool_of_int8_is_a_list_of_tokens_too(
        config in config(),
        operations in prop::collection::vec(operation(), 0..40),
    ) {
        run::<Int8Pages>(config, &operations)?;
    }

    /// The same in 4 bits, of numbers that 4 bits can say.
    #[test]
    fn a_pool_of_int4_is_a_list_of_tokens_too(
        config in config(),
        operations in prop::collection::vec(operation(), 0..40),
    ) {
        run::<Int4Pages>(config, &operations)?;
    }
}
