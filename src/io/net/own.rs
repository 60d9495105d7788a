//! The addresses of this machine.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use socket2::SockAddr;

/// Those of all its interfaces, as they are now.
pub fn own_addresses() -> io::Result<HashSet<IpAddr>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the call writes the head of a list there, which is ours until `freeifaddrs`.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = HashSet::new();
    let mut next = first;
    // SAFETY: each node of the list is valid until it is freed, below; the last one has no next.
    while let Some(node) = unsafe { next.as_ref() } {
        found.extend(address_of(node.ifa_addr));
        next = node.ifa_next;
    }
    // SAFETY: `first` is the head that `getifaddrs` gave, and nothing of the list is used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// An address of the internet; interfaces have others, too, or none.
fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: it is null or points at a socket address of the list, which has a family.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    let length = match family {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    // SAFETY: an address of this family has so many bytes, and the storage has room for those of any family.
    let ((), copy) = unsafe {
        SockAddr::try_init(|storage, room| {
            ptr::copy_nonoverlapping(address.cast::<u8>(), storage.cast::<u8>(), length);
            *room = libc::socklen_t::try_from(length).expect("a socket address is short");
            Ok(())
        })
    }
    .ok()?;
    let v4 = copy.as_socket_ipv4().as_ref().map(SocketAddrV4::ip).copied().map(IpAddr::V4);
    v4.or_else(|| copy.as_socket_ipv6().as_ref().map(SocketAddrV6::ip).copied().map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};

    use super::own_addresses;

    #[test]
    fn what_is_ours_can_be_bound() {
        let found = own_addresses().expect("the system says");
        assert!(found.contains(&IpAddr::from(Ipv4Addr::LOCALHOST)), "{found:?}");
        let is_plain = |ip: &&IpAddr| match ip {
            IpAddr::V4(_) => true,
            // One that is link-local wants the number of its link.
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        };
        for ip in found.iter().filter(is_plain) {
            UdpSocket::bind((*ip, 0)).unwrap_or_else(|error| panic!("{ip}: {error}"));
        }
    }
}
