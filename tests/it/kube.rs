//! In the pod: what is injected, and how pods with it live and end.

mod rollout;
