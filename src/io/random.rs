//! Random bytes, read here and nowhere else.

use aws_lc_rs::rand;

use super::world;

/// `N` bytes that nobody can guess.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    match world::current() {
        Some(world) => world.fill_random(&mut bytes),
        None => rand::fill(&mut bytes).expect("the kernel gives random bytes once it has booted"),
    }
    bytes
}
