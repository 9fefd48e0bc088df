//! What passes through a WebSocket: any bytes are frames or are not, the same however they are cut into pieces, and a
//! boundary is where the frame that was written ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::proxy::tunnel::walker::{Place, Walker};

fn boundaries(bytes: &[u8], piece: usize) -> (Vec<usize>, Place) {
    let mut walker = Walker::new();
    let (mut found, mut at) = (Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        let mut passed = 0;
        while passed < piece.len() {
            let step = walker.walk_to_boundary(&piece[passed..]);
            assert!(step > 0, "no way forward");
            passed += step;
            if walker.place() == Place::Boundary {
                found.push(at + passed);
            }
        }
        at += piece.len();
    }
    let mut whole = Walker::new();
    whole.walk(bytes);
    assert_eq!(whole, walker);
    (found, walker.place())
}

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let whole = boundaries(bytes, usize::MAX);
    assert_eq!(boundaries(bytes, usize::from(*first) + 1), whole);
    // A sound frame behind a boundary ends where it ends.
    if whole.1 == Place::Boundary {
        let longer = [bytes, b"\x81\x02ok"].concat();
        let (found, place) = boundaries(&longer, usize::MAX);
        assert_eq!((found.last(), place), (Some(&longer.len()), Place::Boundary));
    }
});
