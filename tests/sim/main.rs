//! The store on a simulated disk, and the whole server in a simulated world: volatile until synced; at a crash each
//! unsynced sector is old, new or garbage.
//!
//! Everything follows from a seed. The oracle is a ledger of what was appended and what was acknowledged.

/// A rule that something was seen to break. It is a panic, whose words name the rule first.
macro_rules! rule {
    ($rule:literal, $holds:expr, $($words:tt)+) => {
        if !$holds {
            panic!("[{}] {}", $rule, format_args!($($words)+));
        }
    };
}

mod corruption;
mod disk;
mod faults;
mod forge;
mod log;
mod mutants;
mod random;
mod space;
mod whole;
mod world;
