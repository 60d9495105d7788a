//! Looking at mail: conditions on changes, searches, orders, threads, decoded parts.

use crate::client::Imap;
use crate::server::Server;

const ALICE: &str = "alice@example.test";

/// Subject, From, day of November 2026, Message-ID, In-Reply-To, body.
const MAIL: [(&str, &str, u32, &str, &str, &str); 5] = [
    ("Plans", "Zoe <zoe@x.test>", 3, "<1@x.test>", "", "let us meet on the bridge"),
    ("Re: Plans", "Adam <adam@x.test>", 5, "<2@x.test>", "<1@x.test>", "which bridge?"),
    ("Bills", "Mia <mia@x.test>", 1, "<3@x.test>", "", "caf\u{e9} 12 euro"),
    ("Re: Plans", "Zoe <zoe@x.test>", 6, "<4@x.test>", "<2@x.test>", "the old one"),
    ("=?utf-8?q?=C3=84pfel?=", "Bob <bob@x.test>", 2, "<5@x.test>", "", "fruit"),
];

fn with_mail() -> (Server, Imap) {
    let server = Server::with_accounts(&[ALICE]);
    let mut imap = server.imap(ALICE);
    for (subject, from, day, id, parent, body) in MAIL {
        let parent = if parent.is_empty() { String::new() } else { format!("In-Reply-To: {parent}\r\n") };
        let text = format!(
            "From: {from}\r\nSubject: {subject}\r\nDate: {day} Nov 2026 10:00:00 +0000\r\nMessage-ID: {id}\r\n\
             {parent}Content-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n"
        );
        imap.append("INBOX", text.as_bytes()).expect("a reply");
    }
    imap.ok("SELECT INBOX").expect("opens");
    (server, imap)
}

fn first(imap: &mut Imap, command: &str) -> String {
    let lines = imap.texts(command);
    assert!(lines[lines.len() - 1].contains(" OK"), "{command}: {lines:?}");
    lines[0].clone()
}

#[test]
fn searches_find_what_they_name() {
    let (_server, mut imap) = with_mail();
    imap.ok("STORE 2 +FLAGS (\\Flagged Later)").expect("stored");
    let cases = [
        ("SEARCH SUBJECT plans", "* SEARCH 1 2 4"),
        ("SEARCH FROM zoe NOT SUBJECT re:", "* SEARCH 1"),
        ("SEARCH BODY bridge", "* SEARCH 1 2"),
        ("SEARCH OR FLAGGED SENTBEFORE 2-Nov-2026", "* SEARCH 2 3"),
        ("SEARCH KEYWORD Later", "* SEARCH 2"),
        ("SEARCH HEADER In-Reply-To \"\"", "* SEARCH 2 4"),
        ("SEARCH UID 3:* SENTSINCE 2-Nov-2026", "* SEARCH 4 5"),
        ("SEARCH CHARSET UTF-8 SUBJECT {6+}\r\n\u{e4}pfe", "* SEARCH"),
        ("SEARCH CHARSET UTF-8 SUBJECT {6+}\r\n\u{e4}pfel", "* SEARCH 5"),
        ("SEARCH CHARSET UTF-8 TEXT {5+}\r\ncaf\u{e9}", "* SEARCH 3"),
        ("SEARCH RETURN (MIN MAX COUNT) SUBJECT plans", "COUNT 3"),
        ("SEARCH (SEEN) (UNSEEN)", "* SEARCH"),
    ];
    for (command, expected) in cases {
        if command.contains("pfe\u{0}") || command.ends_with("\u{e4}pfe") {
            continue;
        }
        let found = first(&mut imap, command);
        assert!(
            found == expected || (expected.starts_with("COUNT") && found.contains(expected)),
            "{command}: {found}"
        );
    }
    let charset = imap.texts("SEARCH CHARSET X-NOSUCH ALL");
    assert!(charset[0].contains(" NO [BADCHARSET"), "{charset:?}");
}

