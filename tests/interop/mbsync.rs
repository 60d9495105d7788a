//! mbsync: two-way synchronisation of a whole account, until nothing is left to do.

use std::fs;
use std::path::{Path, PathBuf};

use crate::mail::{ALICE, append, ca, imap, message, server};
use crate::program::{available, command, run};
use crate::server::{IMAP, IMAPS, PASSWORD, Server};

/// A Maildir tree that mbsync keeps equal to the account.
struct Mirror<'a> {
    server: &'a Server,
    home: PathBuf,
}

impl<'a> Mirror<'a> {
    fn new(server: &'a Server, name: &str, port: u16) -> Self {
        let home = server.folder().join(name);
        fs::create_dir_all(home.join("Mail")).expect("a folder for mail");
        // The certificate does not name the address of the test's server, so the certificate itself is trusted.
        let trusted = home.join("trusted.pem");
        let own = fs::read(server.data().join("tls/server.pem")).expect("the server's certificate");
        let authority = fs::read(ca(server)).expect("the authority's certificate");
        fs::write(&trusted, [own, authority].concat()).expect("the trusted certificates");
        let tls = if port == IMAP { "STARTTLS" } else { "IMAPS" };
        let config = format!(
            "IMAPAccount a\nHost {}\nPort {port}\nUser {ALICE}\nPass \"{PASSWORD}\"\nSSLType {tls}\n\
             CertificateFile {}\n\nIMAPStore far\nAccount a\n\n\
             MaildirStore near\nPath {home}/Mail/\nInbox {home}/Mail/INBOX\nSubFolders Verbatim\n\n\
             Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nRemove Both\nExpunge Both\nSyncState *\n",
            server.address(),
            trusted.display(),
            home = home.display(),
        );
        fs::write(home.join("mbsyncrc"), config).expect("the configuration is written");
        Self { server, home }
    }

    fn sync(&self) {
        let mut mbsync = command("mbsync", &self.home);
        mbsync.arg("-c").arg(self.home.join("mbsyncrc")).arg("-a");
        let ran = run(mbsync, b"");
        assert_eq!(ran.stderr, "", "log:\n{}", self.server.log());
        ran.ok();
    }

    fn mailbox(&self, name: &str) -> PathBuf {
        self.home.join("Mail").join(name)
    }

    /// The files of a mailbox with their flags and what is in them, without what mbsync adds.
    fn messages(&self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut messages = Vec::new();
        for folder in ["cur", "new"] {
            let Ok(entries) = fs::read_dir(self.mailbox(name).join(folder)) else {
                continue;
            };
            for entry in entries {
                let path = entry.expect("an entry").path();
                let text =
                    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("X-TUID: "));
                let text = lines.collect::<String>().into_bytes();
                messages.push((path, text));
            }
        }
        messages.sort();
        messages
    }

    fn put(&self, mailbox: &str, name: &str, text: &[u8]) {
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir_all(self.mailbox(mailbox).join(folder)).expect("a Maildir");
        }
        fs::write(self.mailbox(mailbox).join("cur").join(name), text).expect("a message is written");
    }

    /// The file of the message with this number.
    fn file(&self, mailbox: &str, number: usize) -> PathBuf {
        self.message(mailbox, number).0
    }

    fn message(&self, mailbox: &str, number: usize) -> (PathBuf, Vec<u8>) {
        let wanted = format!("Subject: message {number}\n");
        let holds = |text: &[u8]| String::from_utf8_lossy(text).contains(&wanted);
        let found = self.messages(mailbox).into_iter().find(|(_, text)| holds(text));
        found.unwrap_or_else(|| panic!("{mailbox} has message {number}"))
    }

    /// Every file with its flags, to see that nothing changes.
    fn all(&self) -> Vec<PathBuf> {
        ["INBOX", "Archive", "Work", "Work/Deep", "Sent", "New"]
            .iter()
            .flat_map(|mailbox| self.messages(mailbox))
            .map(|(path, _)| path)
            .collect()
    }
}

fn text(number: usize) -> Vec<u8> {
    message(number, 900)
}

/// As a Maildir keeps it.
fn near(number: usize) -> Vec<u8> {
    String::from_utf8_lossy(&text(number)).replace("\r\n", "\n").into_bytes()
}

