//! What RFC 5321 4.5.2 says of the bytes behind DATA, by the letter and a line at a time: the answer that a case
//! with `by content` expects, and the message that may be kept. Written to be read, not to be fast, and from the
//! RFC alone.

/// The end of the content, and what of it is a message.
pub struct Expected {
    /// The words of the answer.
    pub answer: &'static str,
    pub kept: Vec<Vec<u8>>,
}

/// Who may send what: strangers no line end but CRLF, our own users are mended (RFC 6409 8).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    Strict,
    Mended,
}

/// `say` begins behind the reply 354, and nothing follows its end.
pub fn expected(say: &[u8], manners: Manners) -> Expected {
    let Some((content, rest)) = content(say) else {
        return Expected { answer: "end", kept: Vec::new() };
    };
    assert!(rest.is_empty(), "what follows is not content: {}", rest.escape_ascii());
    let is_clean = mended(&content) == content;
    if content.contains(&0) || (!is_clean && manners == Manners::Strict) {
        return Expected { answer: "554", kept: Vec::new() };
    }
    Expected { answer: "250", kept: vec![mended(&content)] }
}

/// Whether something is said behind the end.
pub fn ends_early(say: &[u8]) -> bool {
    content(say).is_some_and(|(_, rest)| !rest.is_empty())
}

/// Without the dots that do not belong to it, and what follows.
fn content(mut say: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut content = Vec::new();
    loop {
        let end = say.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let (line, after) = say.split_at(end);
        say = after;
        if line == b".\r\n" {
            return Some((content, say));
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
}

/// Every CR or LF on its own as CRLF.
fn mended(content: &[u8]) -> Vec<u8> {
    let mut mended = Vec::new();
    for (index, byte) in content.iter().enumerate() {
        let (before, after) = (index.checked_sub(1).map(|at| content[at]), content.get(index + 1));
        match byte {
            b'\n' if before != Some(b'\r') => mended.extend(b"\r\n"),
            b'\r' if after != Some(&b'\n') => mended.extend(b"\r\n"),
            byte => mended.push(*byte),
        }
    }
    mended
}
