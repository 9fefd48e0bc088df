//! Follows WebSocket frames (RFC 6455 section 5.2) in bytes that pass by, to know where one ends and the next begins.
//! Pure: it keeps a head of ten bytes at most and no payload, and changes nothing.

/// The longest part of a head that tells the frame's length: two bytes and eight of a 64-bit length.
const LONGEST: usize = 10;

/// The opcode of a Close frame.
const CLOSE: u8 = 0x8;

/// One direction of a WebSocket. Reserved bits and opcodes are for the two ends to judge (permessage-deflate uses one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walker {
    state: State,
    /// The opcode of the frame that is passing.
    opcode: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// In a frame's head, of which these bytes have passed; none of them is the boundary itself.
    Head { bytes: [u8; LONGEST], len: u8 },
    /// In a frame's mask and payload, of which so many bytes are still to come.
    Rest(u64),
    /// A Close frame has passed: nothing that follows means anything (section 5.5.1).
    Closed,
    /// These are no frames.
    Opaque,
}

/// Where a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Between two frames: a control frame may be put here, even between the fragments of a message (section 5.4).
    Boundary,
    /// Within a frame.
    Inside,
    /// Behind a Close frame.
    Closed,
    /// Lost: the bytes are no frames.
    Opaque,
}

impl Default for Walker {
    fn default() -> Self {
        Self { state: HEAD, opcode: 0 }
    }
}

const HEAD: State = State::Head { bytes: [0; LONGEST], len: 0 };

impl Walker {
    /// At the beginning of the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        match self.state {
            State::Head { len: 0, .. } => Place::Boundary,
            State::Head { .. } | State::Rest(_) => Place::Inside,
            State::Closed => Place::Closed,
            State::Opaque => Place::Opaque,
        }
    }

    /// Follows all of these bytes.
    pub fn walk(&mut self, bytes: &[u8]) {
        let mut passed = 0;
        while passed < bytes.len() {
            passed += self.step(&bytes[passed..]);
        }
    }

    /// Follows these bytes up to the next boundary that is behind where it is, and returns how many they were: all of them
    /// when none is reached.
    pub fn walk_to_boundary(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while passed < bytes.len() {
            passed += self.step(&bytes[passed..]);
            if self.place() != Place::Inside {
                break;
            }
        }
        passed
    }

    /// Follows some of these bytes, one at least, and not beyond the end of a frame.
    fn step(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            State::Head { bytes: head, len } => {
                head[usize::from(*len)] = bytes[0];
                *len += 1;
                let (head, len) = (*head, *len);
                if len == 1 {
                    self.opcode = head[0] & 0x0f;
                }
                match rest(&head[..usize::from(len)]) {
                    Rest::Unknown => {}
                    Rest::Malformed => self.state = State::Opaque,
                    Rest::Bytes(left) => self.pass(left),
                }
                1
            }
            State::Rest(left) => {
                let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                let left = *left - passed as u64;
                self.pass(left);
                passed
            }
            State::Closed | State::Opaque => bytes.len(),
        }
    }

    fn pass(&mut self, left: u64) {
        self.state = match left {
            0 if self.opcode == CLOSE => State::Closed,
            0 => HEAD,
            left => State::Rest(left),
        };
    }
}

enum Rest {
    /// The head goes on.
    Unknown,
    /// Of mask and payload.
    Bytes(u64),
    /// A 64-bit length whose highest bit is set.
    Malformed,
}

fn rest(head: &[u8]) -> Rest {
    let [_, second, extended @ ..] = head else { return Rest::Unknown };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let length = match (second & 0x7f, extended) {
        (126, &[a, b]) => u64::from(u16::from_be_bytes([a, b])),
        (127, &[a, b, c, d, e, f, g, h]) => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        (126 | 127, _) => return Rest::Unknown,
        (short, _) => u64::from(short),
    };
    if length > u64::MAX >> 1 { Rest::Malformed } else { Rest::Bytes(length + mask) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where each boundary is, however the bytes are cut, and where it ends.
    fn check(bytes: &[u8], boundaries: &[usize], end: Place) {
        for piece in [1, 2, 3, 7, usize::MAX] {
            let mut walker = Walker::new();
            let (mut found, mut at) = (Vec::new(), 0);
            for piece in bytes.chunks(piece) {
                let mut passed = 0;
                while passed < piece.len() {
                    passed += walker.walk_to_boundary(&piece[passed..]);
                    if walker.place() == Place::Boundary {
                        found.push(at + passed);
                    }
                }
                at += piece.len();
            }
            assert_eq!((found.as_slice(), walker.place()), (boundaries, end), "{bytes:02x?} in pieces of {piece}");
            let mut whole = Walker::new();
            whole.walk(bytes);
            assert_eq!(whole.place(), end);
        }
    }

    fn frame(first: u8, second: &[u8], rest: usize) -> Vec<u8> {
        [&[first], second, &vec![0xab; rest]].concat()
    }

    #[test]
    fn frames_of_every_length_end_where_they_end() {
        check(b"", &[], Place::Boundary);
        check(&[0x81, 0x00], &[2], Place::Boundary);
        check(b"\x81\x05Hello\x81\x05Hello", &[7, 14], Place::Boundary);
        check(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &[11], Place::Boundary);
        check(&frame(0x82, &[126, 0x01, 0x00], 256), &[260], Place::Boundary);
        check(&frame(0x82, &[0x80 | 126, 0x01, 0x00], 260), &[264], Place::Boundary);
        check(&frame(0x82, &[127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536), &[65_546], Place::Boundary);
        check(&frame(0x82, &[127, 0, 0, 0, 0, 0, 0, 0, 1], 1), &[11], Place::Boundary);
    }

    #[test]
    fn what_is_cut_within_a_frame_is_inside() {
        let whole = frame(0x82, &[0xff, 0, 0, 0, 0, 0, 0, 0, 2], 6);
        for length in 1..whole.len() {
            check(&whole[..length], &[], Place::Inside);
        }
        check(&whole, &[16], Place::Boundary);
    }

    #[test]
    fn control_frames_between_fragments_are_frames() {
        check(b"\x01\x03Hel\x89\x01!\x80\x02lo", &[5, 8, 12], Place::Boundary);
        check(b"\xc1\x01x\xff\x00", &[3, 5], Place::Boundary);
    }

    #[test]
    fn nothing_counts_behind_a_close() {
        check(b"\x88\x02\x03\xe8\x81", &[], Place::Closed);
        check(b"\x88\x80abcd", &[], Place::Closed);
        check(b"\x88\x00", &[], Place::Closed);
    }

    #[test]
    fn an_impossible_length_is_no_frame() {
        check(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2], &[], Place::Opaque);
        check(&[0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2], &[], Place::Inside);
        check(&[0x82, 255, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2], &[], Place::Inside);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
            let (mut whole, mut cut) = (Walker::new(), Walker::new());
            whole.walk(&bytes);
            bytes.chunks(piece).for_each(|piece| cut.walk(piece));
            prop_assert_eq!(whole, cut);
        }
    }
}
