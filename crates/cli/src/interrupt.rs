//! Ctrl-C: a running generation stops and what it made is kept; anything else ends at once.

use core::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, INTERRUPTED};

static GENERATING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// Installs the handler.
pub(crate) fn listen() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        // The second time, do not wait for the generation either.
        if ASKED.swap(true, Ordering::SeqCst) || !GENERATING.load(Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))
}

/// Marks a generation as running for as long as it lives.
#[derive(Debug)]
pub(crate) struct Generating(());

impl Generating {
    pub(crate) fn start() -> Self {
        GENERATING.store(true, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Generating {
    fn drop(&mut self) {
        GENERATING.store(false, Ordering::SeqCst);
    }
}

/// Whether Ctrl-C came.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Whether a generation is to go on.
pub(crate) fn flow() -> ControlFlow<()> {
    if asked() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
