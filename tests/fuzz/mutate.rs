//! Inputs made of others: cut, joined, repeated, with bytes of meaning put in, all from one seed.

const BYTES_MAX: usize = 8 << 10;

/// What parsers look for.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"(",
    b")",
    b"\"",
    b"\\",
    b"{1+}\r\n",
    b"{",
    b"<",
    b">",
    b"@",
    b":",
    b";",
    b"=",
    b"=?utf-8?q?",
    b"?=",
    b"--",
    b"\r\n.\r\n",
    b"\r\n\r\n",
    b"%",
    b"*0*=",
];

pub struct Mutations {
    seeds: Vec<Vec<u8>>,
    state: u64,
}

impl Mutations {
    pub fn new(seeds: Vec<Vec<u8>>, seed: u64) -> Self {
        Self { seeds, state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..=self.below(6) {
            self.change(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let len = self.below(input.len() - at + 1).min(64);
        match self.below(8) {
            0 => drop(input.drain(at..at + len)),
            1 => {
                let piece = input[at..at + len].to_vec();
                let times = 1 + self.below(200);
                drop(input.splice(at..at, piece.repeat(times)));
            }
            2 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                drop(input.splice(at..at + len, other[from..].iter().copied()));
            }
            3 if at < input.len() => input[at] ^= 1 << self.below(8),
            4 if at < input.len() => input[at] = self.below(256) as u8,
            5 => {
                let word = WORDS[self.below(WORDS.len())];
                let times = 1 << self.below(8);
                drop(input.splice(at..at, word.repeat(times)));
            }
            6 => {
                let number = [0, 1, 255, 256, 65_535, u64::from(u32::MAX), u64::MAX][self.below(7)];
                drop(input.splice(at..at + len, number.to_string().into_bytes()));
            }
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                drop(input.splice(at..at + len.min(word.len()), word.iter().copied()));
            }
        }
    }

    fn seed(&mut self) -> Vec<u8> {
        let index = self.below(self.seeds.len());
        self.seeds[index].clone()
    }

    /// Less than `bound` (xorshift).
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 11) % bound.max(1) as u64) as usize
    }
}
