//! DNS as a stub resolver speaks it: questions to name servers that recurse, answers judged and kept.
//!
//! [`message`] writes a query and reads what comes back, [`answer`] follows aliases in it to what was asked for,
//! [`Lookup`] is one question through all its servers, carriers and rounds, [`Servers`] says who is asked first and
//! [`Cache`] keeps what was learnt. [`mail`] makes hosts and addresses of it, as RFC 5321 5.1 has it; [`machine`]
//! reads what this machine says about itself in `/etc`. `hickory-proto` decodes names and records; what they mean
//! is decided here.
//!
//! Invariants: nothing here knows a socket, a file or a clock; random numbers are given. A message that does not
//! answer the question that is open, under its number, changes nothing. Work is bounded for every message, and
//! queries for every lookup. A name that leaves this folder as text is a host name. A name that did not get
//! an answer is never one that does not exist: [`DnsFailure::Temporary`] and the others are not mixed up.

pub mod answer;
pub mod cache;
pub mod lookup;
pub mod machine;
pub mod mail;
pub mod message;
pub mod name;
pub mod servers;
#[cfg(test)]
mod test_wire;

pub use answer::{Answer, Data, Found};
pub use cache::{Cache, Known};
pub use lookup::{Ask, Carrier, Lookup, Patience, Received};
pub use mail::{Addresses, DnsFailure, MailHost, MailHosts};
pub use message::{Kind, Question};
pub use servers::Servers;
