//! Load from outside: drives a mail server over sockets, keeps a ledger of what was promised, and says what it cost.
//!
//! This crate knows no line of the server. It starts the program it is given, or is pointed at one that runs, and
//! reads costs from the kernel. Its rooms, each using only those above it:
//!
//! | room | what |
//! |---|---|
//! | `cost/` | processor time, memory, system calls, syncs and writes of a whole tree of processes |
//! | `record/` | what a run found: JSON, objectives, the block an operator pastes |
//! | `engine/` | one thread, one event loop, many connections, plain or TLS; wakes on time |
//! | `plan/` | what is to be sent: when, how large, to whom |
//! | `ledger/` | what was promised and what came |
//! | `measure/` | counting while a run goes on |
//! | `smtp/` | SMTP load: sessions on event loops |
//! | `sink/` | a server that takes mail and keeps none: fast, slow, unwilling or broken |
//! | `imap/` | IMAP: answers, imaptest's spellings, sessions that judge every answer, fixed operations |
//! | `pop3/` | POP3: replies, sessions that judge every answer |
//! | `connect` | connections that do next to nothing |
//! | `mix/` | users with their programs over SMTP, IMAP and POP3 at once |
//! | `limits/` | what the machine can do without any server |
//! | `stats` | medians, and how sure their ratio is |
//! | `say` | what commands print |
//! | `report/` | runs as a page to look at |
//! | `ab` | two sides of an experiment |
//! | `compare/` | this project and its peers side by side |
//! | `interrupt` | what is undone when a run is ended early |
//! | `target/` | a server under test: started with data of its own, ended by its id |
//! | `command/` | one file a command |

// Its macro is for those below it.
#[macro_use]
mod say;

pub mod ab;
pub mod command;
pub mod compare;
pub mod connect;
pub mod cost;
pub mod engine;
pub mod imap;
pub mod interrupt;
pub mod ledger;
pub mod limits;
pub mod measure;
pub mod mix;
pub mod plan;
pub mod pop3;
pub mod record;
pub mod report;
pub mod sink;
pub mod smtp;
pub mod stats;
pub mod target;

mod wire;
