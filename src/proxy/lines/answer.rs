//! Answers: status line and fields, as a client of HTTP/1.1 gets them.

use http::StatusCode;
use httparse::Header;

use super::{LONGEST, Persistence, begin, end};
use crate::proxy::upstream::decode::{Framing, Lengths};

/// Room for a head, and for a small body behind it.
const ROOM: usize = 2 * 1024;

/// Those whose fields mean something else than in other answers.
const BY_THE_MAP: [StatusCode; 3] = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::UPGRADE_REQUIRED];

/// The begin of an answer's head: all but what frames the body, `Connection`, and the empty line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status line and fields, as of HTTP/1.1.
    pub text: Vec<u8>,
    /// Whether `Date` is among them.
    pub dated: bool,
}

/// A status line.
#[derive(Debug, Clone, Copy)]
pub struct Status<'b> {
    /// Its code.
    pub code: StatusCode,
    /// What stands behind it, empty for what is usual there.
    pub reason: &'b str,
    /// Whether it is one of HTTP/1.0.
    pub old: bool,
}

impl Answer {
    /// An answer to another method than HEAD, and how its body is framed and whether its connection lives on
    /// (RFC 9112 sections 6.3 and 9.3); `None` where the map is needed.
    pub fn of(status: Status<'_>, fields: &[Header<'_>]) -> Option<(Self, Framing, bool)> {
        if status.code.is_informational() || BY_THE_MAP.contains(&status.code) {
            return None;
        }
        let mut text = Vec::with_capacity(ROOM);
        text.extend_from_slice(b"HTTP/1.1 ");
        text.extend_from_slice(status.code.as_str().as_bytes());
        text.push(b' ');
        let reason = if status.reason.is_empty() { status.code.canonical_reason() } else { Some(status.reason) };
        text.extend_from_slice(reason.unwrap_or_default().as_bytes());
        text.extend_from_slice(b"\r\n");
        let (mut lengths, mut persistence) = (Lengths::default(), Persistence::default());
        let (mut chunked, mut dated) = (false, false);
        for field in fields {
            let value = field.value;
            let from = begin(field.name, &mut text);
            match &text[from..] {
                b"date" => dated = true,
                b"connection" => {
                    persistence.note(value)?;
                    text.truncate(from);
                    continue;
                }
                b"content-length" => {
                    lengths.note(value).ok()?;
                    text.truncate(from);
                    continue;
                }
                b"transfer-encoding" => {
                    if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return None;
                    }
                    chunked = true;
                    text.truncate(from);
                    continue;
                }
                b"upgrade" | b"keep-alive" | b"proxy-connection" => return None,
                name if name.len() > LONGEST => return None,
                _ => {}
            }
            end(value, &mut text);
        }
        let framing = match (chunked, lengths.value) {
            (true, None) if !status.old => Framing::Chunked,
            (true, _) => return None,
            (false, Some(_)) if lengths.repeated => return None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Close,
        };
        let keeps = !persistence.closes && (!status.old || persistence.keeps) && framing != Framing::Close;
        Some((Self { text, dated }, framing, keeps))
    }
}