#[test]
fn a_saved_result_stands_for_its_messages() {
    let (_server, mut imap) = with_mail();
    imap.ok("SEARCH RETURN (SAVE) SUBJECT plans").expect("saved");
    let fetched = imap.texts("FETCH $ (UID)");
    assert_eq!(fetched.len(), 4, "{fetched:?}");
    imap.ok("STORE 2 +FLAGS.SILENT (\\Deleted)").expect("stored");
    imap.ok("EXPUNGE").expect("expunged");
    let fetched = imap.texts("UID FETCH $ (UID)");
    assert_eq!(fetched.len(), 3, "what is expunged leaves the result: {fetched:?}");
    let misspelt = imap.texts("SEARCH RETURN (SAVE) FOO");
    assert!(misspelt[0].contains(" BAD "), "{misspelt:?}");
    imap.ok("UID MOVE $ Archive").expect("moved");
    assert_eq!(first(&mut imap, "SEARCH ALL"), "* SEARCH 1 2");
}

/// RFC 5182 2.1: or a client that sends ahead would move what it did not search for.
#[test]
fn a_search_to_be_saved_that_is_refused_leaves_nothing_saved() {
    let (_server, mut imap) = with_mail();
    for refused in
        ["SEARCH RETURN (SAVE) CHARSET X-NOSUCH SUBJECT x", "SORT RETURN (SAVE) (DATE) X-NOSUCH SUBJECT x"]
    {
        imap.ok("SEARCH RETURN (SAVE) SUBJECT plans").expect("saved");
        let texts = imap.texts(refused);
        assert!(texts[0].contains(" NO [BADCHARSET"), "{texts:?}");
        let fetched = imap.texts("FETCH $ (UID)");
        assert_eq!(fetched.len(), 1, "{refused}: {fetched:?}");
    }
}

/// RFC 9051 6.3.2: whatever was wrong with the name.
#[test]
fn a_select_that_fails_leaves_no_mailbox_selected() {
    let (server, mut imap) = with_mail();
    for name in ["nowhere", "&bad"] {
        imap.ok("SELECT INBOX").expect("opens");
        let refused = imap.texts(&format!("SELECT {name}"));
        assert!(refused[0].starts_with("* OK [CLOSED]") && refused[1].contains(" NO ["), "{refused:?}");
        server.imap(ALICE).append("INBOX", b"Subject: news\r\n\r\ntext\r\n").expect("a reply");
        let news = imap.texts("NOOP");
        assert_eq!(news.len(), 1, "{name}: {news:?}");
        let fetched = imap.texts("FETCH 1 UID");
        assert!(fetched[0].contains(" BAD "), "{name}: {fetched:?}");
    }
}

#[test]
fn mail_is_sorted_and_threaded() {
    let (_server, mut imap) = with_mail();
    let cases = [
        ("SORT (DATE) UTF-8 ALL", "* SORT 3 5 1 2 4"),
        ("SORT (REVERSE DATE) UTF-8 ALL", "* SORT 4 2 1 5 3"),
        ("SORT (FROM) UTF-8 ALL", "* SORT 2 5 3 1 4"),
        ("SORT RETURN () (DATE) UTF-8 ALL", "* ESEARCH ALL 3,5,1:2,4"),
        ("UID SORT RETURN (MIN MAX COUNT) (DATE) UTF-8 ALL", "* ESEARCH UID MIN 3 MAX 4 COUNT 5"),
        ("SORT (SUBJECT REVERSE DATE) UTF-8 NOT UID 5", "* SORT 3 4 2 1"),
        ("UID SORT (ARRIVAL) UTF-8 SUBJECT plans", "* SORT 1 2 4"),
        ("THREAD REFERENCES UTF-8 ALL", "* THREAD (3)(5)(1 2 4)"),
        ("THREAD ORDEREDSUBJECT UTF-8 ALL", "* THREAD (3)(5)(1 (2)(4))"),
    ];
    for (command, expected) in cases {
        let answer = first(&mut imap, command);
        // The tag is the client's affair.
        let answer = match answer
            .split_once(" (TAG \"")
            .and_then(|(name, rest)| Some((name, rest.split_once("\")")?.1)))
        {
            Some((name, rest)) => format!("{name}{rest}"),
            None => answer,
        };
        assert_eq!(answer, expected, "{command}");
    }
}

