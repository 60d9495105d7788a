//! What a client said before a case begins, and how many replies that takes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub const READER: &str = "john@here.test";
pub const MEANT: &str = "meant@here.test";
pub const PASSWORD: &str = "secret";

const MAIL: &str = "MAIL FROM:<john@here.test>\r\n";

/// The bytes of an opening, one command after another; mail is for `meant`.
pub fn commands(on: &str, given: &str, meant: &str) -> Vec<String> {
    let all = match on {
        "imap" => imap(),
        "imaps" | "pop3s" | "submissions" => vec![("new", Vec::new())],
        "pop3" => vec![
            ("new", Vec::new()),
            ("login", vec![format!("USER {READER}\r\n"), format!("PASS {PASSWORD}\r\n")]),
            ("starttls", vec!["STLS\r\n".to_owned()]),
        ],
        _ => smtp(on == "submission", meant),
    };
    let found = all.into_iter().find(|(name, _)| *name == given);
    found.unwrap_or_else(|| panic!("{on} has no opening called {given:?}")).1
}

fn smtp(is_login: bool, meant: &str) -> Vec<(&'static str, Vec<String>)> {
    let mut hello = vec!["EHLO client.test\r\n".to_owned()];
    let connected = hello.clone();
    if is_login {
        hello.push(format!("AUTH PLAIN {}\r\n", STANDARD.encode(format!("\0{READER}\0{PASSWORD}"))));
    }
    let behind = |more: &[&str]| -> Vec<String> {
        hello.iter().cloned().chain(more.iter().map(|line| (*line).to_owned())).collect()
    };
    let recipient = format!("RCPT TO:<{meant}>\r\n");
    vec![
        ("new", Vec::new()),
        ("starttls", [connected.as_slice(), &["STARTTLS\r\n".to_owned()]].concat()),
        ("connected", connected),
        ("hello", behind(&[])),
        ("mail", behind(&[MAIL])),
        ("recipient", behind(&[MAIL, &recipient])),
        ("data", behind(&[MAIL, &recipient, "DATA\r\n"])),
        ("binary", behind(&["MAIL FROM:<john@here.test> BODY=BINARYMIME\r\n", &recipient])),
        ("chunk", behind(&[MAIL, &recipient, "BDAT 3\r\na\r\n"])),
    ]
}

fn imap() -> Vec<(&'static str, Vec<String>)> {
    let login = format!("o1 LOGIN {READER} {PASSWORD}\r\n");
    vec![
        ("new", Vec::new()),
        ("starttls", vec!["o1 STARTTLS\r\n".to_owned()]),
        ("login", vec![login.clone()]),
        ("selected", vec![login, "o2 SELECT INBOX\r\n".to_owned()]),
    ]
}
