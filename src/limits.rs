//! Every bound of the server, with its reason, and the assertions that tie it to its neighbours.
//!
//! Sizes are in bytes (`_bytes_max`), counts in things (`_max`), times in seconds (`_s`) or milliseconds
//! (`_ms`). Bounds that an operator may change are the defaults of `[limits]` in the configuration.

use std::time::Duration;

/// A receive buffer: one read takes a pipelined burst of commands or a small message whole.
pub const RECEIVE_BUFFER_BYTES: usize = 16 << 10;

/// What one TLS session is reckoned to hold: a record on its way in, one on its way out, and its keys.
pub const TLS_SESSION_BYTES: usize = 40 << 10;

/// A message of this size or less is kept in memory until it is in the log; a larger one goes to a file of its own.
pub const BODY_IN_MEMORY_BYTES_MAX: usize = 256 << 10;

/// A command line is thrown away through its end when it is too long; after this many bytes the connection closes.
pub const LINE_DISCARDED_BYTES_MAX: usize = 1 << 20;

/// Default largest message (SIZE, APPENDLIMIT).
pub const MESSAGE_BYTES_MAX: u64 = 100 << 20;

/// The most that `message_bytes` may be set to: IMAP4rev1 counts octets in 32 bits, and what is added in front
/// counts too.
pub const MESSAGE_BYTES_MOST: u64 = 2 << 30;

/// Deliveries that a shard may wait for before it refuses MAIL for the moment (452 4.3.1).
pub const DELIVERIES_UNANSWERED_MAX: usize = 100_000;

/// A TLS handshake takes a few round trips.
pub const HANDSHAKE: Duration = Duration::from_secs(60);

/// So long, and for so many bytes, a connection that we end is read on, so that the peer hears why.
pub const LINGER: Duration = Duration::from_secs(2);
pub const LINGER_BYTES_MAX: usize = 1 << 20;

/// A peer that takes no byte of a reply for so long is gone (RFC 5321 4.5.3.2 gives data blocks 3 minutes).
pub const SEND_STALL: Duration = Duration::from_secs(180);

/// Bounds of the whole server that an operator may move, and how far.
pub mod server {
    /// Several times the 10,000 idle clients of a normal day.
    pub const SESSIONS_MAX: u64 = 50_000;
    pub const SESSIONS_MOST: u64 = 1_000_000;
    /// An office behind one address has tens of clients with a few connections each. Loopback is not counted.
    pub const SESSIONS_PER_ADDRESS_MAX: u64 = 200;
    /// The largest command with its literals taken apart, a message under way and a burst of replies; also the
    /// list of half a million messages that a POP3 session goes by. Nearly all sessions need a hundredth.
    pub const SESSION_MEMORY_BYTES_MAX: u64 = 4 << 20;
    pub const SESSION_MEMORY_BYTES_LEAST: u64 = 640 << 10;
    pub const SESSION_MEMORY_BYTES_MOST: u64 = 1 << 30;
    /// Before login a client of IMAP or POP3 has nothing to think about.
    pub const LOGIN_S: u64 = 60;
}

