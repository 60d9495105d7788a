//! The programs that people read and send mail with, and the commands that they type, against the real binary; and
//! a real name server for the resolver.
//!
//! A program that is not installed is a skipped test that says so, and a failure where
//! `RINGPOST_INTEROP=required`.

#[allow(dead_code, reason = "shared with the tests of relaying")]
#[path = "../relay/remote/tls.rs"]
mod authority;
mod bulk;
#[allow(dead_code, reason = "shared with the stories of the server")]
#[path = "../e2e/client.rs"]
mod client;
mod curl;
mod dsn;
mod mail;
mod mbsync;
mod mpop;
mod mutt;
mod nsd;
mod openssl;
mod operator;
mod postfix;
mod program;
mod python;
#[path = "../e2e/server.rs"]
#[allow(dead_code, reason = "shared with tests that stop and start the server")]
mod server;
mod swaks;
