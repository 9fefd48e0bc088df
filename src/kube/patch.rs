//! The difference between two objects as a JSON Patch (RFC 6902), which is what an admission webhook answers with.

use serde_json::Value;

/// Operations that make `new` of `old`.
pub fn between(old: &Value, new: &Value) -> Vec<json_patch::PatchOperation> {
    json_patch::diff(old, new).0
}