pub mod smtp {
    /// Command line with CRLF. RFC 5321 4.5.3.1.4 asks for 512; the parameters of RFC 3461, 4954 and 6531 add to it.
    pub const COMMAND_LINE_BYTES_MAX: usize = 2048;
    /// RFC 4954 4: the line of an AUTH exchange.
    pub const AUTH_LINE_BYTES_MAX: usize = 12288;
    /// RFC 5321 4.5.3.1.8 asks for 100; the rest get 452 4.5.3 and the client sends them again. An operator may want
    /// less, not more: each is looked for among the others.
    pub const RECIPIENTS_MAX: usize = 1000;
    pub const RECIPIENTS_LEAST: usize = 100;
    /// Of a session's memory, what is not for its recipients: the message that follows them, lines, input, TLS.
    pub const TRANSACTION_RESERVE_BYTES: usize = super::BODY_IN_MEMORY_BYTES_MAX
        + super::RECEIVE_BUFFER_BYTES
        + super::TLS_SESSION_BYTES
        + AUTH_LINE_BYTES_MAX;
    /// RFC 5321 4.5.3.1.7.
    pub const MESSAGE_BYTES_LEAST: u64 = 64 << 10;
    /// Protocol errors before 421.
    pub const ERRORS_MAX: u32 = 20;
    /// Commands that bring no message any further, since the last that was kept, before each of them is an error:
    /// an hour of a client that keeps its connection open and asks every half minute whether it still is.
    pub const IDLE_COMMANDS_MAX: u16 = 100;
    /// Recipients refused with 452 because there are too many, before 421: a client that has sent its whole list ahead
    /// is answered, one that goes on and on is not.
    pub const RECIPIENTS_SURPLUS_MAX: u16 = 10_000;
    /// Recipients that are nobody, since the last message that was kept, before 421: a list with a few that are gone is
    /// served, and who tries names finds few of them.
    pub const RECIPIENTS_REFUSED_MAX: u32 = 100;
    /// Refused passwords before 421.
    pub const AUTH_FAILURES_MAX: u32 = 5;
    /// RFC 5321 4.5.3.2.7: the server waits at least 5 minutes.
    pub const IDLE_S: u64 = 300;
    /// A body must come at this rate after the first minutes; less is an attack or a dead line.
    pub const BODY_BYTES_PER_S_MIN: u64 = 500;
    /// FUTURERELEASE: a message may wait for 30 days, for the beginning of a term or the end of a holiday.
    pub const HOLD_S_MAX: u32 = 30 * 24 * 3600;
    /// DELIVERBY: with less time than this a message would go back before a second attempt.
    pub const DELIVER_BY_S_MIN: u32 = 60;
    /// RFC 5321 6.3: more Received fields than this are a loop.
    pub const RECEIVED_FIELDS_MAX: usize = 100;

    /// The other side: what we bear from servers.
    pub mod client {
        /// Lines of one reply; an EHLO with all registered extensions has some forty.
        pub const REPLY_LINES_MAX: usize = 100;
        /// All lines of one reply, with what was cut from them.
        pub const REPLY_BYTES_MAX: usize = 64 << 10;
        /// What is kept of one line. RFC 5321 4.5.3.1.5 allows 512; the rest of a longer one is not looked at.
        pub const REPLY_LINE_BYTES_MAX: usize = 2048;
        /// Commands without their replies: their replies must fit into what the system buffers for us while we send
        /// (RFC 2920 3.1).
        pub const PIPELINED_MAX: usize = 100;
        /// A message up to this size goes along with its envelope where BDAT is pipelined; a larger one waits until
        /// somebody wants it.
        pub const PIPELINED_MESSAGE_BYTES_MAX: u64 = 64 << 10;
        /// Bytes of a message gathered before they are written and others get their turn.
        pub const OUTPUT_BURST_BYTES: usize = 64 << 10;
        /// RFC 5321 4.5.3.2.1.
        pub const GREETING_S: u64 = 300;
        pub const HELLO_S: u64 = 300;
        /// RFC 5321 4.5.3.2.2.
        pub const MAIL_S: u64 = 300;
        /// RFC 5321 4.5.3.2.3.
        pub const RCPT_S: u64 = 300;
        /// RFC 5321 4.5.3.2.4.
        pub const DATA_S: u64 = 120;
        /// RFC 5321 4.5.3.2.5.
        pub const BLOCK_S: u64 = 180;
        /// RFC 5321 4.5.3.2.6.
        pub const EOD_S: u64 = 600;
        pub const RSET_S: u64 = 60;
        /// Nothing depends on the answer.
        pub const QUIT_S: u64 = 5;
        /// A greeting and a few commands at their slowest.
        pub const OPENING_S: u64 = 900;
        /// An envelope and the end of the message at their slowest, with time to spare; the message adds to it.
        pub const TRANSACTION_S: u64 = 1800;
        /// Slower than any line that still carries mail.
        pub const BYTES_PER_S_MIN: u64 = 500;
        /// Iterations of SCRAM that a server may make us count; some ten milliseconds.
        pub const SCRAM_ITERATIONS_MAX: u32 = 100_000;
    }
}

pub mod auth {
    /// Addresses that one alias names.
    pub const ALIAS_TARGETS_MAX: usize = 10_000;
    /// Logins whose password was right of late; beyond it the least used is hashed again.
    pub const CACHED_LOGINS_MAX: usize = 10_000;
    /// A change of the password ends an entry at once, so this only clears away what nobody uses.
    pub const CACHED_LOGIN_S: u64 = 3600;
    /// Addresses, logins and pairs of them whose failures and successes are remembered, each.
    pub const THROTTLED_MAX: usize = 50_000;
}

