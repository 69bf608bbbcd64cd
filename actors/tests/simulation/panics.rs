//! Panics inside a node's tasks are kept by the runtime: here they are heard nevertheless.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Forgets what was heard on this thread, and listens from now on.
pub(crate) fn listen() {
    HOOK.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            HEARD.with(|heard| *heard.borrow_mut() = Some(panic.to_string()));
            earlier(panic);
        }));
    });
    HEARD.with(|heard| heard.borrow_mut().take());
}

/// The last panic on this thread since [`listen`].
pub(crate) fn heard() -> Option<String> {
    HEARD.with(|heard| heard.borrow_mut().take())
}
