//! Mail addresses (RFC 5321 4.1.2, RFC 6531 3.3).
//!
//! ```text
//! Path       = "<" [ "@" Domain *( "," "@" Domain ) ":" ] Mailbox ">"
//! Mailbox    = Local-part "@" ( Domain / address-literal )
//! Local-part = Atom *( "." Atom ) / DQUOTE *( qtext / "\" %d32-126 ) DQUOTE
//! Domain     = label *( "." label )
//! ```
//!
//! Invariants: an [`Address`] that was parsed holds no control character, so it can stand in a reply, a field
//! or a log; what it prints parses to itself; all spellings of a local part are equal.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 5321 4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;

/// RFC 5321 4.5.3.1.2.
const DOMAIN_BYTES_MAX: usize = 255;

/// RFC 1035 2.3.4; of a label beyond ASCII its A-label is as long, which is known only when it is made.
const LABEL_BYTES_MAX: usize = 63;

/// A mailbox: local part and domain.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// The value of the local part: unquoted, in the sender's case.
    pub local: String,
    /// In lower case, without a trailing dot; an address literal keeps its brackets. Empty only for the bare
    /// `<Postmaster>` of RFC 5321 4.5.1.
    pub domain: String,
}

/// Why bytes are not an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressError {
    /// Not of the grammar.
    Syntax,
    /// Over 64 octets (RFC 5321 4.5.3.1.1).
    LocalTooLong,
    /// Over 255 octets (RFC 5321 4.5.3.1.2).
    DomainTooLong,
    /// Octets over 127 where SMTPUTF8 was not given (RFC 6531 3.5).
    NotAscii,
    /// With SMTPUTF8, and not UTF-8.
    NotUtf8,
}

impl Address {
    /// The whole of `text` as a mailbox, UTF-8 allowed: `user@example.com`, `"a b"@[IPv6:::1]`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let mut parser = Parser { input: text.as_bytes(), at: 0, smtputf8: true };
        let address = parser.mailbox()?;
        match parser.peek() {
            None => Ok(address),
            Some(_) => Err(AddressError::Syntax),
        }
    }

    /// The local part up to the first `+`: the account that `user+tag` names. A leading `+` is no tag.
    pub fn base_local(&self) -> &str {
        match self.local.find('+') {
            Some(at) if at > 0 => &self.local[..at],
            _ => &self.local,
        }
    }

    /// Whether it can be sent without SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && self.domain.is_ascii()
    }

    /// The domain in A-labels, as DNS and peers without SMTPUTF8 know it; `None` if it has no such form.
    pub fn ascii_domain(&self) -> Option<String> {
        match self.domain.is_ascii() {
            true => Some(self.domain.clone()),
            false => idna::domain_to_ascii(&self.domain).ok(),
        }
    }

    /// Whether both name the same mailbox as far as one can tell from outside: local parts byte for byte,
    /// domains in A-label form.
    pub fn is_same(&self, other: &Self) -> bool {
        self.local == other.local && domain_key(&self.domain) == domain_key(&other.domain)
    }
}

impl fmt::Display for Address {
    /// The form for SMTP, quoted only where it must be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            f.write_str(&self.local)?;
        } else {
            // RFC 5321 4.1.2: only `"` and `\` need the backslash.
            write!(f, "\"{}\"", self.local.replace('\\', "\\\\").replace('"', "\\\""))?;
        }
        match self.domain.as_str() {
            "" => Ok(()),
            domain => write!(f, "@{domain}"),
        }
    }
}

/// A path of MAIL or RCPT at the front of `input`, brackets included: `<>` and `<Postmaster>` too (the first
/// is `None`, the second has no domain). Says how many bytes it took.
pub fn parse_path(input: &[u8], smtputf8: bool) -> Result<(Option<Address>, usize), AddressError> {
    let mut parser = Parser { input, at: 0, smtputf8 };
    parser.expect(b'<')?;
    if parser.take(b'>') {
        return Ok((None, parser.at));
    }
    parser.source_route()?;
    let address = match parser.postmaster() {
        Some(postmaster) => postmaster,
        None => parser.mailbox()?,
    };
    parser.expect(b'>')?;
    Ok((Some(address), parser.at))
}

