//! The write-ahead log on an object store.