pub mod pop3 {
    /// RFC 2449 4: 255 octets with CRLF.
    pub const COMMAND_LINE_BYTES_MAX: usize = 255;
    /// The base64 line of an AUTH exchange.
    pub const AUTH_LINE_BYTES_MAX: usize = 12288;
    /// RFC 1939 3: at least 10 minutes.
    pub const IDLE_S: u64 = 600;
    /// A client asks for capabilities, starts TLS and logs in, perhaps at the third try.
    pub const COMMANDS_BEFORE_LOGIN_MAX: u8 = 100;
    /// Refused passwords before the connection closes.
    pub const AUTH_FAILURES_MAX: u32 = 5;
    /// Commands in a row that were not understood before the connection closes.
    pub const ERRORS_MAX: u32 = 20;
    /// Reply bytes gathered before they are written and other sessions get their turn.
    pub const OUTPUT_BURST_BYTES: usize = 64 << 10;
}

pub mod imap {
    /// Command line without literals. RFC 7162 4 asks for 8192; UID sets of large mailboxes need more.
    pub const COMMAND_LINE_BYTES_MAX: usize = 64 << 10;
    /// Before login; the base64 line of an AUTHENTICATE exchange may have 12288 octets.
    pub const COMMAND_LINE_BEFORE_LOGIN_BYTES_MAX: usize = 16 << 10;
    /// All literals of one command except the message of an APPEND.
    pub const LITERALS_BYTES_MAX: usize = 128 << 10;
    /// Before login.
    pub const LITERALS_BEFORE_LOGIN_BYTES_MAX: usize = 8 << 10;
    /// Depth of parentheses, NOT and OR.
    pub const NESTING_MAX: usize = 50;
    /// RFC 9051 5.4: at least 30 minutes after login.
    pub const IDLE_S: u64 = 31 * 60;
    /// A client asks for capabilities, says what it is, starts TLS and logs in, perhaps at the third try.
    pub const COMMANDS_BEFORE_LOGIN_MAX: u8 = 100;
    /// Between two signs of life while a client is in IDLE; keeps NAT entries open.
    pub const IDLE_HEARTBEAT_S: u64 = 120;
    /// Commands in a row that were not understood before the connection closes.
    pub const ERRORS_MAX: u32 = 20;
    /// Refused passwords before the connection closes.
    pub const AUTH_FAILURES_MAX: u32 = 5;
    /// Reply bytes gathered before they are written and other sessions get their turn.
    pub const OUTPUT_BURST_BYTES: usize = 64 << 10;
    /// Octets of messages looked through before they are: about a millisecond of taking parts apart and decoding.
    pub const LOOKED_BURST_BYTES: usize = 2 << 20;
}

pub mod dns {
    /// RFC 1035 4.2.
    pub const PORT: u16 = 53;
    /// More servers than resolv.conf takes help nobody: a lookup would outlast its caller's patience.
    pub const SERVERS_MAX: usize = 8;
    pub const TIMEOUT_S: u64 = 5;
    pub const TIMEOUT_S_MOST: u64 = 60;
    pub const ATTEMPTS: u64 = 2;
    pub const ATTEMPTS_MOST: u64 = 10;
    /// A lookup ends after this, however many servers, rounds and aliases it has.
    pub const LOOKUP_S_MAX: u64 = 60;
    /// What passes every path in one piece (DNS flag day 2020); larger answers come by TCP.
    pub const UDP_PAYLOAD_BYTES: u16 = 1232;
    /// Some servers send more than they were told.
    pub const UDP_BUFFER_BYTES: usize = 4096;
    /// Records of a section that are looked at. Large senders have about twenty MX records and addresses.
    pub const RECORDS_MAX: u16 = 256;
    /// Aliases from a name to what it stands for. Resolvers give up at 8 to 17.
    pub const ALIASES_MAX: usize = 12;
    /// Datagrams that do not answer the open question before TCP is used, where nobody can guess.
    pub const STRAYS_MAX: u32 = 20;
    /// Hosts of a domain, the best ones.
    pub const HOSTS_MAX: usize = 100;
    /// So long an answer is kept at least: whoever says 0 would be asked for every message.
    pub const TTL_S_MIN: u32 = 5;
    pub const TTL_S_MAX: u32 = 86_400;
    /// RFC 2308 5 allows up to 3 hours; a domain that comes to life should not wait so long.
    pub const TTL_ABSENT_S_MAX: u32 = 3600;
    /// Answers that a shard keeps, by what they hold; about 30,000 domains.
    pub const CACHE_BYTES_MAX: usize = 16 << 20;
    /// Questions that a shard has open at a time; others wait for their turn.
    pub const QUESTIONS_MAX: usize = 256;
    /// Questions that wait; more are refused for the moment.
    pub const QUESTIONS_WAITING_MAX: usize = 20_000;
    /// With dead servers a turn comes too late: whoever waits so long is told so, and those behind at once.
    pub const QUESTION_WAITS_S_MAX: u64 = 30;
    /// A silent server is asked last for so long.
    pub const SILENT_SERVER_S: u64 = 30;
}

