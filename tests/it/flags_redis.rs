//! Flags in Redis: what writers and readers agree on, and what happens when Redis does not keep its side.

mod acl;
mod cli;
mod contract;
mod faults;
mod following;
mod kept;
mod sidecar;
