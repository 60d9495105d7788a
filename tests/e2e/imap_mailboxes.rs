//! Mailboxes of an account: what a new one has, how they are made, named, listed and left.

use crate::client::Imap;
use crate::flow::message;
use crate::server::Server;

const ALICE: &str = "alice@example.test";

fn new_account() -> (Server, Imap) {
    let server = Server::with_accounts(&[ALICE]);
    let imap = server.imap(ALICE);
    (server, imap)
}

#[track_caller]
fn assert_has(lines: &[String], wanted: &str) {
    assert!(lines.iter().any(|line| line.contains(wanted)), "no {wanted} in {lines:#?}");
}

#[track_caller]
fn assert_lacks(lines: &[String], unwanted: &str) {
    assert!(!lines.iter().any(|line| line.contains(unwanted)), "{unwanted} in {lines:#?}");
}

#[test]
fn a_new_account_has_subscribed_mailboxes_with_their_special_uses() {
    let (_server, mut imap) = new_account();
    let all = imap.texts("LIST \"\" \"*\" RETURN (SPECIAL-USE SUBSCRIBED)");
    for (name, usage) in [
        ("Drafts", "\\Drafts"),
        ("Sent", "\\Sent"),
        ("Junk", "\\Junk"),
        ("Trash", "\\Trash"),
        ("Archive", "\\Archive"),
    ] {
        let line = all.iter().find(|line| line.ends_with(&format!(" {name}"))).expect(name);
        assert!(line.contains(usage) && line.contains("\\Subscribed"), "{line}");
    }
    let only = imap.texts("LIST (SPECIAL-USE) \"\" \"*\"");
    assert_lacks(&only, "INBOX");
    assert_eq!(only.len(), 6, "{only:?}");
    let subscribed = imap.texts("LSUB \"\" \"*\"");
    assert_has(&subscribed, " Sent");
    assert_has(&imap.texts("NAMESPACE"), "* NAMESPACE ((\"\" \"/\")) NIL NIL");
}

#[test]
fn mailboxes_are_made_with_parents_renamed_with_children_and_deleted() {
    let (_server, mut imap) = new_account();
    imap.ok("CREATE a/b/c").expect("created");
    assert_has(&imap.texts("CREATE a/b/c"), "NO [ALREADYEXISTS]");
    assert_has(&imap.texts("CREATE inbox"), " NO ");
    imap.append("a/b/c", &message(1, 200)).expect("a reply");
    imap.ok("RENAME a x").expect("renamed");
    let all = imap.texts("LIST \"\" \"*\"");
    assert_has(&all, " x/b/c");
    assert_lacks(&all, " a/b");
    assert_has(&imap.texts("STATUS x/b/c (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE)"), "MESSAGES 1 ");
    assert_has(&imap.texts("RENAME x x/y"), " NO ");
    assert_has(&imap.texts("RENAME nowhere y"), "NO [NONEXISTENT]");
    assert_has(&imap.texts("DELETE INBOX"), " NO ");
    assert_has(&imap.texts("DELETE nowhere"), "NO [NONEXISTENT]");
    imap.ok("DELETE x/b/c").expect("deleted");
    assert_lacks(&imap.texts("LIST \"\" \"*\""), " x/b/c");
    assert_has(&imap.texts("SELECT x/b/c"), "NO [NONEXISTENT]");
}

