//! Proves the harness: whatever a server does to mail, time or its client is noticed.

mod dialogue;
mod engine;
mod fake;
mod fates;
mod smoke;
mod thrift;
mod time;
mod verify;
