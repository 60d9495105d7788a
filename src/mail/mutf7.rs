//! Mailbox names in modified UTF-7 (RFC 3501 5.1.3).
//!
//! ```text
//! name  = *( %x20-25 / %x27-7E / "&-" / shift )
//! shift = "&" 1*base64 "-"        ; UTF-16BE, "," for "/", no padding
//! ```
//!
//! Every name has one encoding; anything else is refused, so that two spellings never name one mailbox.
//!
//! Invariant: what is encoded decodes to itself, and what decodes encodes to itself.

/// Not modified UTF-7, or not in the one form that is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mutf7Error;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

pub fn decode(name: &[u8]) -> Result<String, Mutf7Error> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    let mut after_shift = false;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'&' => {
                let end = rest.iter().position(|byte| *byte == b'-').ok_or(Mutf7Error)?;
                let shifted = &rest[..end];
                rest = &rest[end + 1..];
                // One shift could have held both.
                if after_shift && !shifted.is_empty() {
                    return Err(Mutf7Error);
                }
                after_shift = !shifted.is_empty();
                decode_shift(shifted, &mut out)?;
                continue;
            }
            0x20..=0x7E => out.push(char::from(byte)),
            _ => return Err(Mutf7Error),
        }
        after_shift = false;
    }
    Ok(out)
}

pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut shifted = Vec::new();
    for char in name.chars() {
        if !is_direct(char) {
            let mut units = [0; 2];
            shifted.extend_from_slice(char.encode_utf16(&mut units));
            continue;
        }
        end_shift(&mut shifted, &mut out);
        out.push(char);
        if char == '&' {
            out.push('-');
        }
    }
    end_shift(&mut shifted, &mut out);
    out
}

/// Printable ASCII stands for itself, `&` as `&-`.
fn is_direct(char: char) -> bool {
    matches!(char, ' '..='~')
}

fn decode_shift(shifted: &[u8], out: &mut String) -> Result<(), Mutf7Error> {
    if shifted.is_empty() {
        out.push('&');
        return Ok(());
    }
    let (mut bits, mut count) = (0_u32, 0);
    let mut units = Vec::with_capacity(shifted.len() * 6 / 16);
    for byte in shifted {
        let value = ALPHABET.iter().position(|known| known == byte).ok_or(Mutf7Error)?;
        bits = bits << 6 | u32::try_from(value).map_err(|_| Mutf7Error)?;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push((bits >> count & 0xFFFF) as u16);
            bits &= (1 << count) - 1;
        }
    }
    // What is left over is less than a character's bits, and zero.
    if bits != 0 || count >= 6 {
        return Err(Mutf7Error);
    }
    for char in char::decode_utf16(units) {
        let char = char.map_err(|_| Mutf7Error)?;
        if is_direct(char) {
            return Err(Mutf7Error);
        }
        out.push(char);
    }
    Ok(())
}

fn end_shift(units: &mut Vec<u16>, out: &mut String) {
    if units.is_empty() {
        return;
    }
    out.push('&');
    let (mut bits, mut count) = (0_u32, 0);
    for unit in units.drain(..) {
        bits = bits << 16 | u32::from(unit);
        count += 16;
        while count >= 6 {
            count -= 6;
            out.push(char::from(ALPHABET[(bits >> count & 63) as usize]));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        out.push(char::from(ALPHABET[(bits << (6 - count) & 63) as usize]));
    }
    out.push('-');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Mutf7Error, decode, encode};

    #[test]
    fn names() {
        let cases = [
            ("INBOX", "INBOX"),
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("&U,BTF2XlZyyKng-", "台北日本語"),
            ("a&-b", "a&b"),
            ("&-&-", "&&"),
            ("&ZeVnLIqe-&-", "日本語&"),
            ("&-&ZeVnLIqe-", "&日本語"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("&2D3eAA-", "😀"),
            ("", ""),
        ];
        for (encoded, name) in cases {
            assert_eq!(decode(encoded.as_bytes()).as_deref(), Ok(name), "{encoded}");
            assert_eq!(encode(name), encoded);
        }
    }

    #[test]
    fn refused_names() {
        let refused = [
            "&U,BTFw-&ZeVnLIqe-",
            "&Jjo!",
            "&Jjo",
            "&",
            "a&b",
            "&AGE-",
            "&ACY-",
            "&2D0-",
            "&3gA-",
            "&APx-",
            "&APw=-",
            "&A-",
            "&APwA-",
            "&AP/-",
            "tab\t",
            "ümlaut",
            "nul\0",
            "&APw-&APw-",
        ];
        for name in refused {
            assert_eq!(decode(name.as_bytes()), Err(Mutf7Error), "{name}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(name in any::<String>(), near in "(&|-|[a-zA-Z0-9+,]|&[A-Z]{3,8}-){0,8}") {
            assert_eq!(decode(encode(&name).as_bytes()), Ok(name));
            if let Ok(name) = decode(near.as_bytes()) {
                assert_eq!(encode(&name), near);
            }
        }
    }
}
