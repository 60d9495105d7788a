//! Names: host names as text, and their form on the wire.
//!
//! Invariant: what [`host`] gives is lower case, has no trailing dot and only characters that a host name may have,
//! so that it can stand in a log, a reply or a message as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

/// RFC 1035 2.3.4: 255 octets on the wire are 253 as text.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The name that `text` is, with or without a dot at its end; none if it cannot be the name of a host.
pub fn from_text(text: &str) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if !is_host(text.as_bytes()) {
        return None;
    }
    Name::from_labels(text.split('.').map(str::as_bytes)).ok()
}

/// `name` as the name of a host, unless it cannot be one.
pub fn host(name: &Name) -> Option<String> {
    let labels: Vec<&[u8]> = name.iter().collect();
    // A dot inside a label is none between two.
    if labels.iter().any(|label| label.contains(&b'.')) {
        return None;
    }
    let text = labels.join(&b'.');
    if !is_host(&text) {
        return None;
    }
    String::from_utf8(text.to_ascii_lowercase()).ok()
}

/// The name under which the names of `ip` stand (RFC 1035 3.5, RFC 3596 2.5).
pub fn reverse(ip: IpAddr) -> Name {
    Name::from(ip.to_canonical())
}

/// The addresses of a name that always means this machine (RFC 6761 6.3).
pub fn loopback(text: &str) -> Option<[IpAddr; 2]> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next()?;
    let is_local = last.eq_ignore_ascii_case("localhost");
    is_local.then_some([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)])
}

/// Whether `text` can be the name of a host: letters, digits and hyphens (RFC 1123 2.1), and underscores, which no
/// host should have and some do. The last label is not a number, or the whole would be an address.
fn is_host(text: &[u8]) -> bool {
    let labels = || text.split(|byte| *byte == b'.');
    let is_number = labels().next_back().is_some_and(|last| last.iter().all(u8::is_ascii_digit));
    text.len() <= NAME_BYTES_MAX && labels().all(is_label) && !is_number
}

fn is_label(label: &[u8]) -> bool {
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_sized = (1..=LABEL_BYTES_MAX).contains(&label.len());
    is_sized && label.iter().all(is_known) && label[0] != b'-' && label[label.len() - 1] != b'-'
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;

    use super::{from_text, host, loopback, reverse};

    #[test]
    fn texts_that_are_host_names() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        let table = [
            ("Example.ORG.", Some("example.org")),
            ("localhost", Some("localhost")),
            ("_dmarc.example.org", Some("_dmarc.example.org")),
            ("3com.example", Some("3com.example")),
            (longest.as_str(), Some(longest.as_str())),
            (&format!("{longest}b"), None),
            (&format!("{label}a.example"), None),
            ("", None),
            (".", None),
            ("a..b", None),
            (".a", None),
            ("-a.example", None),
            ("a-.example", None),
            ("192.0.2.1", None),
            ("a b.example", None),
            ("a;b.example", None),
            ("bücher.example", None),
        ];
        for (text, expected) in table {
            let name = from_text(text);
            assert_eq!(name.and_then(|name| host(&name)).as_deref(), expected, "{text}");
        }
    }

    /// What a name on the wire may hold and a host name may not (SA-13).
    #[test]
    fn names_that_are_no_hosts() {
        let table: [&[&[u8]]; 7] = [
            &[],
            &[b"a\0b", b"example"],
            &[b"a;$(id)", b"example"],
            &[b"a.b", b"example"],
            &[b"a\r\nb", b"example"],
            &[b"\xff", b"example"],
            &[b"192", b"0", b"2", b"1"],
        ];
        for labels in table {
            let name = Name::from_labels(labels.iter().copied()).unwrap();
            assert_eq!(host(&name), None, "{name:?}");
        }
    }

    #[test]
    fn reverse_names() {
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
        let table = [
            ("192.0.2.7", "7.2.0.192.in-addr.arpa."),
            ("::ffff:192.0.2.7", "7.2.0.192.in-addr.arpa."),
            ("2001:db8::1", v6),
        ];
        for (ip, expected) in table {
            assert_eq!(reverse(ip.parse().unwrap()).to_ascii(), expected);
        }
    }

    #[test]
    fn names_of_this_machine() {
        for (text, expected) in [
            ("localhost", true),
            ("A.LocalHost.", true),
            ("localhost.example", false),
            ("notlocalhost", false),
        ] {
            assert_eq!(loopback(text).is_some(), expected, "{text}");
        }
    }
}