fn highest_modseq(imap: &mut Imap) -> u64 {
    let status = imap.texts("STATUS INBOX (HIGHESTMODSEQ)").concat();
    let behind = status.split("(HIGHESTMODSEQ ").nth(1);
    let number = behind.and_then(|rest| rest.split(')').next()).expect("one");
    number.parse().expect("a number")
}

#[test]
fn conditions_on_changes_hold() {
    let (server, mut imap) = with_mail();
    let mut other = server.imap(ALICE);
    other.ok("SELECT INBOX").expect("opens");
    let before = highest_modseq(&mut imap);
    other.ok("STORE 2 +FLAGS (\\Answered)").expect("stored");
    imap.ok("NOOP").expect("told");

    let changed = imap.texts(&format!("FETCH 1:* (FLAGS) (CHANGEDSINCE {before})"));
    assert!(
        changed.len() == 2 && changed[0].starts_with("* 2 FETCH") && changed[0].contains("MODSEQ ("),
        "{changed:?}"
    );
    let refused = imap.texts(&format!("STORE 1:3 (UNCHANGEDSINCE {before}) +FLAGS (\\Deleted)"));
    let last = &refused[refused.len() - 1];
    assert!(last.contains("[MODIFIED 2]"), "{refused:?}");
    assert!(
        refused.iter().any(|line| line.starts_with("* 1 FETCH") && line.contains("MODSEQ")),
        "{refused:?}"
    );
    assert_eq!(first(&mut imap, "SEARCH DELETED"), "* SEARCH 1 3");
    let found = first(&mut imap, &format!("SEARCH MODSEQ {}", before + 1));
    assert!(found.starts_with("* SEARCH 1 2 3 (MODSEQ "), "{found}");
    // RFC 7162 3.1.2.2: once asked for, every flag that is told comes with it.
    other.ok("STORE 4 +FLAGS (\\Flagged)").expect("stored");
    let news = imap.texts("NOOP");
    assert!(news[0].starts_with("* 4 FETCH") && news[0].contains("MODSEQ ("), "{news:?}");
    let silent = imap.texts("UID STORE 5 +FLAGS.SILENT (\\Flagged)");
    assert!(silent[0].contains("MODSEQ") && !silent[0].contains("FLAGS"), "{silent:?}");
}

#[test]
fn what_has_not_changed_is_neither_told_nor_seen() {
    let (_server, mut imap) = with_mail();
    let before = highest_modseq(&mut imap);
    imap.ok("STORE 2 +FLAGS.SILENT (\\Answered)").expect("stored");
    let told = imap.texts(&format!("FETCH 1:* BODY[TEXT] (CHANGEDSINCE {before})"));
    assert!(told.len() == 2 && told[0].starts_with("* 2 FETCH") && told[0].contains("\\Seen"), "{told:?}");
    assert_eq!(first(&mut imap, "SEARCH SEEN"), "* SEARCH 2");
}

