//! Follows the frames of an HTTP/2 connection (RFC 9113 section 4.1) by their headers alone, however the bytes are cut.
//! Pure. It knows the kinds and lengths of frames, never what is in them.

/// Bytes of a frame's header.
const HEADER: usize = 9;

/// What a frame is to whoever counts frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// DATA that carries something, or ends its stream.
    Data,
    /// A head begins, and maybe ends.
    Head,
    /// Anything else, an empty part of a body or of a head included: it asks for work and moves no request on.
    Control,
}

/// Follows one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Walker {
    header: [u8; HEADER],
    known: usize,
    /// Bytes of the frame's payload still to come.
    payload: usize,
    /// A head has begun that no frame has ended yet.
    within_head: bool,
}

impl Walker {
    /// Goes over what was read, and tells of each frame that begins.
    pub(super) fn walk(&mut self, mut bytes: &[u8], mut told: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER - self.known).min(bytes.len());
            self.header[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEADER {
                self.known = 0;
                told(self.begin());
            }
        }
    }

    /// Whether the next byte begins a frame, and one that may be of any kind.
    pub(super) fn is_between_frames(&self) -> bool {
        self.known == 0 && self.payload == 0 && !self.within_head
    }

    /// Whether a head has begun of which something is missing.
    pub(super) fn is_within_head(&self) -> bool {
        const HEADERS: u8 = 1;
        self.within_head || (self.payload > 0 && self.header[3] == HEADERS)
    }

    fn begin(&mut self) -> Frame {
        const END_STREAM: u8 = 1;
        const END_HEADERS: u8 = 4;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            0 if self.payload > 0 || flags & END_STREAM != 0 => Frame::Data,
            1 => {
                self.within_head = flags & END_HEADERS == 0;
                Frame::Head
            }
            9 => {
                self.within_head &= flags & END_HEADERS == 0;
                Frame::Control
            }
            _ => Frame::Control,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER + payload, 0xff);
        bytes
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let frames = [
            (frame(4, 0, 18), Frame::Control),
            (frame(1, 4, 5), Frame::Head),
            (frame(0, 0, 300), Frame::Data),
            (frame(0, 0, 0), Frame::Control),
            (frame(0, 1, 0), Frame::Data),
            (frame(6, 0, 8), Frame::Control),
            (frame(0xfa, 0, 70_000), Frame::Control),
            (frame(1, 5, 0), Frame::Head),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let expected: Vec<Frame> = frames.iter().map(|(_, frame)| *frame).collect();
        for size in [1, 2, 8, 9, 10, 17, 4096, bytes.len()] {
            let (mut walker, mut told) = (Walker::default(), Vec::new());
            for part in bytes.chunks(size) {
                walker.walk(part, |frame| told.push(frame));
            }
            assert_eq!(told, expected, "in parts of {size}");
            assert!(!walker.is_within_head());
        }
    }

    #[test]
    fn a_head_lasts_until_its_last_continuation_has_come() {
        let mut walker = Walker::default();
        for (bytes, within, between) in [
            (frame(1, 0, 3), true, false),
            (frame(9, 0, 3), true, false),
            (frame(9, 4, 3), false, true),
            (frame(6, 0, 8), false, true),
            (frame(1, 4, 3)[..10].to_vec(), true, false),
            (vec![0; 2], false, true),
            (frame(6, 0, 8)[..4].to_vec(), false, false),
        ] {
            walker.walk(&bytes, |_| {});
            assert_eq!((walker.is_within_head(), walker.is_between_frames()), (within, between), "after {bytes:?}");
        }
    }
}
