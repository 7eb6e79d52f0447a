//! Masks for the frames that we send as a client (RFC 6455 §5.3): unpredictable, and no system call for each.

use std::cell::RefCell;

/// Masks that are drawn at once.
const POOL: usize = 256;

struct Pool {
    masks: [[u8; 4]; POOL],
    left: usize,
}

thread_local! {
    static POOLED: RefCell<Pool> = const { RefCell::new(Pool { masks: [[0; 4]; POOL], left: 0 }) };
}

/// A mask that nobody can guess and that is not used again; `None` where the system has no random numbers.
pub(super) fn next() -> Option<[u8; 4]> {
    POOLED.with_borrow_mut(|pool| {
        if pool.left == 0 {
            aws_lc_rs::rand::fill(pool.masks.as_flattened_mut()).ok()?;
            pool.left = POOL;
        }
        pool.left -= 1;
        Some(std::mem::take(&mut pool.masks[pool.left]))
    })
}

/// Masks `bytes`, or unmasks them.
pub(super) fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_meets_its_own_byte_of_the_mask() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..40_usize {
            let plain: Vec<u8> = (0..length as u8).collect();
            let mut masked = plain.clone();
            apply(mask, &mut masked);
            let by_hand: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]).collect();
            assert_eq!(masked, by_hand, "{length} bytes");
        }
    }

    #[test]
    fn masks_do_not_repeat_within_a_pool_or_from_one_to_the_next() {
        let drawn: Vec<_> = (0..3 * POOL).map(|_| next().expect("random numbers")).collect();
        let different: std::collections::HashSet<_> = drawn.iter().collect();
        // By chance two of them are the same once in 14,000 runs; three pairs, never.
        assert!(different.len() > drawn.len() - 3, "{} of {}", different.len(), drawn.len());
    }
}
