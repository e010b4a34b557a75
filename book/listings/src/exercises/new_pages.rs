//! Exercise of the page on pages: how many a sequence needs to write.

// ANCHOR: exercise
/// Pages that a sequence of `len` tokens takes from the pool to write `n` more.
///
/// `is_shared` says whether others hold its last page too. Full pages are never written.
#[must_use]
pub fn new_pages(len: usize, n: usize, page_size: usize, is_shared: bool) -> usize {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let more = (len + n).div_ceil(page_size) - len.div_ceil(page_size);
    let writes_the_last = n > 0 && !len.is_multiple_of(page_size);
    more + usize::from(is_shared && writes_the_last) // a copy of it
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_kvcache::paged::PageTable;

    use super::new_pages;

    // ANCHOR: tests
    #[test]
    fn a_shared_page_is_copied_before_it_is_written() {
        assert_eq!(new_pages(6, 1, 4, false), 0);
        assert_eq!(new_pages(6, 1, 4, true), 1);
        assert_eq!(new_pages(8, 1, 4, true), 1); // the last page is full: a new one, no copy
        assert_eq!(new_pages(6, 3, 4, true), 2);
        assert_eq!(new_pages(6, 0, 4, true), 0);
    }

    #[test]
    fn the_crate_agrees() {
        for (len, n) in (0..10).flat_map(|len| (0..10).map(move |n| (len, n))) {
            for is_shared in [false, true] {
                let mut table = PageTable::new(20, 4).unwrap();
                let a = table.create(b"").unwrap();
                table.grow(&[(a, len)]).unwrap();
                if is_shared {
                    table.fork(a).unwrap();
                }
                let before = table.n_free();
                table.grow(&[(a, n)]).unwrap();
                let want = new_pages(len, n, 4, is_shared);
                assert_eq!(before - table.n_free(), want, "{len}, {n}, {is_shared}");
            }
        }
    }
    // ANCHOR_END: tests
}
