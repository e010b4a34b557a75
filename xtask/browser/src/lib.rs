//! What needs a browser: JavaScript glue for WebAssembly, and pages opened in a headless Chromium.
//!
//! [`bindgen`] makes the module that a page imports. [`open`] serves a folder on this machine, opens one page after the
//! other, runs a script in each and returns what it returns. A page that throws, logs an error, misses a file or
//! asks another server for something has failed, whatever its script says.

pub mod bindgen;
mod chromium;
mod page;
mod server;
mod watch;

pub use chromium::{VARIABLE, find};
pub use page::{Options, open};
