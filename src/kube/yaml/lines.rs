//! The geometry of a YAML text: columns, lines, comments between tokens. Positions are bytes.

/// The first position from `at` on that is neither white space nor within a comment.
pub(super) fn skip(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' => at = line_end(text, at),
            // A byte order mark.
            0xef if bytes[at..].starts_with(b"\xef\xbb\xbf") => at += 3,
            _ => break,
        }
    }
    at
}

/// The position after the colon that follows a key on its line.
pub(super) fn colon(text: &str, key_end: usize) -> Option<usize> {
    let rest = &text[key_end..];
    let colon = rest.find(|c| !matches!(c, ' ' | '\t'))?;
    rest[colon..].starts_with(':').then_some(key_end + colon + 1)
}

/// Where the line of `at` begins.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    let start = text[..at].rfind('\n').map_or(0, |feed| feed + 1);
    if start == 0 && text.starts_with('\u{feff}') { 3 } else { start }
}

/// Where the line of `at` ends, before its line feed.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |feed| at + feed)
}

/// Where the line after that of `at` begins: after the line feed, or the text's end.
pub(super) fn next_line(text: &str, at: usize) -> usize {
    (line_end(text, at) + 1).min(text.len())
}

/// Characters before `at` in its line.
pub(super) fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().count()
}

/// Whether nothing but spaces stands before `at` in its line.
pub(super) fn first_in_line(text: &str, at: usize) -> bool {
    text[line_start(text, at)..at].bytes().all(|byte| byte == b' ')
}

/// The end of a block scalar whose header is at `start`: its last line without the line feed, blank lines after it only
/// where they are part of it.
pub(super) fn block_scalar_end(text: &str, start: usize, end: usize) -> usize {
    let head = line_end(text, start);
    let end = end.clamp(head, text.len());
    let header = text[start..head].split('#').next().unwrap_or_default();
    let body = &text[head..end];
    if !header.contains('+') {
        return head + body.trim_end_matches(['\n', '\r', ' ']).len();
    }
    // The parser's span may reach to the next token.
    let body = body.trim_end_matches(' ');
    head + body.strip_suffix('\n').unwrap_or(body).trim_end_matches('\r').len()
}

/// Where lines may be put in behind what ends at `end` in column `column`: after its last line and the comments that are
/// indented deeper than it is.
pub(super) fn behind(text: &str, end: usize, column: usize) -> usize {
    let mut at = next_line(text, end);
    loop {
        let line = &text[at..line_end(text, at)];
        let indent = line.len() - line.trim_start_matches(' ').len();
        if indent <= column || !line[indent..].starts_with('#') {
            return at;
        }
        at = next_line(text, at);
        if at == text.len() {
            return at;
        }
    }
}

/// Where the comments begin that stand directly above the line of `at`, not above `floor`.
pub(super) fn above(text: &str, at: usize, floor: usize) -> usize {
    let mut start = line_start(text, at);
    while start > floor {
        let previous = line_start(text, start - 1);
        if previous < floor || !text[previous..start].trim_start_matches(' ').starts_with('#') {
            break;
        }
        start = previous;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_belong_to_what_they_are_indented_under() {
        let text = "a:\n  b: 1\n  # of b\n   # deeper\n# of c\nc: 2\n";
        let end = text.find("1\n").expect("it is there") + 1;
        assert_eq!(&text[behind(text, end, 0)..], "# of c\nc: 2\n");
        assert_eq!(&text[behind(text, end, 2)..], "  # of b\n   # deeper\n# of c\nc: 2\n");
        let c = text.find("c: 2").expect("it is there");
        assert_eq!(&text[above(text, c, 0)..c], "  # of b\n   # deeper\n# of c\n");
        assert_eq!(above(text, c, c), c);
    }

    #[test]
    fn positions_at_the_edges_of_a_text_are_found() {
        assert_eq!((line_start("", 0), line_end("", 0), next_line("", 0)), (0, 0, 0));
        assert_eq!(next_line("a", 0), 1);
        assert_eq!(line_start("\u{feff}a", 4), 3);
        assert_eq!(skip("\u{feff} # x\n\t a", 0), "\u{feff} # x\n\t ".len());
        assert_eq!(colon("a : b", 1), Some(3));
        assert_eq!(colon("a\n: b", 1), None);
    }
}