#[test]
fn a_mailbox_made_again_has_another_uid_validity() {
    let (_server, mut imap) = new_account();
    let mut seen = Vec::new();
    for _ in 0..3 {
        imap.ok("CREATE again").expect("created");
        imap.append("again", &message(1, 200)).expect("a reply");
        seen.push(imap.texts("STATUS again (UIDVALIDITY)")[0].clone());
        imap.ok("DELETE again").expect("deleted");
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn renaming_inbox_moves_its_mail_and_leaves_it_empty() {
    let (server, mut imap) = new_account();
    imap.append("INBOX", &message(1, 200)).expect("a reply");
    imap.ok("RENAME INBOX Old").expect("renamed");
    assert_has(&imap.texts("STATUS Old (MESSAGES)"), "MESSAGES 1");
    assert_has(&imap.texts("STATUS INBOX (MESSAGES)"), "MESSAGES 0");
    server.smtp().message("sender@elsewhere.test", &[ALICE], &message(2, 200)).expect("a reply");
    crate::flow::wait_for(&server, ALICE, 1);
}

#[test]
fn lists_select_by_pattern_subscription_and_children() {
    let (_server, mut imap) = new_account();
    for name in ["p/q/r", "p/s", "\"with space\"", "&AOQ-pfel"] {
        imap.ok(&format!("CREATE {name}")).expect("created");
    }
    let level = imap.texts("LIST \"\" %");
    assert_has(&level, "\\HasChildren");
    assert_lacks(&level, " p/s");
    assert_has(&level, "\"with space\"");
    assert_has(&level, "&AOQ-pfel");
    let below = imap.texts("LIST p/ %");
    assert_has(&below, " p/s");
    assert_lacks(&below, " p/q/r");
    assert_has(&imap.texts("LIST \"\" \"\""), "(\\Noselect) \"/\" ");

    imap.ok("SUBSCRIBE p/q/r").expect("subscribed");
    let recursive = imap.texts("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" p");
    assert_has(&recursive, "CHILDINFO");
    let several = imap.texts("LIST \"\" (INBOX p/*) RETURN (STATUS (MESSAGES UNSEEN))");
    assert_has(&several, "* STATUS INBOX (MESSAGES 0 UNSEEN 0)");
    assert_has(&several, "* STATUS p/s ");
    imap.ok("DELETE p/q/r").expect("deleted");
    let lsub = imap.texts("LIST (SUBSCRIBED) \"\" \"*\"");
    assert_has(&lsub, "\\NonExistent");
    imap.ok("UNSUBSCRIBE p/q/r").expect("unsubscribed");
    assert_lacks(&imap.texts("LIST (SUBSCRIBED) \"\" \"*\""), "p/q/r");
}

#[test]
fn copies_and_moves_say_which_uids_they_made() {
    let (_server, mut imap) = new_account();
    for number in 0..4 {
        let replies = imap.append("INBOX", &message(number, 300)).expect("a reply");
        let last = &replies[replies.len() - 1].text;
        assert!(last.contains(&format!(" {}] ", number + 1)) && last.contains("[APPENDUID "), "{last}");
    }
    imap.ok("SELECT INBOX").expect("opens");
    imap.ok("STORE 2 +FLAGS (\\Flagged Mark)").expect("stored");
    let copied = imap.texts("COPY 1:2 Archive");
    assert!(copied[copied.len() - 1].contains("[COPYUID ") && copied[copied.len() - 1].contains(" 1:2 1:2]"));
    let moved = imap.texts("MOVE 3:4 Archive");
    assert_eq!(moved.iter().filter(|line| line.ends_with(" EXPUNGE")).count(), 2, "{moved:?}");
    let copy_uid = moved.iter().position(|line| line.contains("COPYUID")).expect("a COPYUID");
    let expunge = moved.iter().position(|line| line.ends_with("EXPUNGE")).expect("an EXPUNGE");
    assert!(copy_uid < expunge, "{moved:?}");
    assert_has(&moved, " 3:4 3:4]");
    assert_has(&imap.texts("UID COPY 1 Nowhere"), "NO [TRYCREATE]");
    let same = imap.texts("COPY 1 INBOX");
    assert_has(&same, " 1 5]");

    imap.ok("SELECT Archive").expect("opens");
    let flags = imap.texts("UID FETCH 2 (FLAGS)");
    assert!(flags[0].contains("\\Flagged") && flags[0].contains("Mark"), "{flags:?}");
    let bodies = imap.bodies().expect("bodies");
    let sent: Vec<Vec<u8>> = (0..4).map(|number| message(number, 300)).collect();
    assert_eq!(bodies, sent);
}

#[test]
fn a_full_table_of_keywords_keeps_no_mail_out() {
    let (_server, mut imap) = new_account();
    imap.append("INBOX", &message(1, 200)).expect("a reply");
    imap.ok("SELECT INBOX").expect("opens");
    let keywords: Vec<String> = (0..64).map(|number| format!("k{number}")).collect();
    imap.ok(&format!("STORE 1 FLAGS.SILENT ({})", keywords.join(" "))).expect("stored");
    assert_has(&imap.texts("STORE 1 +FLAGS (more)"), " NO [LIMIT]");
    let appended = imap.append("INBOX (\\Seen k1 more)", &message(2, 200)).expect("a reply");
    assert!(appended[appended.len() - 1].text.contains(" OK [APPENDUID "), "{appended:?}");
    let flags = imap.texts("FETCH 2 (FLAGS)");
    assert_has(&flags, "\\Seen");
    assert_has(&flags, " k1");
    assert_lacks(&flags, "more");
}

#[test]
fn rev2_changes_what_is_said() {
    let (server, mut imap) = new_account();
    imap.append("INBOX", &message(1, 200)).expect("a reply");
    imap.ok("CREATE &AOQ-pfel").expect("created");
    assert_has(&imap.texts("SELECT INBOX"), " RECENT");
    assert_has(&imap.texts("SEARCH ALL"), "* SEARCH 1");
    assert_has(&imap.texts("FETCH 1 (FLAGS)"), "\\Recent");
    imap.ok("UNSELECT").expect("left");
    imap.append("INBOX", &message(2, 200)).expect("a reply");
    assert_has(&imap.texts("ENABLE IMAP4rev2"), "* ENABLED IMAP4rev2");
    let selected = imap.texts("SELECT INBOX");
    assert_lacks(&selected, " RECENT");
    assert_has(&selected, "* LIST ");
    for command in ["FETCH 1:2 (FLAGS)", "STORE 2 +FLAGS (\\Flagged)", "FETCH 2 (FLAGS BODY[])"] {
        let lines = imap.texts(command);
        assert_has(&lines, "* 2 FETCH (");
        assert_lacks(&lines, "\\Recent");
    }
    let mut other = server.imap(ALICE);
    other.ok("SELECT INBOX").expect("opens");
    other.ok("STORE 2 +FLAGS (\\Draft)").expect("stored");
    let news = imap.texts("NOOP");
    assert_has(&news, "\\Draft");
    assert_lacks(&news, "\\Recent");
    assert_has(&imap.texts("SEARCH ALL"), "* ESEARCH ");
    assert_has(&imap.texts("LIST \"\" *"), "\u{e4}pfel");
    assert_has(&imap.texts("SELECT Archive"), "[CLOSED]");
}

#[test]
fn a_client_is_told_how_its_name_is_kept() {
    const TWO: &str = "u\u{308}ber";
    const ONE: &str = "\u{fc}ber";
    let (_server, mut imap) = new_account();
    imap.ok("ENABLE IMAP4rev2").expect("enabled");
    let made = imap.texts(&format!("CREATE \"{TWO}\""));
    assert_has(&made, &format!("\"{ONE}\" (\"OLDNAME\" (\"{TWO}\"))"));
    assert_has(&imap.texts(&format!("CREATE \"{ONE}\"")), " NO [ALREADYEXISTS]");
    assert_has(&imap.texts(&format!("LIST \"\" \"{TWO}\"")), &format!("\"{ONE}\""));
    assert_has(&imap.texts(&format!("SELECT \"{TWO}\"")), &format!("\"{ONE}\" (\"OLDNAME\" (\"{TWO}\"))"));
    let selected = imap.texts(&format!("SELECT \"{ONE}\""));
    assert_lacks(&selected, "OLDNAME");
    assert_eq!(selected.iter().filter(|line| line.contains("[CLOSED]")).count(), 1, "{selected:#?}");
    let renamed = imap.texts(&format!("RENAME \"{TWO}\" \"a/{TWO}\""));
    assert_has(&renamed, &format!("\"a/{ONE}\" (\"OLDNAME\" (\"{TWO}\"))"));
    assert_has(&imap.texts(&format!("STATUS \"a/{TWO}\" (MESSAGES)")), "MESSAGES 0");
}