pub mod mime {
    /// Depth of parts within parts; below it a part is opaque.
    pub const NESTING_MAX: usize = 100;
    /// Parts of one message; what follows belongs to the last.
    pub const PARTS_MAX: usize = 10_000;
    /// Bytes of a header block that is looked at; RFC 5322 sets none.
    pub const HEADER_BYTES_MAX: usize = 1 << 20;
    /// Parameters of one Content-Type or Content-Disposition; the rest is not looked at.
    pub const PARAMETERS_MAX: usize = 1_000;
    /// Bytes of a BODYSTRUCTURE after which parts are told of without their descriptions.
    pub const STRUCTURE_BYTES_MAX: usize = 4 << 20;
    /// Addresses rendered of one field in an ENVELOPE.
    pub const ENVELOPE_ADDRESSES_MAX: usize = 10_000;
}

pub mod mailbox {
    /// Distinct keywords in one mailbox: they are bits of a 64-bit word.
    pub const KEYWORDS_MAX: usize = 64;
    pub const KEYWORD_BYTES_MAX: usize = 100;
    pub const NAME_BYTES_MAX: usize = 1000;
    pub const NAME_DEPTH_MAX: usize = 32;
    /// Mailboxes of one account.
    pub const MAILBOXES_MAX: usize = 10_000;
    /// UID ranges that one session holds as \\Recent; of more, the oldest are not recent any more.
    pub const RECENT_RANGES_MAX: usize = 256;
    /// Messages in one chunk of the index.
    pub const CHUNK_ROWS_MAX: usize = 4096;
    /// Messages whose rows a checkpoint writes with the flags; a longer tail becomes a chunk.
    pub const CHECKPOINT_TAIL_MAX: usize = 64;
    /// Names on one subscription list; names outlive their mailboxes there.
    pub const SUBSCRIPTIONS_MAX: usize = 2 * MAILBOXES_MAX;
    /// Flag changes of a mailbox that are kept for the views on it; who is further behind scans the mod-sequences.
    pub const FLAG_NOTES_MAX: usize = 128;
    /// UID ranges in those.
    pub const FLAG_NOTES_RANGES_MAX: usize = 1024;
    /// UID ranges of expunges that a mailbox remembers (RFC 7162 3.2.5.2); further back every absent UID is named.
    pub const EXPUNGE_HISTORY_RANGES_MAX: usize = 4096;
}

