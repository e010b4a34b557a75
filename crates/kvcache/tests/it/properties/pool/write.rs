//! Writing again what a sequence holds.

use llm_kvcache::KvCacheError;
use llm_kvcache::paged::SequenceId;
use proptest::prelude::*;

use super::contents::array;
use super::{Pages, World};

impl<P: Pages> World<P> {
    /// Writes other tokens over the last ones of a sequence, layer by layer, if it has their pages for itself.
    pub(super) fn write(&mut self, id: SequenceId, ids: &[u32]) -> Result<(), TestCaseError> {
        let list = self
            .model
            .lists
            .get(&id.number())
            .cloned()
            .unwrap_or_default();
        let start = list.len().saturating_sub(ids.len());
        let ids = &ids[..list.len() - start];
        self.model.crop(id.number(), start);
        let tokens = self.tokens(id, ids);
        let contents: Vec<_> = tokens.iter().map(|token| token.0).collect();
        let table = self.cache.table();
        let mut expected = Ok(());
        match table.pages(id) {
            Err(error) => expected = Err(error),
            Ok(pages) if !ids.is_empty() => {
                let page_size = self.config.page_size;
                let shared = (pages[start / page_size..].iter())
                    .find(|&&page| table.references(page) > 1 || table.is_published(page));
                if let Some(&page) = shared {
                    let id = id.number();
                    expected = Err(KvCacheError::SharedPage { id, page });
                }
            }
            Ok(_) => {}
        }
        for layer in 0..self.config.n_layers {
            let [k, v] = [true, false].map(|is_key| array(&self.config, layer, &contents, is_key));
            let outcome = self.cache.write(layer, id, start, k.view(), v.view());
            prop_assert_eq!(outcome, expected);
        }
        let is_written = expected.is_ok() && self.config.n_layers > 0;
        self.is_refused = !is_written;
        if let Some(list_now) = self.model.lists.get_mut(&id.number()) {
            list_now.extend(if is_written { &tokens } else { &list[start..] });
        }
        Ok(())
    }
}
