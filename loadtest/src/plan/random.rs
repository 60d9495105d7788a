//! Chance that a seed repeats.

/// xorshift64*: quick, and good enough to choose commands by.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Different streams of one seed have nothing to do with each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mixed = (seed ^ stream.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream;
        let mut random = Self(mixed | 1);
        random.draw();
        random
    }

    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// From zero, below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        match end as u64 {
            0 => 0,
            end => (self.draw() % end) as usize,
        }
    }

    pub fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent as usize
    }

    /// Above zero, at most one.
    pub fn unit(&mut self) -> f64 {
        ((self.draw() & 0xFFFF_FFFF) + 1) as f64 / 4_294_967_296.0
    }
}
