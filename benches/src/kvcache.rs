//! Cases of `llm-kvcache`: a token more, in a short cache and in a long one, and a prefix that is found again.
//!
//! "Ours at 64 tokens" beside a long cache is what the length costs: appending takes as long at any length, so the ratio
//! must be at least 1 / 1.5.

use std::hint::black_box;

use anyhow::{Result, ensure};
use llm_kvcache::ContiguousCache;
use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::paged::{
    FloatPages, Int8Pages, PageData, PageTable, PagedCache, PoolConfig, PrefixHash,
};
use ndarray::Array3;

use crate::case::{Bars, Case, Peer, Plan, Setup, Work};
use crate::measure::{Calls, Contender};

const KV_HEADS: usize = 8;
const HEAD_DIM: usize = 64;
const PAGE_SIZE: usize = 16;
const SHORT: usize = 64;
const LONG: usize = 65_536;
/// Tokens of the prefix.
const PREFIX: usize = 4096;
/// Bytes of a token's keys and values.
const TOKEN: usize = 2 * KV_HEADS * HEAD_DIM * size_of::<f32>();

/// Every case of the crate.
pub(crate) fn plans() -> Vec<Plan> {
    let append = |store: &str, build: fn(&Setup) -> Result<Case>| Plan {
        name: format!("append a token at {LONG}, {store}, {KV_HEADS} heads of {HEAD_DIM}"),
        bars: Bars {
            of_limit: None,
            peers: &[("ours at 64 tokens", 1.0 / 1.5)],
        },
        build: Box::new(build),
    };
    let mut plans = vec![
        append("contiguous", |setup| case(setup, contiguous)),
        append("growing", |setup| case(setup, growing)),
        append("pages of f32", |setup| {
            case(setup, paged::<FloatPages<f32>>)
        }),
        append("pages of int8", |setup| case(setup, paged::<Int8Pages>)),
        append("KIVI, 4 bits", |setup| case(setup, kivi)),
    ];
    plans.push(Plan {
        name: format!("find a prefix of {PREFIX} tokens, pages of {PAGE_SIZE}"),
        bars: Bars::default(),
        build: Box::new(prefix),
    });
    plans
}

/// Appending at the long length, beside appending at the short one.
fn case(setup: &Setup, store: fn(&Setup, usize) -> Result<Box<dyn Contender>>) -> Result<Case> {
    Ok(Case {
        work: Work::Copy { bytes: 2 * TOKEN },
        ours: store(setup, LONG)?,
        peers: vec![Peer {
            library: format!("ours at {SHORT} tokens"),
            version: String::new(),
            contender: store(setup, SHORT)?,
        }],
    })
}

/// `[kv_heads, seq, head_dim]` of random numbers.
fn tokens(setup: &Setup, stream: u64, seq: usize) -> Result<Array3<f32>> {
    let shape = [KV_HEADS, seq, HEAD_DIM];
    let data = setup.random(stream, KV_HEADS * seq * HEAD_DIM);
    Ok(Array3::from_shape_vec(shape, data)?)
}

/// Appends, and takes back, so that the length stays.
fn contiguous(setup: &Setup, len: usize) -> Result<Box<dyn Contender>> {
    let cache = ContiguousCache::new(1, KV_HEADS, len + 1, HEAD_DIM, HEAD_DIM)?;
    filled(setup, cache, len)
}

fn growing(setup: &Setup, len: usize) -> Result<Box<dyn Contender>> {
    let cache = ContiguousCache::growing(1, KV_HEADS, PAGE_SIZE, HEAD_DIM, HEAD_DIM)?;
    filled(setup, cache, len)
}

fn filled(
    setup: &Setup,
    mut cache: ContiguousCache<f32>,
    len: usize,
) -> Result<Box<dyn Contender>> {
    let (all, new) = (tokens(setup, 0, len)?, tokens(setup, 1, 1)?);
    cache.append(0, &all, &all)?;
    Ok(Calls::boxed(move |_| {
        cache.append(0, &new, &new)?;
        cache.crop(0, len)?;
        black_box(&cache);
        Ok(())
    }))
}

/// The length is a multiple of the page size: each call takes a page, and gives it back.
fn paged<P: PageData<Input = f32> + 'static>(
    setup: &Setup,
    len: usize,
) -> Result<Box<dyn Contender>> {
    let n_pages = len / PAGE_SIZE + 1;
    let config = PoolConfig::new(1, n_pages, PAGE_SIZE, KV_HEADS, HEAD_DIM);
    let mut cache = PagedCache::<P>::new(&config)?;
    let (all, new) = (tokens(setup, 0, len)?, tokens(setup, 1, 1)?);
    let id = cache.create(b"")?;
    cache.append(id, &[all.view()], &[all.view()])?;
    Ok(Calls::boxed(move |_| {
        cache.append(id, &[new.view()], &[new.view()])?;
        cache.crop(id, len)?;
        black_box(&cache);
        Ok(())
    }))
}

/// No token waits, so that each call only adds a key that waits, and quantizes one value.
fn kivi(setup: &Setup, len: usize) -> Result<Box<dyn Contender>> {
    let mut cache = KiviCache::new(1, KV_HEADS, HEAD_DIM, HEAD_DIM, &KiviConfig::new(4, 32, 0))?;
    let (all, new) = (tokens(setup, 0, len)?, tokens(setup, 1, 1)?);
    cache.append(0, &all, &all)?;
    Ok(Calls::boxed(move |_| {
        cache.append(0, &new, &new)?;
        cache.crop(0, len)?;
        black_box(&cache);
        Ok(())
    }))
}

/// The sequence is made and freed again.
fn prefix(_: &Setup) -> Result<Case> {
    let hash = PrefixHash::with_key([1, 2]);
    let mut table = PageTable::with_hash(PREFIX / PAGE_SIZE, PAGE_SIZE, hash)?;
    let ids: Vec<u32> = (0..PREFIX as u32)
        .map(|i| i.wrapping_mul(2_654_435_761) % 128_256)
        .collect();
    let first = table.create(b"a tenant")?;
    table.grow(&[(first, PREFIX)])?;
    table.publish(first, &ids)?;
    table.free(first)?;
    let (id, found) = table.create_with_prefix(b"a tenant", &ids)?;
    ensure!(
        found == PREFIX,
        "{found} tokens of {PREFIX} were found; nothing was timed"
    );
    table.free(id)?;
    Ok(Case {
        work: Work::Read {
            bytes: PREFIX * size_of::<u32>(),
        },
        ours: Calls::boxed(move |_| {
            let (id, found) = table.create_with_prefix(b"a tenant", &ids)?;
            black_box(found);
            table.free(id)?;
            Ok(())
        }),
        peers: Vec::new(),
    })
}
