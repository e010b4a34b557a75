//! Which prefixes are found, and by whom.

use llm_kvcache::KvCacheError;
use llm_kvcache::paged::PageTable;

fn main() -> Result<(), KvCacheError> {
    // ANCHOR: prefix
    let mut table = PageTable::new(8, 4)?; // 8 pages of 4 tokens
    let prompt = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19];
    let a = table.create(b"tenant 1")?;
    table.grow(&[(a, prompt.len())])?;
    println!("{} pages published", table.publish(a, &prompt)?);

    let wanted: [(&[u8], &[u32]); 5] = [
        (b"tenant 1", &[10, 11, 12, 13, 14, 15, 16, 17, 18, 19]),
        (b"tenant 1", &[10, 11, 12, 13, 14, 99, 16, 17]), // another sixth token
        (b"tenant 1", &[99, 11, 12, 13, 14, 15, 16, 17]), // another first token
        (b"tenant 1", &[14, 15, 16, 17]),                 // the second page alone
        (b"tenant 2", &[10, 11, 12, 13, 14, 15, 16, 17]), // another salt
    ];
    for (salt, tokens) in wanted {
        let found = table.cached_tokens(salt, tokens);
        println!("{}, {tokens:?}: {found}", String::from_utf8_lossy(salt));
    }
    // ANCHOR_END: prefix
    Ok(())
}
