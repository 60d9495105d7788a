//! The real binary, from outside: mail in by SMTP, out by IMAP and POP3, through kills and stops.

mod accounts;
mod backup;
mod cleaning;
mod client;
mod crash;
mod events;
mod exchange;
mod flow;
mod full_disk;
mod hostile;
mod imap_mail;
mod imap_mailboxes;
mod imap_news;
mod memory;
mod persist;
mod pop3;
mod privileges;
mod queue;
mod repair;
mod restart;
mod scram;
mod sendmail;
#[allow(dead_code, reason = "shared with the tests of relaying and of other programs")]
mod server;
mod small_disk;
mod stop;
mod submission;
mod transfer;
mod versions;
