//! A delivery status notification as a program reads it (RFC 3464, RFC 6522), not trusting who wrote it.

use std::collections::BTreeMap;

/// Fields by lower-case name; unfolded.
pub type Fields = BTreeMap<String, String>;

pub struct Notification {
    pub header: Fields,
    /// What a person reads.
    pub words: String,
    pub message: Fields,
    pub recipients: Vec<Fields>,
    /// The media type of the last part.
    pub returned_as: String,
    pub returned: Vec<u8>,
}

impl Notification {
    /// Reads a message as it lies in a mailbox. What is not a notification panics.
    pub fn read(bytes: &[u8]) -> Self {
        check_lines(bytes);
        let (header, body) = split(bytes);
        let header = fields(header);
        let kind = &header["content-type"];
        assert!(kind.to_lowercase().starts_with("multipart/report"), "{kind}");
        assert!(kind.to_lowercase().contains("report-type=delivery-status"), "{kind}");
        let boundary = parameter(kind, "boundary");
        let parts = parts(body, &boundary);
        assert_eq!(parts.len(), 3, "{}", String::from_utf8_lossy(bytes));
        let (words_header, words) = split(parts[0]);
        assert!(fields(words_header)["content-type"].starts_with("text/plain"));
        let (status_header, status) = split(parts[1]);
        assert_eq!(fields(status_header)["content-type"], "message/delivery-status");
        let status = String::from_utf8(status.to_vec()).expect("the fields are ASCII");
        assert!(status.is_ascii(), "{status}");
        let mut blocks = status.split("\r\n\r\n").filter(|block| !block.trim().is_empty());
        let message = fields(blocks.next().expect("fields of the message").as_bytes());
        assert!(message["reporting-mta"].starts_with("dns;"));
        let recipients: Vec<Fields> = blocks.map(|block| fields(block.as_bytes())).collect();
        for recipient in &recipients {
            for name in ["final-recipient", "action", "status"] {
                assert!(recipient.contains_key(name), "{recipient:?} lacks {name}");
            }
        }
        let (returned_header, returned) = split(parts[2]);
        Self {
            words: String::from_utf8_lossy(words).into_owned(),
            message,
            recipients,
            returned_as: fields(returned_header)["content-type"].clone(),
            returned: returned.to_vec(),
            header,
        }
    }

    /// The fields of a recipient, who must be there once.
    pub fn recipient(&self, address: &str) -> &Fields {
        let wanted = format!("rfc822; {address}");
        let mut found = self.recipients.iter().filter(|fields| fields["final-recipient"] == wanted);
        let first = found.next().unwrap_or_else(|| panic!("{address} is in {:?}", self.recipients));
        assert!(found.next().is_none(), "{address} is there once");
        first
    }

    /// Action and status of a recipient.
    pub fn verdict(&self, address: &str) -> (&str, &str) {
        let fields = self.recipient(address);
        (&fields["action"], &fields["status"])
    }
}

/// RFC 5322 2.1.1, and nothing but CRLF ends a line.
fn check_lines(bytes: &[u8]) {
    assert!(bytes.ends_with(b"\r\n"));
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= 1000, "{}", String::from_utf8_lossy(line));
        let inner = &line[..line.len() - 2];
        assert!(!inner.contains(&b'\r') && !inner.contains(&0), "{}", String::from_utf8_lossy(line));
    }
}

/// Header and body.
fn split(entity: &[u8]) -> (&[u8], &[u8]) {
    let at = entity.windows(4).position(|window| window == b"\r\n\r\n").expect("a header ends");
    (&entity[..at + 2], &entity[at + 4..])
}

/// A name that is there twice panics, but for trace fields.
fn fields(header: &[u8]) -> Fields {
    let text = String::from_utf8_lossy(header).replace("\r\n ", " ").replace("\r\n\t", " ");
    let mut all = Fields::new();
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?} is a field"));
        let before = all.insert(name.to_lowercase(), value.trim().to_owned());
        assert!(before.is_none() || name == "Received", "{name} is there twice: {text}");
    }
    all
}

fn parameter(value: &str, name: &str) -> String {
    let (_, rest) = value.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("{value} has {name}"));
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().expect("a quoted string").to_owned(),
        None => rest.split(';').next().expect("a token").trim().to_owned(),
    }
}

fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mark = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut begun: Option<usize> = None;
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(mark.as_bytes()) {
            // The CRLF in front belongs to the boundary.
            parts.extend(begun.map(|begun| &body[begun..at - 2]));
            begun = Some(at + line.len());
            if line.trim_ascii_end().ends_with(b"--") && line.trim_ascii_end().len() == mark.len() + 2 {
                return parts;
            }
        }
        at += line.len();
    }
    panic!("the last boundary is missing");
}
