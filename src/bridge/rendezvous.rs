//! Weighted rendezvous hashing: which target a key belongs to.
//!
//! Every target gets a score from the key and its own name; the highest wins. A target that goes takes only its own
//! keys along, and they spread over all others; one that comes back gets its own share back. Every node computes the
//! same, without talking to any other.

/// A hash that is the same on every node and in every version: FNV-1a over the bytes, then a mixer (the finaliser of
/// SplitMix64), since FNV alone leaves the high bits of short keys alike.
pub fn hash(key: &[u8], seed: u64) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325 ^ seed;
    for &b in key {
        h = (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

/// The score of a target for a key, from the key's hash and the target's. Targets win keys in proportion to `weight`.
pub fn score(key: u64, target: u64, weight: u32) -> f64 {
    let h = hash(&key.to_le_bytes(), target);
    // Uniform in (0, 1): 53 bits, and never 0, whose logarithm is none.
    let uniform = ((h >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight) / uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn winner(key: u64, targets: &[(u64, u32)]) -> u64 {
        targets
            .iter()
            .max_by(|a, b| score(key, a.0, a.1).total_cmp(&score(key, b.0, b.1)))
            .map(|t| t.0)
            .expect("targets")
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..20_000u32).map(|i| hash(format!("call-{i}@host").as_bytes(), 0))
    }

    #[test]
    fn shares_follow_the_weights() {
        let targets = [(hash(b"a", 0), 1), (hash(b"b", 0), 1), (hash(b"c", 0), 2)];
        let mut won = [0u32; 3];
        for key in keys() {
            let w = winner(key, &targets);
            won[targets.iter().position(|t| t.0 == w).expect("one of them")] += 1;
        }
        for (n, expected) in won.iter().zip([5000, 5000, 10_000]) {
            assert!((i64::from(*n) - expected).abs() < 300, "{won:?}");
        }
    }

    #[test]
    fn only_a_lost_targets_keys_move_and_they_spread_over_all_others() {
        let all = [b"a", b"b", b"c", b"d"].map(|n| (hash(n, 0), 1));
        let mut moved_to = std::collections::HashMap::new();
        for key in keys() {
            let before = winner(key, &all);
            let after = winner(key, &all[1..]);
            if before == all[0].0 {
                *moved_to.entry(after).or_insert(0) += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert_eq!(moved_to.len(), 3);
        assert!(moved_to.values().all(|&n: &i32| n > 1400), "{moved_to:?}");
    }

    #[test]
    fn the_hash_never_changes() {
        // Nodes of different versions have to agree; these values are forever.
        assert_eq!(hash(b"", 0), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(b"a84b4c76e66710@pc33.atlanta.com", 0), 0xe655_bb1a_4c82_d609);
    }
}