/// The address that a domain in brackets is: `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 4.1.3).
pub fn literal_address(domain: &str) -> Option<IpAddr> {
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inside.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => {
            address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => inside.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// A domain or address literal as it stands in EHLO (RFC 5321 4.1.1.1).
pub fn is_domain_or_literal(text: &[u8]) -> bool {
    let mut parser = Parser { input: text, at: 0, smtputf8: false };
    parser.domain_or_literal().is_ok() && parser.peek().is_none()
}

/// The key under which a domain is looked up: lower case, A-labels; what IDNA refuses is only put in lower case.
pub fn domain_key(domain: &str) -> String {
    match domain.is_ascii() {
        true => domain.to_ascii_lowercase(),
        false => idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase()),
    }
}

/// Whether a local part needs no quotes.
fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

/// `atext` of RFC 5321 4.1.2 and the octets of UTF8-non-ascii (RFC 6531 3.3).
fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte) || byte >= 0x80
}

struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    smtputf8: bool,
}

impl Parser<'_> {
    fn mailbox(&mut self) -> Result<Address, AddressError> {
        let local = match self.peek() {
            Some(b'"') => self.quoted_string()?,
            _ => self.dot_string()?,
        };
        let local = self.text(local)?;
        if local.len() > LOCAL_BYTES_MAX {
            return Err(AddressError::LocalTooLong);
        }
        self.expect(b'@')?;
        Ok(Address { local, domain: self.domain_or_literal()? })
    }

    /// `<Postmaster>` without a domain, in any case (RFC 5321 4.1.1.3).
    fn postmaster(&mut self) -> Option<Address> {
        const NAME: &[u8] = b"postmaster>";
        let name = self.input.get(self.at..self.at + NAME.len())?;
        let local = name.eq_ignore_ascii_case(NAME).then(|| &name[..NAME.len() - 1])?;
        self.at += local.len();
        Some(Address { local: String::from_utf8_lossy(local).into_owned(), domain: String::new() })
    }

    /// RFC 5321 4.1.1.3: accepted, ignored, never made.
    fn source_route(&mut self) -> Result<(), AddressError> {
        if self.peek() != Some(b'@') {
            return Ok(());
        }
        loop {
            self.expect(b'@')?;
            self.domain()?;
            if !self.take(b',') {
                return self.expect(b':');
            }
        }
    }

    fn dot_string(&mut self) -> Result<Vec<u8>, AddressError> {
        let start = self.at;
        loop {
            self.run(is_atext)?;
            if !self.take(b'.') {
                return Ok(self.input[start..self.at].to_vec());
            }
        }
    }

    /// The value, without quotes and backslashes.
    fn quoted_string(&mut self) -> Result<Vec<u8>, AddressError> {
        self.expect(b'"')?;
        let mut value = Vec::new();
        loop {
            match self.next().ok_or(AddressError::Syntax)? {
                b'"' => return Ok(value),
                b'\\' => match self.next() {
                    Some(byte @ 0x20..=0x7E) => value.push(byte),
                    _ => return Err(AddressError::Syntax),
                },
                byte @ (0x20..=0x7E | 0x80..) => value.push(byte),
                _ => return Err(AddressError::Syntax),
            }
        }
    }

    fn domain_or_literal(&mut self) -> Result<String, AddressError> {
        match self.peek() {
            Some(b'[') => self.literal(),
            _ => self.domain(),
        }
    }

    fn domain(&mut self) -> Result<String, AddressError> {
        let start = self.at;
        loop {
            let label = self.run(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte >= 0x80)?;
            let is_too_long = label.len() > LABEL_BYTES_MAX && label.is_ascii();
            if label.starts_with(b"-") || label.ends_with(b"-") || is_too_long {
                return Err(AddressError::Syntax);
            }
            if !self.take(b'.') {
                break;
            }
        }
        let domain = self.text(self.input[start..self.at].to_vec())?.to_lowercase();
        match domain.len() > DOMAIN_BYTES_MAX {
            true => Err(AddressError::DomainTooLong),
            false => Ok(domain),
        }
    }

    /// RFC 5321 4.1.3. Of the tagged forms only IPv6 is registered.
    fn literal(&mut self) -> Result<String, AddressError> {
        self.expect(b'[')?;
        let inside = self.run(|byte| byte.is_ascii_hexdigit() || b"IiPpVv:.".contains(&byte))?;
        let inside = std::str::from_utf8(inside).map_err(|_| AddressError::Syntax)?;
        let literal = match inside.split_at_checked(5) {
            Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => {
                ipv6(address).map(|ip| format!("[IPv6:{ip}]"))
            }
            _ => ipv4(inside).map(|ip| format!("[{ip}]")),
        };
        self.expect(b']')?;
        literal.ok_or(AddressError::Syntax)
    }

    /// Octets as text, if they may be.
    fn text(&self, octets: Vec<u8>) -> Result<String, AddressError> {
        if !self.smtputf8 && !octets.is_ascii() {
            return Err(AddressError::NotAscii);
        }
        let text = String::from_utf8(octets).map_err(|_| AddressError::NotUtf8)?;
        // Control characters of the upper half and the line ends of Unicode would travel on into logs and fields.
        match text.chars().any(|char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}')) {
            true => Err(AddressError::Syntax),
            false => Ok(text),
        }
    }

    /// At least one octet of a kind.
    fn run(&mut self, is_kind: impl Fn(u8) -> bool) -> Result<&[u8], AddressError> {
        let rest = &self.input[self.at..];
        let len = rest.iter().position(|byte| !is_kind(*byte)).unwrap_or(rest.len());
        self.at += len;
        match len {
            0 => Err(AddressError::Syntax),
            _ => Ok(&rest[..len]),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, wanted: u8) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, wanted: u8) -> Result<(), AddressError> {
        match self.take(wanted) {
            true => Ok(()),
            false => Err(AddressError::Syntax),
        }
    }
}

