//! What one address may do: requests per second, connections at a time; and how many connections all may have together.
//!
//! A flow holds its address's [`Address`], so that a message costs no look-up. An address is IPv4 whole, IPv6 by its
//! /64: whoever has one IPv6 address has 2^64 (RFC 6177).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

const SHARDS: usize = 16;

/// One address's account.
#[derive(Debug)]
pub struct Address {
    limiter: Option<DefaultDirectRateLimiter>,
    connections: AtomicU32,
}

impl Address {
    /// Whether one more request may pass now.
    pub fn admits(&self) -> bool {
        self.limiter.as_ref().is_none_or(|l| l.check().is_ok())
    }

    /// Whether nothing is left to remember: no connection, and as many requests allowed as ever.
    fn is_forgotten(&self, burst: NonZeroU32) -> bool {
        self.connections.load(Ordering::Relaxed) == 0
            && self
                .limiter
                .as_ref()
                // A full burst passes only if nothing was taken lately. It takes the burst, which is as well: the
                // account is gone with it.
                .is_none_or(|l| matches!(l.check_n(burst), Ok(Ok(()))))
    }
}

/// A connection's place among all, and a client's share in its address's account; given back when dropped.
#[derive(Debug)]
pub struct Share {
    /// `None` for a connection that we made: what a client may do is no limit of ours.
    address: Option<Arc<Address>>,
    open: Arc<AtomicUsize>,
}

impl Share {
    /// The account, if it is a client's.
    pub fn address(&self) -> Option<&Arc<Address>> {
        self.address.as_ref()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(address) = &self.address {
            address.connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All addresses with a connection, or with requests not long ago.
#[derive(Debug)]
pub struct Addresses {
    shards: [Mutex<HashMap<IpAddr, Arc<Address>>>; SHARDS],
    hasher: RandomState,
    quota: Option<Quota>,
    burst: NonZeroU32,
    most_connections: u32,
    /// Connections of all addresses.
    open: Arc<AtomicUsize>,
    most_open: usize,
}

impl Addresses {
    /// Accounts with `per_second` requests (0: no limit), bursts of `burst`, and `connections` at a time; all of them
    /// together with `in_all` connections.
    pub fn new(per_second: u32, burst: u32, connections: u32, in_all: usize) -> Addresses {
        let burst = NonZeroU32::new(burst.max(1)).unwrap_or(NonZeroU32::MIN);
        Addresses {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::new())),
            hasher: RandomState::new(),
            quota: NonZeroU32::new(per_second).map(|n| Quota::per_second(n).allow_burst(burst)),
            burst,
            most_connections: connections,
            open: Arc::default(),
            most_open: in_all,
        }
    }

    /// Takes a connection's share of `ip`'s account; `None` when it has as many as it may, or all together have.
    pub fn enter(&self, ip: IpAddr) -> Option<Share> {
        let key = key(ip);
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        let mut shard = self.shards[shard].lock();
        let address = shard.entry(key).or_insert_with(|| {
            Arc::new(Address { limiter: self.quota.map(RateLimiter::direct), connections: AtomicU32::new(0) })
        });
        if address.connections.load(Ordering::Relaxed) >= self.most_connections {
            return None;
        }
        let mut share = self.place()?;
        address.connections.fetch_add(1, Ordering::Relaxed);
        share.address = Some(address.clone());
        Some(share)
    }

    /// Takes a place for a connection of our own; `None` when all together have as many as they may.
    pub fn place(&self) -> Option<Share> {
        // Taken before anything else happens to the connection: a look at how many are open already would let all that
        // come at once pass.
        let place = |open| (open < self.most_open).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place).ok()?;
        Some(Share { address: None, open: self.open.clone() })
    }

    /// Drops the accounts that say nothing any more. Called every few seconds; without it the map would grow with
    /// every address ever seen.
    pub fn forget(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|_, a| Arc::strong_count(a) > 1 || !a.is_forgotten(self.burst));
            if shard.capacity() > 64 && shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit();
            }
        }
    }

    /// How many accounts there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads the clock that limiters use once, so that its calibration does not fall on the first request.
pub fn calibrate() {
    let _ = DefaultClock::default().now();
}

fn key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let s = v6.segments();
            IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn the_burst_passes_and_the_next_request_does_not() {
        let all = Addresses::new(1, 3, 10, 10);
        let share = all.enter(ip("192.0.2.1")).expect("first");
        let passed = (0..10).filter(|_| share.address().expect("an account").admits()).count();
        assert_eq!(passed, 3);
        let other = all.enter(ip("192.0.2.2")).expect("other address");
        assert!(other.address().expect("an account").admits());
    }

    #[test]
    fn an_ipv6_network_of_64_bits_has_one_account() {
        let all = Addresses::new(0, 0, 1, 10);
        let share = all.enter(ip("2001:db8::1"));
        assert!(share.is_some());
        assert!(all.enter(ip("2001:db8::2")).is_none());
        assert!(all.enter(ip("2001:db8:0:1::2")).is_some());
        drop(share);
        assert!(all.enter(ip("2001:db8::3")).is_some());
    }

    #[test]
    fn all_addresses_together_have_so_many_connections() {
        let all = Addresses::new(0, 0, 10, 2);
        let shares = ["192.0.2.1", "192.0.2.2"].map(|a| all.enter(ip(a)).expect("a place"));
        assert!(all.enter(ip("192.0.2.3")).is_none());
        assert!(all.place().is_none());
        drop(shares);
        assert!(all.enter(ip("192.0.2.3")).is_some());
    }

    #[test]
    fn a_connection_of_our_own_has_a_place_and_no_account() {
        let all = Addresses::new(1, 1, 1, 2);
        let ours = [all.place(), all.place()];
        assert!(ours.iter().flatten().all(|share| share.address().is_none()));
        assert!(all.enter(ip("192.0.2.1")).is_none(), "all places are taken");
        drop(ours);
        assert!(all.enter(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn an_address_is_remembered_while_it_owes_and_forgotten_after() {
        let all = Addresses::new(1, 2, 10, 10);
        let share = all.enter(ip("192.0.2.1")).expect("share");
        assert!(share.address().expect("an account").admits());
        drop(share);
        all.forget();
        assert_eq!(all.len(), 1, "a reconnect must not refill the burst");
        drop(all.enter(ip("192.0.2.9")));
        all.forget();
        assert_eq!(all.len(), 1, "one that asked nothing is gone at once");
    }
}