pub mod store {
    /// How fast a backup of a running server reads, unless it is told: a fraction of what disks for mail can do.
    pub const BACKUP_BYTES_PER_S: u64 = 64 << 20;
    /// The first segments of a new log; later ones are a small part of it, up to `SEGMENT_BYTES_MAX`.
    pub const SEGMENT_BYTES_MIN: u64 = 2 << 20;
    /// What one recycling frees, one mapping holds, and one search for a torn tail reads.
    pub const SEGMENT_BYTES_MAX: u64 = 128 << 20;
    /// Kept ready for what makes room on a full disk: a thousand records that are synced one by one, tens of thousands
    /// that are synced together, before a cleaning has to bring it back.
    pub const RESERVE_BYTES: u64 = 4 << 20;
    /// A quota of ready segments that an operator may want at most.
    pub const RESERVE_BYTES_MOST: u64 = 16 << 30;
    /// Segments of a log are not larger than an operator says; larger groups are refused then.
    pub const SEGMENT_BYTES_LEAST: u64 = 1 << 20;
    pub const SEGMENT_BYTES_MOST: u64 = 1 << 30;
    /// What the cleaner writes again in a second at most: a part of what disks do, so that mail does not wait.
    pub const CLEAN_BYTES_PER_S: u64 = 64 << 20;
    pub const CLEAN_BYTES_PER_S_LEAST: u64 = 64 << 10;
    pub const CLEAN_BYTES_PER_S_MOST: u64 = 64 << 30;
    /// A log is cleaned when a fifth of what is live came or went since the last time, and a few segments at least.
    pub const LIVE_SHARE: u64 = 5;
    pub const CLEAN_SEGMENTS_MIN: u64 = 3;
    /// A batch closes at this size, so that one sync stays short; one group of records may be larger.
    pub const BATCH_BYTES: usize = 8 << 20;
    /// Segments and large files that a shard keeps mapped.
    pub const MAPPINGS_MAX: usize = 64;
    /// Threads that write large files.
    pub const LARGE_FILE_THREADS: usize = 2;
    /// Messages in one sealed chunk of the index.
    pub const CHUNK_ROWS_MAX: usize = 4096;
    /// The heap of a chunk; a chunk closes before it is passed.
    pub const CHUNK_HEAP_BYTES_MAX: usize = 32 << 20;
    /// Bytes appended to a log between two checkpoints: small messages are read back in well under a second,
    /// and a checkpoint of many accounts costs less than it spares.
    pub const CHECKPOINT_BYTES: u64 = 64 << 20;
    /// A batch or two: for tests and very small disks.
    pub const CHECKPOINT_BYTES_LEAST: u64 = 64 << 10;
    pub const CHECKPOINT_BYTES_MOST: u64 = 64 << 30;
    /// A start that read back so many records writes a checkpoint at once, so that crash after crash costs no more.
    pub const REPLAYED_RECORDS_MAX: u64 = 4096;
    /// Messages whose missing digests are made in one go.
    pub const DIGESTS_AT_ONCE: usize = 64;
}

/// Outbound mail. What an operator may change are the defaults of `[queue]` and `[[shaping]]`.
pub mod outbound {
    use std::num::NonZeroU32;
    use std::time::Duration;

    /// To one site from one source: what large providers take from strangers without a word.
    pub const CONNECTIONS: NonZeroU32 = NonZeroU32::new(20).expect("it is not 0");
    pub const SITE_CONNECTIONS: NonZeroU32 = NonZeroU32::new(100).expect("it is not 0");
    /// What an operator may allow in one transaction.
    pub const RECIPIENTS_MOST: u32 = 100_000;
    /// What an operator may allow to one site: each is a socket.
    pub const CONNECTIONS_MOST: u32 = 10_000;
    /// From one address there are no more ports to one other.
    pub const CONNECTIONS_OF_SOURCE_MOST: usize = 60_000;
    /// The window in which a site that is not known yet is met.
    pub const CONNECTIONS_FIRST: u32 = 5;
    /// Servers that count close after 100 at the earliest, most never.
    pub const MESSAGES_PER_CONNECTION: NonZeroU32 = NonZeroU32::new(500).expect("it is not 0");
    /// RFC 5321 4.5.3.1.8: what every server must take.
    pub const RECIPIENTS_PER_MESSAGE: NonZeroU32 = NonZeroU32::new(100).expect("it is not 0");
    /// Long enough for the next message of a steady flow, short enough to hold no server's slot for nothing.
    pub const IDLE: Duration = Duration::from_secs(10);
    pub const IDLE_MOST: Duration = Duration::from_secs(240);
    pub const FAILURES_UNTIL_DEAD: NonZeroU32 = NonZeroU32::new(3).expect("it is not 0");
    /// Between the first failures to connect, before a site counts as dead; doubled with each.
    pub const REOPEN_FIRST: Duration = Duration::from_secs(1);
    pub const REOPEN_MAX: Duration = Duration::from_secs(8);
    pub const DEAD_FIRST: Duration = Duration::from_secs(60);
    pub const DEAD_MAX: Duration = Duration::from_secs(30 * 60);
    /// A source whose address this machine does not have is tried again by and by.
    pub const ASIDE_FIRST: Duration = Duration::from_secs(60);
    pub const ASIDE_MAX: Duration = Duration::from_secs(3600);
    /// SYN is sent 5 or 6 times in it.
    pub const CONNECT: Duration = Duration::from_secs(30);
    /// 100 MiB at a slow line's 40 kB a second; a host that takes a byte a second does not hold a slot for ever.
    pub const TRANSACTION: Duration = Duration::from_secs(45 * 60);

