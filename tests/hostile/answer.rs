//! What a server answered, as a line of words that can be compared: reply codes, results, and whether the session
//! still took the command that ends it.

/// Which language the replies are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Smtp,
    Imap,
    Pop3,
}

impl Protocol {
    pub fn of(port: &str) -> Self {
        match port {
            "imap" | "imaps" => Self::Imap,
            "pop3" | "pop3s" => Self::Pop3,
            "relay" | "submission" | "submissions" => Self::Smtp,
            _ => panic!("no port is called {port:?}"),
        }
    }

    /// What asks a session to end; it stands behind every case.
    pub fn farewell(self) -> &'static [u8] {
        match self {
            Self::Smtp => b"QUIT\r\n",
            // An +OK of its own could be that of another command.
            Self::Pop3 => b"XEND\r\nQUIT\r\n",
            Self::Imap => b"zz LOGOUT\r\n",
        }
    }
}

/// The words of all replies in `bytes`, without the answer to the farewell; `end` if there was none.
pub fn words(protocol: Protocol, bytes: &[u8]) -> Vec<String> {
    let (mut words, is_farewell): (Vec<String>, bool) = match protocol {
        Protocol::Smtp => smtp(bytes),
        Protocol::Imap => imap(bytes),
        Protocol::Pop3 => pop3(bytes),
    };
    if !is_farewell {
        words.push("end".into());
    }
    words
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end)
}

fn smtp(bytes: &[u8]) -> (Vec<String>, bool) {
    // An alert of TLS, which is no line, may stand at the end.
    let is_last = |line: &&[u8]| line.first().is_some_and(u8::is_ascii_digit) && line.get(3) != Some(&b'-');
    let mut words: Vec<String> = lines(bytes)
        .filter(is_last)
        .map(|line| String::from_utf8_lossy(line.get(..3).unwrap_or(line)).into_owned())
        .collect();
    let is_farewell = words.last().is_some_and(|word| word == "221");
    words.truncate(words.len() - usize::from(is_farewell));
    (words, is_farewell)
}

fn pop3(bytes: &[u8]) -> (Vec<String>, bool) {
    let status = |line: &[u8]| match line {
        [b'+', b'O', b'K', ..] => Some("+OK"),
        [b'-', b'E', b'R', b'R', ..] => Some("-ERR"),
        [b'+', b' ', ..] | [b'+'] => Some("+"),
        _ => None,
    };
    let mut words: Vec<String> = lines(bytes).filter_map(status).map(str::to_owned).collect();
    let is_farewell = words.ends_with(&["-ERR".to_owned(), "+OK".to_owned()]);
    words.truncate(words.len() - if is_farewell { 2 } else { 0 });
    (words, is_farewell)
}

/// Results and continuations; untagged OK and NO only inform.
fn imap(bytes: &[u8]) -> (Vec<String>, bool) {
    let (mut words, mut rest) = (Vec::new(), bytes);
    let mut is_farewell = false;
    while !rest.is_empty() {
        let (line, after) =
            rest.split_at(rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1));
        rest = &after[literal_len(line).min(after.len())..];
        let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        let (tag, result) = line.split_once(' ').unwrap_or((&line, ""));
        let result = result.split(' ').next().unwrap_or_default();
        match (tag, result) {
            ("zz", "OK") => is_farewell = true,
            ("+", _) => words.push("+".to_owned()),
            ("*", "BYE" | "BAD") => words.push(result.to_owned()),
            ("*", _) => {}
            (_, "OK" | "NO" | "BAD") => words.push(result.to_owned()),
            _ => {}
        }
    }
    if is_farewell && words.last().is_some_and(|word| word == "BYE") {
        words.pop();
    }
    (words, is_farewell)
}

fn literal_len(line: &[u8]) -> usize {
    let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
    let count = text
        .strip_suffix('}')
        .and_then(|front| front.rsplit_once('{'))
        .and_then(|(_, count)| count.parse().ok());
    count.unwrap_or(0)
}

/// Whether `words` is what `pattern` says: `5xx` is a class, `a|b` one of both, `*` after a word any number of it,
/// `...` at the end whatever follows.
pub fn matches(pattern: &str, words: &[String]) -> bool {
    let wanted: Vec<&str> = pattern.split_whitespace().collect();
    matches_from(&wanted, words)
}

fn matches_from(wanted: &[&str], words: &[String]) -> bool {
    match (wanted, words) {
        (["..."], _) | ([], []) => true,
        ([], _) => false,
        ([first, rest @ ..], _) if first.ends_with('*') => {
            let word = first.trim_end_matches('*');
            matches_from(rest, words)
                || words
                    .split_first()
                    .is_some_and(|(found, after)| is_word(word, found) && matches_from(wanted, after))
        }
        ([first, rest @ ..], [found, after @ ..]) => is_word(first, found) && matches_from(rest, after),
        (_, []) => false,
    }
}

fn is_word(wanted: &str, found: &str) -> bool {
    wanted.split('|').any(|wanted| match wanted.strip_suffix("xx") {
        Some(class) => found.len() == 3 && found.starts_with(class),
        None => wanted == found,
    })
}

#[cfg(test)]
mod tests {
    use super::{Protocol, matches, words};

    #[test]
    fn answers_are_read() {
        let table: &[(Protocol, &[u8], &str)] = &[
            (Protocol::Smtp, b"250-a\r\n250 b\r\n354 c\r\n221 d\r\n", "250 354"),
            (Protocol::Smtp, b"250 a\r\n421 b\r\n", "250 421 end"),
            (Protocol::Imap, b"* OK x\r\na BAD x\r\n+ \r\n* BYE x\r\nzz OK x\r\n", "BAD +"),
            (Protocol::Imap, b"* 1 FETCH (A {9}\r\nb BAD x\r\n)\r\na OK x\r\n* BYE x\r\n", "OK BYE end"),
            (Protocol::Pop3, b"+OK\r\ntext\r\n.\r\n-ERR x\r\n-ERR x\r\n+OK x\r\n", "+OK -ERR"),
            (Protocol::Pop3, b"-ERR x\r\n", "-ERR end"),
        ];
        for (protocol, bytes, expected) in table {
            assert_eq!(words(*protocol, bytes).join(" "), *expected);
        }
    }

    #[test]
    fn patterns() {
        let table = [
            ("250 5xx", "250 554", true),
            ("250 5xx", "250 454", false),
            ("4xx|end", "end", true),
            ("500* 421 end", "500 500 421 end", true),
            ("500* 421 end", "421 end", true),
            ("250 ...", "250 1 2 3", true),
            ("250", "250 1", false),
            ("250 1", "250", false),
        ];
        for (pattern, found, expected) in table {
            let found: Vec<String> = found.split(' ').map(str::to_owned).collect();
            assert_eq!(matches(pattern, &found), expected, "{pattern}");
        }
    }
}
