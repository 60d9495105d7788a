//! Random bytes, read here and nowhere else.

use aws_lc_rs::rand;

/// `N` bytes that nobody can guess.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    bytes
}
