//! DNS as a stub resolver speaks it.

pub mod mail;

pub use mail::{Addresses, DnsFailure, MailHost, MailHosts};
