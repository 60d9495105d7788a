//! Networks as operators write them (CIDR).
//!
//! Invariant: no bit is set after the prefix, so two spellings of one network are equal.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address range: `127.0.0.0/8`, `::1/128`, or a bare address, which is a network of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why text is not a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkError {
    Address,
    /// Not a number, or more bits than the address has.
    Prefix,
    /// Bits are set after the prefix: `10.0.0.1/8`. Probably another network was meant.
    HostBits(Network),
}

impl Network {
    /// Whether `client` lies in it. An IPv4 client that came through an IPv6 socket is an IPv4 client.
    pub fn contains(&self, client: IpAddr) -> bool {
        match (self.address, client.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(client)) => masked_v4(client, self.prefix_bits) == network,
            (IpAddr::V6(network), IpAddr::V6(client)) => masked_v6(client, self.prefix_bits) == network,
            _ => false,
        }
    }

    fn masked(address: IpAddr, prefix_bits: u8) -> Self {
        let address = match address {
            IpAddr::V4(address) => IpAddr::V4(masked_v4(address, prefix_bits)),
            IpAddr::V6(address) => IpAddr::V6(masked_v6(address, prefix_bits)),
        };
        Self { address, prefix_bits }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(prefix) if !prefix.starts_with('+') => prefix.parse().map_err(|_| NetworkError::Prefix)?,
            Some(_) => return Err(NetworkError::Prefix),
            None => bits,
        };
        if prefix_bits > bits {
            return Err(NetworkError::Prefix);
        }
        let network = Self::masked(address, prefix_bits);
        match network.address == address {
            true => Ok(network),
            false => Err(NetworkError::HostBits(network)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

fn masked_v4(address: Ipv4Addr, prefix_bits: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

fn masked_v6(address: Ipv6Addr, prefix_bits: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

#[cfg(test)]
mod tests {
    use super::{Network, NetworkError};

    #[test]
    fn membership() {
        let table = [
            ("127.0.0.0/8", "127.9.9.9", true),
            ("127.0.0.0/8", "128.0.0.0", false),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("127.0.0.0/8", "::1", false),
            ("0.0.0.0/0", "203.0.113.5", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.6/31", "192.0.2.7", true),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::1/128", "::1", true),
        ];
        for (network, client, expected) in table {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(client.parse().unwrap()), expected, "{network} {client}");
        }
    }

    #[test]
    fn refused() {
        let host_bits = NetworkError::HostBits("10.0.0.0/8".parse().unwrap());
        let table = [
            ("", NetworkError::Address),
            ("localhost", NetworkError::Address),
            ("10.0.0/8", NetworkError::Address),
            ("10.0.0.0/", NetworkError::Prefix),
            ("10.0.0.0/+8", NetworkError::Prefix),
            ("10.0.0.0/33", NetworkError::Prefix),
            ("10.0.0.0/8/8", NetworkError::Prefix),
            ("::/129", NetworkError::Prefix),
            ("10.0.0.1/8", host_bits),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }
}
