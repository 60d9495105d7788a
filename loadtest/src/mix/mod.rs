//! A day of users, compressed or not: mail comes in by SMTP, is read, moved and deleted by IMAP, and fetched by POP3.
//!
//! A [`Profile`](crate::imap::profile::Profile) says how many users there are, how often mail comes for them, with
//! which programs they look at it and what becomes of it. [`drive::Drive`] plays them all in one event loop; a load of
//! 120 % is the same with every interval divided by 1.2. Whether the gates are held is judged as SPECmail did: by
//! quantiles of what users wait for, with the share of errors beside them.

pub mod drive;
pub mod imap;
pub mod smtp;
mod stock;