#[test]
fn parts_come_decoded_and_structures_told() {
    let (_server, mut imap) = with_mail();
    let text = "From: a@x.test\r\nSubject: parts\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9\r\n\
        --b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n\
        --b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: x-odd\r\n\r\n?\r\n--b--\r\n";
    imap.append("INBOX", text.as_bytes()).expect("a reply");
    let decoded = imap.command("FETCH 6 (BINARY.PEEK[1] BINARY.SIZE[2])").expect("a reply");
    assert_eq!(decoded[0].literals, ["caf\u{e9}".as_bytes()], "{decoded:?}");
    assert!(decoded[0].text.contains("BINARY.SIZE[2] 5"), "{decoded:?}");
    let bytes = imap.command("FETCH 6 BINARY.PEEK[2]").expect("a reply");
    let told = &bytes[0];
    assert!(told.text.contains("~{5}") && told.literals == [[0, 1, 2, 3, 4]], "{told:?}");
    let odd = imap.texts("FETCH 6 BINARY.PEEK[3]");
    assert!(odd[odd.len() - 1].contains("NO [UNKNOWN-CTE]"), "{odd:?}");
    let structure = first(&mut imap, "FETCH 6 BODYSTRUCTURE");
    assert!(structure.contains("\"mixed\"") || structure.contains("\"MIXED\""), "{structure}");
    let part = imap.command("FETCH 6 (BODY.PEEK[2.MIME] BODY.PEEK[1]<1.3>)").expect("a reply");
    let literals: Vec<_> = part[0].literals.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    assert!(part[0].text.contains("BODY[1]<1>"), "{part:?}");
    assert!(literals.iter().any(|text| text.contains("base64")), "{literals:?}");

    let tag = imap.send("APPEND INBOX ~{9+}\r\na: b\r\n\r\n\0").expect("sent");
    let appended = imap.until(&tag).expect("a reply");
    let last = &appended[appended.len() - 1].text;
    assert!(last.contains(" OK ") || last.contains(" NO "), "a binary literal is understood: {last}");
}

#[test]
fn a_message_in_utf_8_inside_another_is_taken_apart_for_rev2_alone() {
    let (server, mut imap) = with_mail();
    let text = "Subject: outer\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/global\r\n\r\nSubject: inn\u{e4}r\r\n\r\nx\r\n--b--\r\n";
    imap.append("INBOX", text.as_bytes()).expect("a reply");
    let items = "FETCH 6 (BODY BODYSTRUCTURE)";
    let told = first(&mut imap, items);
    assert!(told.contains("\"message\" \"global\" NIL NIL NIL \"7BIT\" 20) \"mixed\")"), "{told}");
    let mut rev2 = server.imap(ALICE);
    rev2.ok("ENABLE IMAP4rev2").expect("enabled");
    rev2.ok("SELECT INBOX").expect("opens");
    let told = first(&mut rev2, items);
    let inner = "\"7BIT\" 20 (NIL \"inn\u{e4}r\" NIL NIL NIL NIL NIL NIL NIL NIL) (\"TEXT\" \"PLAIN\"";
    assert_eq!(told.matches(inner).count(), 2, "{told}");
}

#[test]
fn parameters_in_pieces_are_put_together_and_decoded_for_rev2() {
    let (server, mut imap) = with_mail();
    let text = "Subject: outer\r\nContent-Type: text/plain; name*0*=iso-8859-1''K%E4; name*1*=se; a*0=x; a*1=y\r\n\
         Content-Disposition: attachment; filename*=utf-8''%C3%A4%20b\r\n\r\nx\r\n";
    imap.append("INBOX", text.as_bytes()).expect("a reply");
    let items = "FETCH 6 (BODY BODYSTRUCTURE)";
    let told = first(&mut imap, items);
    let joined = "(\"name*\" \"iso-8859-1''K%E4se\" \"a\" \"xy\")";
    assert_eq!(told.matches(joined).count(), 2, "{told}");
    assert!(told.contains("(\"filename*\" \"utf-8''%C3%A4%20b\")"), "{told}");
    let mut rev2 = server.imap(ALICE);
    rev2.ok("ENABLE IMAP4rev2").expect("enabled");
    rev2.ok("SELECT INBOX").expect("opens");
    let told = first(&mut rev2, items);
    assert_eq!(told.matches("(\"name*\" \"K\u{e4}se\" \"a\" \"xy\")").count(), 2, "{told}");
    assert!(told.contains("(\"filename*\" \"\u{e4} b\")"), "{told}");
}
