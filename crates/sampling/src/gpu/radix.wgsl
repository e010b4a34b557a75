// radix.wgsl: a search for the cut of a row, digit by digit (a snippet, prepended to kernels; needs keys.wgsl).
//
// Elements are ordered by composite keys of three words: for logits the key of the f32, nothing, the token. A search walks along them, from
// the largest or from the smallest, until what it adds up (elements, or their weights) reaches a target: the element there is the cut. Each
// pass finds eight bits of its composite key.

// Words of a row's search.
const CUT: u32 = 0u;         // three words: the digits that are known
const TARGET: u32 = 3u;      // two words: what is still to be added up
const BEFORE: u32 = 5u;      // elements before those that share the known digits
const EQUALS: u32 = 6u;      // elements that share them
const PHASE: u32 = 7u;
const RULE: u32 = 8u;        // which of the elements at the cut stay
const FLOOR_CUT: u32 = 9u;   // for the least number of tokens to keep: the key of the last of them,
const FLOOR_STAY: u32 = 10u; // how many with this key are among them,
const FLOOR_EQUALS: u32 = 11u; // and how many there are

const SEARCHING: u32 = 0u;
const FOUND: u32 = 1u;
const REFUSED: u32 = 2u;     // the row was

const ALL_STAY: u32 = 0u;
const LOW_STAY: u32 = 1u;    // ids up to the third word of the cut
const HIGH_STAY: u32 = 2u;   // ids above it

const BUCKETS: u32 = 256u;   // as many as INVOCATIONS
const BUCKET_WORDS: u32 = 3u; // number, and sum of the weights with the lower word first

// True if two words agree in the digits above the one at `shift`.
fn same_above(a: u32, b: u32, shift: u32) -> bool {
    return shift >= 24u || ((a ^ b) >> (shift + 8u)) == 0u;
}