    /// RFC 5321 4.5.4.1 would wait 30 minutes; two tries in the first hour are its advice, and greylists pass sooner.
    pub const RETRY_FIRST: Duration = Duration::from_secs(5 * 60);
    pub const RETRY_MAX: Duration = Duration::from_secs(4 * 3600);
    pub const RETRY_JITTER_PERCENT: u8 = 15;
    pub const WARN_AFTER: Duration = Duration::from_secs(4 * 3600);
    /// RFC 5321 4.5.4.1: 4 to 5 days.
    pub const EXPIRE_AFTER: Duration = Duration::from_secs(5 * 24 * 3600);
    /// Of the message, in a report that it did not arrive; a longer one is returned as its header alone.
    pub const DSN_RETURN_BYTES: u64 = 1 << 20;
    /// A report is written into one segment together with what it tells of. The message in it, which base64 makes a
    /// third longer, has at most this part.
    pub const DSN_SEGMENT_SHARE: u64 = 2;

    /// Sites of a shard that are known again after a restart; of more, some are met as strangers.
    pub const SITES_REMEMBERED_MAX: usize = 20_000;

    /// Messages that a site holds for each connection that it may have: the one that goes and the next.
    pub const JOBS_PER_CONNECTION: u32 = 2;
    /// And so many more, so that a site with one connection does not wait for its homes.
    pub const JOBS_SPARE: u32 = 4;
    /// Messages that one site holds at most; they are a locator and an envelope each.
    pub const JOBS_MAX: u32 = 20_000;
    /// Messages that one home is asked for at a time, so that no home waits for another's long answer.
    pub const PULL_MAX: u32 = 64;
    /// Mail is fetched from its home so long before a limit lets it go.
    pub const PULL_AHEAD: Duration = Duration::from_secs(1);
    /// A limit that holds for longer than this gives the messages back to their homes.
    pub const HOLD: Duration = Duration::from_secs(10);
    /// A source's last connection is given up for another source that has none after this time.
    pub const TURN: Duration = Duration::from_secs(30);

    /// A file of events that is easy to move and to look through.
    pub const EVENTS_ROTATE_BYTES: u64 = 256 << 20;
    pub const EVENTS_ROTATE_BYTES_LEAST: u64 = 64 << 10;
    pub const EVENTS_ROTATE: Duration = Duration::from_secs(24 * 3600);
    /// About a month of a hundred thousand messages a day.
    pub const EVENTS_KEEP_BYTES: u64 = 10 << 30;
    pub const EVENTS_KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Rules of the configuration, and the compiled size of each.
    pub const RULES_MAX: usize = 1000;
    pub const RULE_BYTES_MAX: usize = 256 << 10;
    /// Of a rule that does not say how long: the time after which most limits of others have passed.
    pub const RULE_DURATION: Duration = Duration::from_secs(3600);
    /// All texts of bounce classes together, compiled: a few hundred expressions.
    pub const CLASSES_BYTES_MAX: usize = 16 << 20;
    /// Times of matches that one trigger remembers.
    pub const TRIGGER_MOST: u32 = 10_000;
    /// Triggers that are counted at a time, over all rules; of more, the oldest are forgotten.
    pub const TRIGGERS_MAX: usize = 50_000;
    /// Outcomes of one shard that wait for their sync; with more, nothing is given out, since each of them may be a
    /// message sent twice if the power goes now.
    pub const OUTCOMES_UNWRITTEN_MAX: usize = 256;
    /// Hosts of a site that one connection tries.
    pub const HOSTS_MAX: usize = 10;
    /// Addresses of a host that it tries (RFC 5321 5.1 asks for two).
    pub const ADDRESSES_PER_HOST_MAX: usize = 4;
    /// Connections of one shard to one address, whatever names lead there: ten thousand domains may be one tarpit.
    pub const CONNECTIONS_PER_ADDRESS_MAX: u32 = 200;
}

const _: () = assert!(outbound::CONNECTIONS.get() <= outbound::SITE_CONNECTIONS.get());
const _: () = assert!(outbound::SITE_CONNECTIONS.get() <= outbound::CONNECTIONS_MOST);
const _: () = assert!(
    outbound::CONNECTIONS_MOST * outbound::JOBS_PER_CONNECTION <= outbound::JOBS_MAX,
    "every connection has its next message"
);
const _: () = assert!(outbound::PULL_AHEAD.as_millis() < outbound::HOLD.as_millis());
const _: () = assert!(
    outbound::REOPEN_MAX.as_millis() < outbound::HOLD.as_millis(),
    "mail waits for the next try where it is"
);
const _: () = assert!(
    outbound::IDLE_MOST.as_secs() < smtp::IDLE_S,
    "a peer waits 5 minutes for the next command (RFC 5321 4.5.3.2.7); we end before it"
);

