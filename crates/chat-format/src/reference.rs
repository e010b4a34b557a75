//! The obvious forms: a format as one string, a loss mask as ChatGLM3's own code makes it.
//!
//! Nothing here shares code with the segments but the types of messages.

pub mod chatglm3;
