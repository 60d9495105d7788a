//! Bytes in test files: how they are written, and how they are cut on their way in.

/// How the bytes of a turn are cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Whole,
    Bytes,
    Random { seed: u64 },
}

impl Cut {
    pub fn pieces(self, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        let (mut rest, mut seed) = (bytes, self.seed());
        std::iter::from_fn(move || {
            let len = match self {
                Self::Whole => rest.len(),
                Self::Bytes => 1,
                Self::Random { .. } => piece_len(&mut seed),
            };
            let (piece, after) = rest.split_at(len.min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        })
    }

    fn seed(self) -> u64 {
        match self {
            Self::Random { seed } => seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            _ => 0,
        }
    }
}

/// Mostly a few bytes, now and then many (xorshift).
fn piece_len(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    let bits = (*seed >> 32) % 10;
    1 + (*seed % (1 << bits)) as usize
}

/// What a test file writes with escapes; `at` says where it stands.
pub fn unescaped(text: &str, at: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let mut chars = escape.chars();
        match chars.next() {
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let digits = escape.get(1..3).unwrap_or_default();
                bytes.push(u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{at}: bad \\x")));
                chars = escape[3..].chars();
            }
            Some('{') => {
                let (inside, after) =
                    escape[1..].split_once('}').unwrap_or_else(|| panic!("{at}: open \\{{"));
                let (count, part) =
                    inside.split_once(':').unwrap_or_else(|| panic!("{at}: no count in \\{{"));
                let count = count.parse().unwrap_or_else(|_| panic!("{at}: {count:?} is no count"));
                bytes.extend(unescaped(part, at).repeat(count));
                chars = after.chars();
            }
            _ => panic!("{at}: unknown escape"),
        }
        rest = chars.as_str();
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
