//! What one session may hold, and what happens beyond it.

use crate::flow::wait_for;
use crate::server::Server;

const ALICE: &str = "alice@example.test";

/// The least that can be set.
const TIGHT: &str = "[limits]\nsession_memory_bytes = 655_360\n";

#[test]
fn a_command_that_needs_too_much_is_refused_and_the_session_goes_on() {
    // Each key is two octets of the command and a hundred of memory.
    let keys = "1 ".repeat(20_000);
    let search = format!("SEARCH {}", keys.trim_end());
    for (more, is_refused) in [(TIGHT, true), ("", false)] {
        let server = Server::configured(&[ALICE], more);
        let mut imap = server.imap(ALICE);
        imap.append("INBOX", b"Subject: one\r\n\r\ntext\r\n").expect("a reply");
        imap.ok("SELECT INBOX").expect("opens");
        let responses = imap.command(&search).expect("a reply");
        let last = &responses[responses.len() - 1].text;
        assert_eq!(last.contains(" NO [LIMIT] "), is_refused, "{last}");
        assert_eq!(last.contains(" OK "), !is_refused, "{last}");
        imap.ok("SEARCH RETURN (SAVE) 1").expect("the session goes on");
        imap.command(&search.replace("SEARCH", "SEARCH RETURN (SAVE)")).expect("a reply");
        // RFC 5182 2.1: what is refused leaves nothing saved.
        assert_eq!(imap.texts("FETCH $ (UID)").len() == 1, is_refused);
    }
}

#[test]
fn recipients_beyond_the_memory_of_a_session_wait_for_the_next_transaction() {
    const RECIPIENTS: usize = 1000;
    let server = Server::configured(&[ALICE], TIGHT);
    let mut smtp = server.submission(ALICE);
    assert_eq!(smtp.code(&format!("MAIL FROM:<{ALICE}>")), 250);
    assert_eq!(smtp.code(&format!("RCPT TO:<{ALICE}>")), 250);
    let orcpt = format!("rfc822;{}", "x".repeat(480));
    let codes: Vec<u16> = (0..RECIPIENTS)
        .map(|number| smtp.code(&format!("RCPT TO:<{number}@elsewhere.test> ORCPT={orcpt}")))
        .collect();
    let taken = codes.iter().filter(|code| **code == 250).count();
    assert!((100..RECIPIENTS).contains(&taken), "{taken}");
    assert!(codes[..taken].iter().all(|code| *code == 250));
    assert!(codes[taken..].iter().all(|code| *code == 452));
    // What was acknowledged is kept.
    assert_eq!(smtp.code("DATA"), 354);
    assert_eq!(smtp.code("Subject: many\r\n\r\ntext\r\n."), 250);
    wait_for(&server, ALICE, 1);
    let queue = server.done(&["queue", "list"]);
    let is_queued = |number: usize| queue.contains(&format!(" {number}@elsewhere.test"));
    assert!(is_queued(0) && is_queued(taken - 1) && !is_queued(taken));
    // The next transaction has room again.
    assert_eq!(smtp.code(&format!("MAIL FROM:<{ALICE}>")), 250);
    assert_eq!(smtp.code(&format!("RCPT TO:<{taken}@elsewhere.test> ORCPT={orcpt}")), 250);
}

#[test]
fn a_message_of_which_a_fetch_asks_for_too_much_is_left_out_and_the_session_goes_on() {
    let server = Server::with_accounts(&[ALICE]);
    let mut imap = server.imap(ALICE);
    let long = format!("Subject: long\r\n{}\r\ntext\r\n", "X-Filler: y\r\n".repeat(50_000));
    for message in [long.as_str(), "Subject: short\r\n\r\ntext\r\n"] {
        imap.append("INBOX", message.as_bytes()).expect("a reply");
    }
    imap.ok("SELECT INBOX").expect("opens");
    let asked = |count: usize| {
        let lists = (0..count).map(|number| format!("BODY.PEEK[HEADER.FIELDS.NOT (x{number})]"));
        format!("FETCH 1:2 ({})", lists.collect::<Vec<_>>().join(" "))
    };
    let refused = imap.command(&asked(500)).expect("a reply");
    assert!(refused.len() == 2 && refused[0].text.starts_with("* 2 FETCH "), "{}", refused.len());
    assert_eq!(refused[0].literals.len(), 500);
    assert!(refused[1].text.contains(" NO [LIMIT] "), "{}", refused[1].text);
    let told = imap.ok(&asked(2)).expect("a reply");
    assert_eq!(told[0].literals.iter().map(Vec::len).collect::<Vec<_>>(), [long.len() - 6; 2]);
}
