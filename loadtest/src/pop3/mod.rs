//! The POP3 side: sessions that fetch and delete as rabid's do, and judge every answer.

pub mod drive;
pub mod reply;
pub mod session;
mod visit;

pub use visit::visit;