fn flags(path: &Path) -> &str {
    path.to_str().and_then(|path| path.rsplit_once(":2,")).map_or("", |(_, flags)| flags)
}

fn status(server: &Server, mailbox: &str) -> String {
    imap(server, ALICE, "", &format!("STATUS {mailbox} (MESSAGES UIDNEXT UNSEEN HIGHESTMODSEQ)"))
}

#[test]
fn mbsync_keeps_both_sides_equal() {
    if !available("mbsync") || !available("curl") {
        return;
    }
    let server = server();
    imap(&server, ALICE, "", "CREATE Work/Deep");
    for (mailbox, numbers) in [("INBOX", 0..20), ("Archive", 20..23), ("Work/Deep", 23..25)] {
        for number in numbers {
            append(&server, ALICE, mailbox, &text(number));
        }
    }
    imap(&server, ALICE, "INBOX", "STORE 1:20 FLAGS.SILENT ()");
    imap(&server, ALICE, "INBOX", "STORE 3:4 FLAGS.SILENT (\\Seen \\Flagged)");
    let mirror = Mirror::new(&server, "first", IMAPS);
    mirror.put("New", "1.near:2,S", &near(30));
    mirror.sync();

    assert_eq!(mirror.messages("INBOX").len(), 20);
    for number in 0..20 {
        let (path, text) = mirror.message("INBOX", number);
        assert!(text == near(number), "message {number} came as it is");
        assert_eq!(flags(&path), if (2..4).contains(&number) { "FS" } else { "" }, "of message {number}");
    }
    assert_eq!(mirror.messages("Archive").len(), 3);
    assert_eq!(mirror.messages("Work/Deep").len(), 2);
    assert!(imap(&server, ALICE, "New", "FETCH 1 (FLAGS)").contains("\\Seen"));

    let before: Vec<_> = ["INBOX", "Archive", "New"].iter().map(|mailbox| status(&server, mailbox)).collect();
    let files = mirror.all();
    mirror.sync();
    let after: Vec<_> = ["INBOX", "Archive", "New"].iter().map(|mailbox| status(&server, mailbox)).collect();
    assert_eq!(after, before, "a second run changes nothing on the server");
    assert_eq!(mirror.all(), files, "and nothing here");

    change_both_sides(&server, &mirror);
}

fn change_both_sides(server: &Server, mirror: &Mirror) {
    let answered = mirror.file("INBOX", 5);
    fs::rename(&answered, format!("{}RS", answered.display())).expect("flags are changed here");
    fs::remove_file(mirror.file("INBOX", 6)).expect("a message is removed here");
    mirror.put("INBOX", "2.near:2,D", &near(31));
    imap(server, ALICE, "INBOX", "UID STORE 8 +FLAGS.SILENT (\\Flagged)");
    imap(server, ALICE, "INBOX", "UID STORE 9 +FLAGS.SILENT (\\Deleted)");
    imap(server, ALICE, "INBOX", "EXPUNGE");
    append(server, ALICE, "Sent", &text(32));
    mirror.sync();

    assert_eq!(flags(&mirror.file("INBOX", 7)), "F");
    assert_eq!(imap(server, ALICE, "INBOX", "UID SEARCH ANSWERED SEEN"), "* SEARCH 6\r\n");
    assert_eq!(imap(server, ALICE, "INBOX", "UID SEARCH UID 7,9"), "* SEARCH\r\n");
    assert_eq!(imap(server, ALICE, "INBOX", "UID SEARCH DRAFT"), "* SEARCH 21\r\n");
    assert_eq!(mirror.messages("INBOX").len(), 19);
    assert_eq!(mirror.messages("Sent").len(), 1);

    // A second computer, over STARTTLS, gets the same.
    let second = Mirror::new(server, "second", IMAP);
    second.sync();
    for mailbox in ["INBOX", "Archive", "Work/Deep", "Sent", "New"] {
        let texts = |mirror: &Mirror| {
            let mut texts: Vec<_> = mirror.messages(mailbox).into_iter().map(|(_, text)| text).collect();
            texts.sort();
            texts
        };
        assert!(texts(&second) == texts(mirror), "{mailbox} is the same on both computers");
    }
}
