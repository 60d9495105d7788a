//! The client: mail on its way out, by SMTP (RFC 5321) and LMTP (RFC 2033).

mod engine;
mod event;
mod offers;
mod settings;
mod transaction;

pub use engine::Client;
pub use event::{Closed, Done, Event, Failure, Fate, Origin, Passed, Phase};
pub use offers::{Limits, MinBySeconds, Offers, Size};
pub use settings::{Chunking, EightBit, Login, LoginOver, Protocol, Security, Settings, Timeouts, TlsPolicy};
pub use transaction::{ByMode, DeliverBy, Transaction};
