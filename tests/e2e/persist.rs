//! What an account looks like is the same after a kill, a stop, and with another number of cores.

use crate::client::Imap;
use crate::flow::message;
use crate::server::Server;

const ACCOUNTS: [&str; 2] = ["alice@example.test", "bob@example.test"];

/// Everything that a client can see of an account, as text.
fn portrait(server: &Server, account: &str) -> Vec<String> {
    let mut imap = server.imap(account);
    let mut all = without_tag(imap.texts("LIST \"\" * RETURN (SUBSCRIBED SPECIAL-USE CHILDREN)"));
    let names: Vec<String> =
        all.iter().map(|line| line.split("\"/\" ").nth(1).expect("a name").to_owned()).collect();
    for name in names {
        let items = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE DELETED HIGHESTMODSEQ)";
        all.extend(without_tag(imap.texts(&format!("STATUS {name} {items}"))));
        // RECENT is a session's own, and keywords may be listed in any order.
        let opened = without_tag(imap.texts(&format!("EXAMINE {name}")));
        all.extend(opened.into_iter().filter(|line| line.contains("FLAGS")));
        let fetch =
            "UID FETCH 1:* (FLAGS MODSEQ INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])";
        for response in imap.command(fetch).expect("a reply") {
            if response.text.starts_with('*') {
                all.push(response.text.replace(" \\Recent", "").replace("\\Recent", ""));
                all.extend(response.literals.iter().map(|body| String::from_utf8_lossy(body).into_owned()));
            }
        }
    }
    all
}

fn without_tag(mut lines: Vec<String>) -> Vec<String> {
    lines.retain(|line| line.starts_with('*'));
    lines
}

/// Some of everything that changes a mailbox.
fn live(imap: &mut Imap) {
    for number in 0..8 {
        imap.append("INBOX", &message(number, 300 * number)).expect("a reply");
    }
    imap.ok("SELECT INBOX").expect("opens");
    imap.ok("STORE 1:4 +FLAGS (\\Seen Important $Forwarded)").expect("stored");
    imap.ok("STORE 2 FLAGS (\\Flagged)").expect("stored");
    imap.ok("CREATE deep/down/below").expect("created");
    imap.ok("SUBSCRIBE deep/down").expect("subscribed");
    imap.ok("UNSUBSCRIBE Junk").expect("unsubscribed");
    imap.ok("COPY 1:3 deep/down").expect("copied");
    imap.ok("MOVE 4 Archive").expect("moved");
    imap.ok("STORE 7 +FLAGS (\\Deleted)").expect("stored");
    imap.ok("EXPUNGE").expect("expunged");
    imap.ok("CREATE gone").expect("created");
    imap.ok("DELETE gone").expect("deleted");
    imap.ok("RENAME deep high").expect("renamed");
    imap.ok("STORE 5 +FLAGS (\\Deleted)").expect("stored");
}

#[test]
fn everything_is_the_same_after_kills_stops_and_other_cores() {
    let mut server = Server::with_accounts(&ACCOUNTS);
    for account in ACCOUNTS {
        live(&mut server.imap(account));
    }
    let before = ACCOUNTS.map(|account| portrait(&server, account));
    for (cores, kill) in [(2, true), (1, true), (3, false), (2, false)] {
        if kill {
            server.kill();
        } else {
            server.stop();
        }
        server.set_cores(cores);
        server.start();
        for (account, before) in ACCOUNTS.into_iter().zip(&before) {
            assert_eq!(&portrait(&server, account), before, "{account} with {cores} cores");
        }
    }
}

#[test]
fn uids_and_modification_sequences_never_come_back() {
    let mut server = Server::with_accounts(&ACCOUNTS);
    let (mut uid_next, mut modseq) = (0, 0);
    for round in 0..3 {
        let mut imap = server.imap(ACCOUNTS[0]);
        imap.append("INBOX", &message(round, 300)).expect("a reply");
        imap.ok("SELECT INBOX").expect("opens");
        imap.ok("STORE * +FLAGS.SILENT (\\Deleted)").expect("stored");
        imap.ok("EXPUNGE").expect("expunged");
        let line = status(&mut imap);
        let (uid_now, modseq_now) = (number(&line, "UIDNEXT "), number(&line, "HIGHESTMODSEQ "));
        assert!(uid_now > uid_next && modseq_now > modseq, "{line} after {uid_next} and {modseq}");
        (uid_next, modseq) = (uid_now, modseq_now);
        server.kill();
        server.start();
        let line = status(&mut server.imap(ACCOUNTS[0]));
        assert_eq!((number(&line, "UIDNEXT "), number(&line, "HIGHESTMODSEQ ")), (uid_next, modseq));
    }
}

/// The line of STATUS among what else is told.
fn status(imap: &mut Imap) -> String {
    let mut lines = imap.texts("STATUS INBOX (UIDNEXT HIGHESTMODSEQ)");
    lines.retain(|line| line.starts_with("* STATUS"));
    lines.concat()
}

fn number(line: &str, name: &str) -> u64 {
    let rest = line.split(name).nth(1).expect(name);
    rest.split([' ', ')']).next().and_then(|digits| digits.parse().ok()).expect(name)
}
