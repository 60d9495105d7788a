//! Who may read and send mail here: accounts, aliases and local domains, passwords, and the brakes on guessing.
//!
//! The [`directory`] is one immutable snapshot that every shard holds, so that RCPT and AUTH ask nobody; a
//! change makes the next snapshot, and its bytes replace a file. [`password`] turns a password into what is
//! kept of it. [`cache`] remembers which passwords were right, [`throttle`] who was wrong how often.
//!
//! Invariants: nothing here knows a protocol, the store, a file, a socket or a clock: bytes, random bytes and
//! times come in as arguments; an account's number is never given twice; no password is kept or printed; a
//! login that nobody has cannot be told from one that somebody has; every table has a bound.

pub mod cache;
pub mod directory;
pub mod password;
pub mod throttle;

mod bounded;
mod resolve;
mod rows;

pub use cache::LoginCache;
pub use directory::{Account, Alias, AliasName, Directory, DirectoryError, LoginCheck, NewAccount};
pub use password::{Cost, EmptyPassword, PasswordHash, PasswordRecord, ScramVerifier};
pub use resolve::{Resolution, Target};
pub use rows::DirectoryDamage;
pub use throttle::Throttle;