/// `Snum 3("." Snum)`; leading zeros are decimal all the same.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut numbers = text.split('.');
    for octet in &mut octets {
        let number = numbers.next()?;
        let is_number = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        *octet = is_number.then(|| number.parse().ok())??;
    }
    numbers.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// RFC 5321 4.1.3: `::` stands for at least two groups of zeros.
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let address = text.parse().ok()?;
    let explicit = text.split(':').filter(|group| !group.is_empty());
    let groups: usize = explicit.map(|group| if group.contains('.') { 2 } else { 1 }).sum();
    (groups == 8 || groups <= 6).then_some(address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Address, AddressError, domain_key, is_domain_or_literal, parse_path};

    #[test]
    fn paths() {
        let cases = [
            ("<>", ""),
            ("<a@b>", "a@b"),
            ("<Joe.X@Example.COM> SIZE=1", "Joe.X@example.com"),
            ("<postMaster>", "postMaster"),
            ("<postmaster@d>", "postmaster@d"),
            ("<@a,@b:u@d>", "u@d"),
            ("<\"a b\"@d>", "\"a b\"@d"),
            ("<\"joe\"@d>", "joe@d"),
            ("<\"j\\oe\"@d>", "joe@d"),
            ("<\"a\\\"b\\\\\"@d>", "\"a\\\"b\\\\\"@d"),
            ("<\"\"@c>", "\"\"@c"),
            ("<a@[127.0.0.1]>", "a@[127.0.0.1]"),
            ("<a@[127.000.0.01]>", "a@[127.0.0.1]"),
            ("<a@[IPv6:::1]>", "a@[IPv6:::1]"),
            ("<a@[ipv6:2001:DB8::192.0.2.1]>", "a@[IPv6:2001:db8::c000:201]"),
            ("<käse@bücher.example>", "käse@bücher.example"),
            ("<!#$%&'*+-/=?^_`{|}~@d>", "!#$%&'*+-/=?^_`{|}~@d"),
        ];
        for (input, printed) in cases {
            let (address, taken) = parse_path(input.as_bytes(), true).expect(input);
            assert_eq!(address.map(|address| address.to_string()).unwrap_or_default(), printed);
            assert_eq!(taken, input.rfind('>').expect("closed") + 1);
        }
    }

    #[test]
    fn refused_paths() {
        let syntax = [
            "",
            "a@b",
            "<a@b",
            "< a@b>",
            "<a@b >",
            "<a>",
            "<a@>",
            "<@b>",
            "<a..b@d>",
            "<.a@d>",
            "<a.@d>",
            "<a@d.>",
            "<a@.d>",
            "<a@-d>",
            "<a@d->",
            "<a@d_e>",
            "<\"a\"b@d>",
            "<\"a@d>",
            "<\"a\nb\"@d>",
            "<a@[300.1.1.1]>",
            "<a@[1.2.3]>",
            "<a@[1.2.3.4.5]>",
            "<a@[1.2.3.4>",
            "<a@[IPv6:1:2:3:4:5:6:7::]>",
            "<a@[IPv6:1]>",
            "<a@[x-tag:y]>",
            "<a@b\r\n>",
            "<a@b,c@d>",
            "<@a:>",
            "<@a u@d>",
            "<postmaster",
            "<a\u{85}@d>",
            "<\"a\u{2028}\"@d>",
            "<a@@b>",
        ];
        for input in syntax {
            assert_eq!(parse_path(input.as_bytes(), true), Err(AddressError::Syntax), "{input}");
        }
        assert_eq!(parse_path("<käse@d>".as_bytes(), false), Err(AddressError::NotAscii));
        assert_eq!(parse_path("<a@bücher>".as_bytes(), false), Err(AddressError::NotAscii));
        assert_eq!(parse_path(b"<\xFF@d>", true), Err(AddressError::NotUtf8));
    }

    #[test]
    fn lengths() {
        let domain =
            |len: usize| -> String { (1..=len).map(|at| if at % 64 == 0 { '.' } else { 'd' }).collect() };
        let path = |local: usize, len: usize| format!("<{}@{}>", "a".repeat(local), domain(len));
        assert!(parse_path(path(64, 255).as_bytes(), false).is_ok());
        assert_eq!(parse_path(path(65, 255).as_bytes(), false), Err(AddressError::LocalTooLong));
        assert_eq!(parse_path(path(64, 257).as_bytes(), false), Err(AddressError::DomainTooLong));
        let label =
            |len: usize| parse_path(format!("<a@{}.test>", "d".repeat(len)).as_bytes(), false).is_ok();
        assert!(label(63) && !label(64));
    }

    #[test]
    fn the_same_mailbox() {
        let address = |text| Address::parse(text).expect(text);
        assert!(address("a@BÜCHER.example").is_same(&address("\"a\"@xn--bcher-kva.example")));
        assert!(!address("a@d").is_same(&address("A@d")));
        assert_eq!(address("a@bücher.example").ascii_domain().as_deref(), Some("xn--bcher-kva.example"));
        assert_eq!(domain_key("EXAMPLE.com"), "example.com");
        assert_eq!(address("user+tag+more@d").base_local(), "user");
        assert_eq!(address("+tag@d").base_local(), "+tag");
        assert!(address("user@d").is_ascii() && !address("usér@d").is_ascii());
    }

    #[test]
    fn greetings() {
        for good in ["mx.example.com", "localhost", "[192.0.2.1]", "[IPv6:::1]", "xn--bcher-kva.example"] {
            assert!(is_domain_or_literal(good.as_bytes()), "{good}");
        }
        for bad in ["", "a b", "a_b", ".", "a.", "[1]", "bücher", "a\r\nb"] {
            assert!(!is_domain_or_literal(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_prints_parses_to_itself(local in "[ -~äßЖ漢]{0,12}", domain in "[a-z0-9]{1,5}([.][a-zü]{1,5})?") {
            let address = Address { local, domain };
            assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }

        #[test]
        fn nothing_panics(junk in any::<Vec<u8>>(), near in "<[@a:,\"\\\\ .>\\[\\]]{0,12}>", smtputf8 in any::<bool>()) {
            let _ = parse_path(&junk, smtputf8);
            if let Ok((Some(address), _)) = parse_path(near.as_bytes(), smtputf8) {
                assert!(!address.to_string().contains(char::is_control));
            }
        }
    }
}
