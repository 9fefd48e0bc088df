//! The last known good of a Redis scope as a file's bytes: a header with version, checksum and length, then JSON.
//! Pure: what cannot be read is said to be so, whatever it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

/// First word and version of the header. A later version that this one cannot read is ignored like a broken file.
const MAGIC: &str = "tidegate-flags 1";

/// A scope as it was when it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Prefix and scope it belongs to, as `prefix:{scope}:flags`.
    pub(super) flags_key: String,
    pub(super) rev: u64,
    pub(super) incarnation: String,
    pub(super) evaluators: Option<String>,
    pub(super) metadata: Option<String>,
    /// Definitions by flag key.
    pub(super) flags: BTreeMap<String, String>,
}

/// Why a file is not a last known good.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum Damaged {
    #[error("no header of a version known here")]
    Header,
    #[error("{there} bytes where {told} were written")]
    Length { told: usize, there: usize },
    #[error("the checksum does not match")]
    Checksum,
    #[error("{0}")]
    Json(String),
    #[error("it belongs to {0}")]
    Foreign(String),
}

impl Kept {
    /// The bytes to write.
    pub(super) fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("strings and numbers always serialise");
        let mut bytes = format!("{MAGIC} {:016x} {}\n", xxh3_64(&body), body.len()).into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads what [`Kept::encode`] wrote for `flags_key`.
    pub(super) fn decode(bytes: &[u8], flags_key: &str) -> Result<Self, Damaged> {
        let end = bytes.iter().take(100).position(|byte| *byte == b'\n').ok_or(Damaged::Header)?;
        let header = std::str::from_utf8(&bytes[..end]).map_err(|_| Damaged::Header)?;
        let fields = header.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' ')).ok_or(Damaged::Header)?;
        let (checksum, length) = fields.split_once(' ').ok_or(Damaged::Header)?;
        let checksum = u64::from_str_radix(checksum, 16).map_err(|_| Damaged::Header)?;
        let told: usize = length.parse().map_err(|_| Damaged::Header)?;
        let body = &bytes[end + 1..];
        if body.len() != told {
            return Err(Damaged::Length { told, there: body.len() });
        }
        if xxh3_64(body) != checksum {
            return Err(Damaged::Checksum);
        }
        let kept: Self = serde_json::from_slice(body).map_err(|e| Damaged::Json(e.to_string()))?;
        if kept.flags_key == flags_key { Ok(kept) } else { Err(Damaged::Foreign(kept.flags_key)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept() -> Kept {
        Kept {
            flags_key: "tidegate:{orders}:flags".to_owned(),
            rev: 42,
            incarnation: "abc".to_owned(),
            evaluators: None,
            metadata: Some("{}".to_owned()),
            flags: [("a".to_owned(), r#"{"variants":{"x":1.0}}"#.to_owned())].into(),
        }
    }

    #[test]
    fn what_is_written_is_read_by_its_owner_alone() {
        let bytes = kept().encode();
        assert_eq!(Kept::decode(&bytes, "tidegate:{orders}:flags"), Ok(kept()));
        let foreign = Kept::decode(&bytes, "tidegate:{shared}:flags");
        assert_eq!(foreign, Err(Damaged::Foreign("tidegate:{orders}:flags".to_owned())));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let whole = kept().encode();
        for end in 0..whole.len() {
            assert!(Kept::decode(&whole[..end], "tidegate:{orders}:flags").is_err(), "cut at {end}");
            let mut changed = whole.clone();
            changed[end] ^= 0x04;
            assert!(Kept::decode(&changed, "tidegate:{orders}:flags").is_err(), "changed at {end}");
        }
        let later = String::from_utf8_lossy(&whole).replacen("flags 1", "flags 2", 1);
        assert_eq!(Kept::decode(later.as_bytes(), ""), Err(Damaged::Header));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Kept::decode(&bytes, ""));
            let mut headed = format!("{MAGIC} {:016x} {}\n", xxh3_64(&bytes), bytes.len()).into_bytes();
            headed.extend(bytes);
            prop_assert!(Kept::decode(&headed, "").is_err());
        }
    }
}
