//! Every kind of check against the real thing: what it looks at, and what it says when that is not so.

mod postgres;