const _: () = assert!(outbound::DSN_RETURN_BYTES <= store::SEGMENT_BYTES_MAX / outbound::DSN_SEGMENT_SHARE);
const _: () = assert!(store::BATCH_BYTES as u64 * 2 <= store::SEGMENT_BYTES_MAX);
const _: () = assert!(BODY_IN_MEMORY_BYTES_MAX * 4 <= store::SEGMENT_BYTES_MIN as usize);
const _: () = assert!(store::SEGMENT_BYTES_MAX <= u32::MAX as u64, "offsets in a segment have 32 bits");
const _: () =
    assert!(smtp::COMMAND_LINE_BYTES_MAX >= 1036 + 512, "RFC 3461 needs 1036 octets for RCPT alone");
const _: () = assert!(LINE_DISCARDED_BYTES_MAX > imap::COMMAND_LINE_BYTES_MAX);
const _: () = assert!(smtp::COMMAND_LINE_BYTES_MAX < RECEIVE_BUFFER_BYTES);
const _: () = assert!(BODY_IN_MEMORY_BYTES_MAX < MESSAGE_BYTES_MAX as usize);
const _: () = assert!(imap::COMMAND_LINE_BEFORE_LOGIN_BYTES_MAX <= imap::COMMAND_LINE_BYTES_MAX);
const _: () = assert!(imap::LITERALS_BEFORE_LOGIN_BYTES_MAX <= imap::LITERALS_BYTES_MAX);
const _: () = assert!(
    server::SESSION_MEMORY_BYTES_LEAST as usize
        > RECEIVE_BUFFER_BYTES
            + BODY_IN_MEMORY_BYTES_MAX
            + imap::COMMAND_LINE_BYTES_MAX
            + imap::LITERALS_BYTES_MAX
            + imap::OUTPUT_BURST_BYTES
            + TLS_SESSION_BYTES
);
const _: () = assert!(
    server::SESSION_MEMORY_BYTES_LEAST as usize
        > smtp::TRANSACTION_RESERVE_BYTES + smtp::RECIPIENTS_LEAST * (2 * (512 + 500 + 200) + 512),
    "RFC 5321 4.5.3.1.8 and the longest addresses and ORCPTs, each kept twice until the message is stored"
);
const _: () = assert!(MESSAGE_BYTES_MAX <= MESSAGE_BYTES_MOST);
const _: () = assert!(smtp::RECIPIENTS_LEAST >= 100, "RFC 5321 4.5.3.1.8");
const _: () = assert!(smtp::RECIPIENTS_LEAST <= smtp::RECIPIENTS_MAX);
const _: () = assert!(smtp::HOLD_S_MAX <= 999_999_999, "RFC 4865 3");
const _: () = assert!(smtp::DELIVER_BY_S_MIN <= 999_999_999, "RFC 2852 2");
const _: () = assert!(dns::TTL_S_MIN <= dns::TTL_ABSENT_S_MAX && dns::TTL_ABSENT_S_MAX <= dns::TTL_S_MAX);
const _: () = assert!(dns::UDP_PAYLOAD_BYTES as usize <= dns::UDP_BUFFER_BYTES);
const _: () = assert!(dns::HOSTS_MAX <= dns::RECORDS_MAX as usize);
const _: () = assert!(dns::LOOKUP_S_MAX >= dns::TIMEOUT_S_MOST);
const _: () = assert!(imap::IDLE_S >= 30 * 60, "RFC 9051 5.4");
const _: () = assert!(pop3::IDLE_S >= 10 * 60, "RFC 1939 3");
const _: () = assert!(smtp::IDLE_S >= 5 * 60, "RFC 5321 4.5.3.2.7");
const _: () = assert!(smtp::client::REPLY_LINE_BYTES_MAX >= 512, "RFC 5321 4.5.3.1.5");
const _: () = assert!(smtp::client::REPLY_LINE_BYTES_MAX * 2 < smtp::client::REPLY_BYTES_MAX);
const _: () = assert!(smtp::client::EOD_S + smtp::client::DATA_S < smtp::client::TRANSACTION_S);
