//! MurmurHash3 x86_32, the hash behind every bucketing version. It knows nothing of flags.

/// MurmurHash3 x86_32 of `data` (Austin Appleby's public-domain `MurmurHash3.cpp`), with seed 0 for all bucketing.
pub(crate) fn murmur3_32(data: &[u8], seed: u32) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let mut hash = seed;
    let (blocks, tail) = data.as_chunks::<4>();
    for block in blocks {
        let k = u32::from_le_bytes(*block).wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
        hash = (hash ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let k = tail.iter().rev().fold(0u32, |k, byte| (k << 8) | u32::from(*byte));
        hash ^= k.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    }
    // The reference implementation mixes in the length as a 32-bit number; longer inputs cannot arise here.
    hash ^= data.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_hold() {
        // From SMHasher's verification and the vectors commonly quoted for x86_32.
        let cases: [(&[u8], u32, u32); 9] = [
            (b"", 0, 0),
            (b"", 1, 0x514e_28b7),
            (b"", 0xffff_ffff, 0x81f1_6f39),
            (b"\xff\xff\xff\xff", 0, 0x7629_3b50),
            (b"\x21\x43\x65\x87", 0, 0xf55b_516b),
            (b"\x21\x43\x65", 0, 0x7e4a_8634),
            (b"\x21\x43", 0, 0xa0f7_b07a),
            (b"\x21", 0, 0x7266_1cf4),
            (b"\x00\x00\x00\x00", 0, 0x2362_f9de),
        ];
        for (data, seed, expected) in cases {
            assert_eq!(murmur3_32(data, seed), expected, "{data:?} with seed {seed}");
        }
    }

    #[test]
    fn the_key_of_a_shorthand_fractional_hashes_as_the_design_says() {
        assert_eq!(murmur3_32(b"fractional-flag-shorthanduser-1", 0), 692_567_502);
    }
}
