//! Tokens that go from places of pages to other places.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet};

use super::element::GpuPageElement;
use super::pages::{BYTE_MASK, GpuPages, words_of_run};
use super::{GpuKvCacheError, WORKGROUP_SIZE, word};
use crate::memory::reserve;
use crate::paged::{PageCopy, PageShape, TokenMove};

llm_gpu::params! {
    /// The parameter block of the kernels that copy runs of tokens.
    pub(super) struct RunsParams {
        n_items: u32,
        n_parts: u32,
        n_heads: u32,
        row_bytes: u32,
        run_words: u32,
        from_page_size: u32,
        to_page_size: u32,
        from_slots: u32,
        to_slots: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

const RUNS: Snippet = Snippet {
    name: "runs",
    source: include_str!("runs.wgsl"),
};

pub(super) static COPY_RUNS: Kernel = Kernel {
    name: "copy_runs",
    source: include_str!("copy_runs.wgsl"),
    snippets: &[snippet::LINEAR, BYTE_MASK, RUNS],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<RunsParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static MOVE_RUNS: Kernel = Kernel {
    name: "move_runs",
    source: include_str!("move_runs.wgsl"),
    snippets: &[snippet::LINEAR, BYTE_MASK, RUNS],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<RunsParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Tokens that lie one behind the other in a page, and go to where they do so in another, or the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) from: usize, // slots
    pub(super) to: usize,
    pub(super) n: usize, // tokens
}

/// Copies of pages as runs.
pub(super) fn of_pages(shape: PageShape, copies: &[PageCopy]) -> Result<Vec<Run>, GpuKvCacheError> {
    let mut runs = reserve(copies.len())?;
    for &PageCopy { from, to } in copies {
        let n = shape.page_size;
        runs.push(Run {
            from: slot(shape, (from, 0))?,
            to: slot(shape, (to, 0))?,
            n,
        });
    }
    Ok(runs)
}

/// Moves of tokens as runs: those that go on where the one before ended are one.
pub(super) fn of_tokens(
    shape: PageShape,
    moves: &[TokenMove],
) -> Result<Vec<Run>, GpuKvCacheError> {
    let mut runs: Vec<Run> = reserve(moves.len())?;
    for &TokenMove { from, to } in moves {
        let (from, to) = (slot(shape, from)?, slot(shape, to)?);
        let begins_page = |slot: usize| slot.is_multiple_of(shape.page_size);
        match runs.last_mut() {
            Some(run)
                if (run.from + run.n, run.to + run.n) == (from, to)
                    && !begins_page(from)
                    && !begins_page(to) =>
            {
                run.n += 1;
            }
            _ => runs.push(Run { from, to, n: 1 }),
        }
    }
    Ok(runs)
}

fn slot(shape: PageShape, (page, place): (u32, usize)) -> Result<usize, GpuKvCacheError> {
    let (n_pages, page_size) = (shape.n_pages, shape.page_size);
    if page as usize >= n_pages || place >= page_size {
        return Err(GpuKvCacheError::Place {
            page,
            place,
            n_pages,
            page_size,
        });
    }
    Ok(page as usize * page_size + place)
}

/// Runs that can be done, on the device.
#[derive(Debug)]
pub(super) struct Plan {
    n_runs: usize,
    longest: usize,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Nothing,
    /// No place that is written is read.
    Direct(GpuTensor<u32>),
    /// All are read before the first is written: into scratch memory, and from there.
    Twice {
        out: GpuTensor<u32>,
        back: GpuTensor<u32>,
    },
}

impl Plan {
    /// Looks at runs whose slots are in the pool, and brings them to the device.
    pub(super) fn new(
        gpu: &llm_gpu::Gpu,
        shape: PageShape,
        runs: &[Run],
    ) -> Result<Self, GpuKvCacheError> {
        let mut runs: Vec<Run> = runs
            .iter()
            .copied()
            .filter(|run| run.from != run.to && run.n > 0)
            .collect();
        runs.sort_unstable_by_key(|run| run.to);
        for pair in runs.windows(2) {
            if pair[0].to + pair[0].n > pair[1].to {
                return Err(GpuKvCacheError::Twice {
                    page: word(pair[1].to / shape.page_size),
                    place: pair[1].to % shape.page_size,
                });
            }
        }
        // The last run that begins to be written before a run's end of reading is the one that can meet it.
        let meets = |run: &Run| {
            let before = runs.partition_point(|other| other.to < run.from + run.n);
            before > 0 && runs[before - 1].to + runs[before - 1].n > run.from
        };
        let upload = |list: &dyn Fn(usize, &Run) -> [usize; 3]| {
            let words = runs.iter().enumerate().flat_map(|(i, run)| list(i, run));
            let words: Vec<u32> = words.map(word).collect();
            gpu.upload_slice(&[runs.len(), 3], &words)
        };
        let longest = runs.iter().map(|run| run.n).max().unwrap_or(0);
        let way = if runs.is_empty() {
            Way::Nothing
        } else if runs.iter().any(meets) {
            Way::Twice {
                out: upload(&|i, run| [run.from, i * longest, run.n])?,
                back: upload(&|i, run| [i * longest, run.to, run.n])?,
            }
        } else {
            Way::Direct(upload(&|_, run| [run.from, run.to, run.n])?)
        };
        Ok(Self {
            n_runs: runs.len(),
            longest,
            way,
        })
    }

    /// Records the runs for all arrays of some pages.
    pub(super) fn record<E: GpuPageElement>(
        &self,
        recorder: &mut Recorder,
        pages: &GpuPages<E>,
    ) -> Result<(), GpuKvCacheError> {
        let shape = pages.shape();
        for (index, (array, row_bytes, n_parts)) in pages.arrays().into_iter().enumerate() {
            let run_words = words_of_run(row_bytes, self.longest);
            let n_items = self.n_runs * n_parts * shape.n_kv_heads * run_words;
            let grid = Grid::linear(n_items, WORKGROUP_SIZE)?;
            let n_slots = shape.n_pages * shape.page_size;
            let params = RunsParams {
                n_items: word(n_items),
                n_parts: word(n_parts),
                n_heads: word(shape.n_kv_heads),
                row_bytes: word(row_bytes),
                run_words: word(run_words),
                from_page_size: word(shape.page_size),
                to_page_size: word(shape.page_size),
                from_slots: word(n_slots),
                to_slots: word(n_slots),
                pad0: 0,
                pad1: 0,
                pad2: 0,
            };
            match &self.way {
                Way::Nothing => {}
                Way::Direct(runs) => {
                    recorder.dispatch(&COPY_RUNS, &[], &params, &[runs.read(), array], grid)?;
                }
                Way::Twice { out, back } => {
                    let n_scratch = self.n_runs * self.longest;
                    let bytes = n_scratch * n_parts * shape.n_kv_heads * row_bytes;
                    let scratch = recorder.scratch::<u32>(&[bytes.div_ceil(4)])?;
                    let (page_size, slots) = (word(self.longest), word(n_scratch));
                    let there = RunsParams {
                        to_page_size: page_size,
                        to_slots: slots,
                        ..params
                    };
                    let from = pages.array_to_read(index);
                    let bindings = [out.read(), from, scratch.write()];
                    recorder.dispatch(&MOVE_RUNS, &[], &there, &bindings, grid)?;
                    let again = RunsParams {
                        from_page_size: page_size,
                        from_slots: slots,
                        ..params
                    };
                    let bindings = [back.read(), scratch.read(), array];
                    recorder.dispatch(&MOVE_RUNS, &[], &again, &bindings, grid)?;
                }
            }
        }
        Ok(())
    }
}
