//! The operator's side: the command line, and the control socket by which it reaches a running server.
//!
//! [`cli`] is the grammar of the commands and their manual. A command that needs accounts or mail speaks the
//! protocol of [`control`] with a server: the one that runs, through the socket in the data directory, or, when
//! none runs, one inside this very process that holds the data directory's lock instead ([`offline`]). Both
//! ends are [`server`] over a [`server::Backend`], so that a command does the same either way. [`maildir`] and
//! [`mbox`] read and write mail as other programs keep it; [`queue`] looks at mail on its way out and changes what
//! happens to it, [`events`] reads the event log by itself, [`backup`] copies the store and puts it back, and
//! [`sendmail`] hands in mail.
//!
//! Invariants: a command that succeeded said so after its effect was durable and known to all; what fails says
//! in one sentence what to do; passwords come by standard input and go on only as what is kept of them; the
//! socket is open to its owner alone.

pub mod accounts;
pub mod backend;
pub mod backup;
pub mod cli;
pub mod control;
pub mod damage;
pub mod directory_file;
pub mod events;
pub mod failure;
pub mod init;
pub mod maildir;
pub mod manual;
pub mod mbox;
pub mod offline;
pub mod queue;
pub mod sendmail;
pub mod serve;
pub mod server;
pub mod storage;
pub mod transfer;
pub mod user;

mod line_ends;
#[cfg(test)]
mod memory;
mod socket;
mod span;
