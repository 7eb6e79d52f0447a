//! Address ranges in CIDR notation (RFC 4632, RFC 4291 §2.3).

use super::text::text_value;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address range: `10.0.0.0/8`, `2001:db8::/32`, or one address.
///
/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is the IPv4 address that it maps, on either side of the comparison,
/// because that is how a dual-stack socket shows an IPv4 peer. `::/0` therefore holds no IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Is `address` in the range?
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => network == masked_v4(address, self.prefix),
            (IpAddr::V6(network), IpAddr::V6(address)) => network == masked_v6(address, self.prefix),
            _ => false,
        }
    }

    /// 127.0.0.0/8.
    pub(super) fn loopback_v4() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 }
    }

    /// Does the range hold every address of its family?
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }
}

impl From<IpAddr> for Cidr {
    /// The range of that one address.
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }
}

fn masked_v4(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

fn masked_v6(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| "expected an address range such as 10.0.0.0/8 or 2001:db8::/32".to_owned())?;
        let Some(prefix) = prefix else { return Ok(address.into()) };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix
            .parse::<u8>()
            .ok()
            .filter(|prefix| *prefix <= longest)
            .ok_or_else(|| format!("the prefix length is a number from 0 to {longest}"))?;
        let network = match address {
            IpAddr::V4(address) => IpAddr::V4(masked_v4(address, prefix)),
            IpAddr::V6(address) => IpAddr::V6(masked_v6(address, prefix)),
        };
        if network != address {
            // Guessing would widen or narrow who is trusted.
            return Err(format!("bits are set after the prefix; did you mean {network}/{prefix}, or {address} alone?"));
        }
        Ok(match network.to_canonical() {
            IpAddr::V4(mapped) if network.is_ipv6() && prefix >= 96 => {
                Self { address: IpAddr::V4(mapped), prefix: prefix - 96 }
            }
            _ => Self { address: network, prefix },
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

text_value!(Cidr, "an address range such as \"10.0.0.0/8\"");

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(range: &str, address: &str) -> bool {
        range.parse::<Cidr>().expect(range).contains(address.parse().expect(address))
    }

    #[test]
    fn a_range_holds_its_own_addresses_only() {
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1") && !holds("2001:db8::/32", "2001:db9::1"));
        assert!(holds("::1/128", "::1") && !holds("::1/128", "::2"));
        assert!(holds("::/0", "2001:db8::1") && !holds("::/0", "192.0.2.1"));
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_ipv4_address() {
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(holds("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(holds("::ffff:10.0.0.1", "10.0.0.1"));
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_mend() {
        let why = |text: &str| text.parse::<Cidr>().expect_err(text);
        assert_eq!(why("10.1.2.3/8"), "bits are set after the prefix; did you mean 10.0.0.0/8, or 10.1.2.3 alone?");
        assert_eq!(why("10.0.0.0/33"), "the prefix length is a number from 0 to 32");
        assert_eq!(why("::/129"), "the prefix length is a number from 0 to 128");
        assert!(why("10.0.0.0/").contains("from 0 to 32"));
        assert!(why("localhost").contains("10.0.0.0/8"));
        assert!(why("").contains("10.0.0.0/8"));
    }
}
