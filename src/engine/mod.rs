//! Threads and messages: the only module that knows both the trainer and the window.
