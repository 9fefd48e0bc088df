//! What is in Redis may be anything, and may change at any moment.
