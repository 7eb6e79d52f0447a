//! Addresses and names in PJSIP's shapes.

use std::ffi::{c_char, c_int};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use pjsip_sys as pj;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `addr` as PJSIP keeps it, and its length.
pub(super) fn sockaddr(addr: SocketAddr) -> (pj::pj_sockaddr, c_int) {
    // SAFETY: a union of plain numbers, for which all zeros is a value.
    let mut out: pj::pj_sockaddr = unsafe { std::mem::zeroed() };
    match addr {
        SocketAddr::V4(v4) => {
            out.ipv4 = pj::pj_sockaddr_in {
                sin_family: AF_INET,
                sin_port: v4.port().to_be(),
                sin_addr: pj::pj_in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                // SAFETY: as above; PJSIP compares the bytes behind the address too.
                ..unsafe { std::mem::zeroed() }
            };
            (out, size_of::<pj::pj_sockaddr_in>() as c_int)
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let mut sin6_addr: pj::pj_in6_addr = unsafe { std::mem::zeroed() };
            // SAFETY: every view of the union is 16 bytes of plain numbers.
            unsafe { std::ptr::write_unaligned((&raw mut sin6_addr).cast::<[u8; 16]>(), v6.ip().octets()) };
            out.ipv6 = pj::pj_sockaddr_in6 {
                sin6_family: AF_INET6,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr,
                sin6_scope_id: v6.scope_id(),
            };
            (out, size_of::<pj::pj_sockaddr_in6>() as c_int)
        }
    }
}

/// PJSIP's address as ours. `None` where it is neither IPv4 nor IPv6.
///
/// # Safety
///
/// `addr` points to an address that is as long as its family says.
pub(super) unsafe fn socket_addr(addr: *const pj::pj_sockaddr) -> Option<SocketAddr> {
    // SAFETY: the family stands first in every view, and says which of them is there.
    unsafe {
        match (*addr).addr.sa_family {
            AF_INET => {
                let v4 = (*addr).ipv4;
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port)))
            }
            AF_INET6 => {
                let v6 = (*addr).ipv6;
                let octets = std::ptr::read_unaligned((&raw const v6.sin6_addr).cast::<[u8; 16]>());
                let ip = Ipv6Addr::from(octets);
                Some(SocketAddr::V6(std::net::SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id)))
            }
            _ => None,
        }
    }
}

/// The text of `s`; empty where it is null or no UTF-8.
///
/// # Safety
///
/// `s` points to `slen` bytes, or is empty.
pub(super) unsafe fn text<'a>(s: &pj::pj_str_t) -> &'a str {
    if s.ptr.is_null() || s.slen <= 0 {
        return "";
    }
    // SAFETY: the caller vouches for pointer and length.
    let bytes = unsafe { std::slice::from_raw_parts(s.ptr.cast::<u8>(), s.slen as usize) };
    std::str::from_utf8(bytes).unwrap_or("")
}

/// Copies `s` into `pool`, with a zero behind it. Null where the pool has no memory.
///
/// # Safety
///
/// `pool` is a pool that lives, and nobody else uses it now.
pub(super) unsafe fn in_pool(pool: *mut pj::pj_pool_t, s: &str) -> pj::pj_str_t {
    // SAFETY: the pool is the caller's; it gives at least as many bytes as it is asked for, or null.
    unsafe {
        let ptr = pj::pj_pool_alloc(pool, s.len() + 1).cast::<c_char>();
        if ptr.is_null() {
            return pj::pj_str_t { ptr, slen: 0 };
        }
        std::ptr::copy_nonoverlapping(s.as_ptr().cast(), ptr, s.len());
        *ptr.add(s.len()) = 0;
        pj::pj_str_t { ptr, slen: s.len() as pj::pj_ssize_t }
    }
}

/// Writes `s` into a field of fixed size, cut to fit, with a zero behind it.
pub(super) fn write_name(field: &mut [c_char], s: &str) {
    let room = field.len().saturating_sub(1);
    let len = s.len().min(room);
    for (to, from) in field.iter_mut().zip(&s.as_bytes()[..len]) {
        *to = *from as c_char;
    }
    if let Some(end) = field.get_mut(len) {
        *end = 0;
    }
}

/// A host name that nobody resolves, for Via and Contact of a client (RFC 7118 §5.1, RFC 2606).
pub(super) fn invalid_host() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 12];
    // Without randomness the name is less unique, and still a name.
    let _ = SystemRandom::new().fill(&mut random);
    let label: String = random.iter().map(|b| LETTERS[usize::from(b & 31)] as char).collect();
    format!("{label}.invalid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were() {
        for text in ["192.0.2.7:5060", "[2001:db8::7]:443"] {
            let addr: SocketAddr = text.parse().expect("an address");
            let (theirs, len) = sockaddr(addr);
            assert_eq!(len, if addr.is_ipv4() { 16 } else { 28 });
            // SAFETY: just made.
            assert_eq!(unsafe { socket_addr(&raw const theirs) }, Some(addr));
        }
    }

    #[test]
    fn a_client_has_a_name_of_its_own_that_nobody_resolves() {
        let (a, b) = (invalid_host(), invalid_host());
        assert!(a.ends_with(".invalid") && a.len() == 20 && a != b, "{a} {b}");
    }

    #[test]
    fn a_name_is_cut_to_its_field() {
        let mut field = [1; 4];
        write_name(&mut field, "abcdef");
        assert_eq!(field, [b'a' as c_char, b'b' as c_char, b'c' as c_char, 0]);
    }
}
