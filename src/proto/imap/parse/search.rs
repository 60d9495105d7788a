//! SEARCH, SORT and THREAD (RFC 9051 6.4.4, RFC 5256, RFC 5182, RFC 5032, RFC 7162, RFC 8514).

use std::borrow::Cow;

use super::{Request, keyword, unknown};
use crate::limits::imap::NESTING_MAX;
use crate::mail::charset::{is_known, to_utf8_strict};
use crate::mail::date;
use crate::mail::flags::SystemFlags;
use crate::mail::query::{DateTest, SearchKey, SearchReturn, SortBy, SortKey, ThreadBy};
use crate::proto::imap::command::{Command, Loss, Numbering, Refused, Search, Sort, Thread};
use crate::proto::imap::lexer::{Dialect, Fault, Lexed, Lexer};
use crate::proto::imap::reply::Code;

/// `search = "SEARCH" [SP "RETURN" SP search-return-opts] SP search-program`,
/// `search-program = ["CHARSET" SP charset SP] search-key *(SP search-key)`
pub fn search(lexer: &mut Lexer<'_>, numbering: Numbering) -> Lexed<Request> {
    lexer.space()?;
    let returns = returns(lexer)?;
    or_lost(lexer, returns, |lexer| {
        let mut text_charset = None;
        if lexer.eat_word("CHARSET") {
            lexer.space()?;
            text_charset = charset(lexer)?;
            lexer.space()?;
        }
        let (key, tells_modseq) = program(lexer, text_charset)?;
        Ok(Command::Search(Search { numbering, returns, key, tells_modseq }))
    })
}

/// `sort = "SORT" [SP "RETURN" SP search-return-opts] SP "(" sort-key *(SP sort-key) ")" SP charset SP search-keys`
/// (RFC 5256 5, RFC 5267 5)
pub fn sort(lexer: &mut Lexer<'_>, numbering: Numbering) -> Lexed<Request> {
    lexer.space()?;
    let returns = returns(lexer)?;
    or_lost(lexer, returns, |lexer| {
        let by = lexer.list(sort_key)?;
        lexer.space()?;
        let text_charset = charset(lexer)?;
        lexer.space()?;
        let (key, tells_modseq) = program(lexer, text_charset)?;
        Ok(Command::Sort(Sort { numbering, returns, by, key, tells_modseq }))
    })
}

/// `thread = "THREAD" SP thread-alg SP charset SP search-keys`
pub fn thread(lexer: &mut Lexer<'_>, numbering: Numbering) -> Lexed<Request> {
    lexer.space()?;
    let by = match lexer.word()?.to_ascii_uppercase().as_str() {
        "REFERENCES" => ThreadBy::References,
        "ORDEREDSUBJECT" => ThreadBy::OrderedSubject,
        _ => return unknown("Unknown threading algorithm"),
    };
    lexer.space()?;
    let text_charset = charset(lexer)?;
    lexer.space()?;
    let (key, _) = program(lexer, text_charset)?;
    Ok(Request::Command(Command::Thread(Thread { numbering, by, key })))
}

/// The rest of a command. One that saves its result and is refused loses the one before (RFC 5182 2.1).
fn or_lost<'a>(
    lexer: &mut Lexer<'a>,
    returns: Option<SearchReturn>,
    rest: impl FnOnce(&mut Lexer<'a>) -> Lexed<Command>,
) -> Lexed<Request> {
    match rest(lexer) {
        Err(Fault::Refused(code, text)) if returns.is_some_and(|returns| returns.save) => {
            lexer.skip_rest();
            Ok(Request::Command(Command::Refused(Refused { loses: Loss::Saved, code, text })))
        }
        command => command.map(Request::Command),
    }
}

/// `["RETURN" SP search-return-opts SP]`
fn returns(lexer: &mut Lexer<'_>) -> Lexed<Option<SearchReturn>> {
    if !lexer.eat_word("RETURN") {
        return Ok(None);
    }
    lexer.space()?;
    let returns = return_options(lexer)?;
    lexer.space()?;
    Ok(Some(returns))
}

/// `search-return-opts = "(" [search-return-opt *(SP search-return-opt)] ")"`; none of them is ALL (RFC 4731 3.1).
fn return_options(lexer: &mut Lexer<'_>) -> Lexed<SearchReturn> {
    let mut returns = SearchReturn::default();
    lexer.list_or_empty(|lexer| {
        match lexer.word()?.to_ascii_uppercase().as_str() {
            "MIN" => returns.min = true,
            "MAX" => returns.max = true,
            "ALL" => returns.all = true,
            "COUNT" => returns.count = true,
            "SAVE" => returns.save = true,
            _ => return unknown("Unknown return option"),
        }
        Ok(())
    })?;
    returns.all |= returns == SearchReturn::default();
    Ok(returns)
}

/// `sort-key = ["REVERSE" SP] ("ARRIVAL" / "CC" / ...)`
fn sort_key(lexer: &mut Lexer<'_>) -> Lexed<SortKey> {
    let reverse = lexer.eat_word("REVERSE");
    if reverse {
        lexer.space()?;
    }
    let by = match lexer.word()?.to_ascii_uppercase().as_str() {
        "ARRIVAL" => SortBy::Arrival,
        "CC" => SortBy::Cc,
        "DATE" => SortBy::Date,
        "FROM" => SortBy::From,
        "SIZE" => SortBy::Size,
        "SUBJECT" => SortBy::Subject,
        "TO" => SortBy::To,
        _ => return unknown("Unknown sort key"),
    };
    Ok(SortKey { by, reverse })
}

/// `charset = atom / quoted`: what the strings of the keys are in. `None` is UTF-8, as which US-ASCII is read, too:
/// what claims to be the one is often the other.
fn charset(lexer: &mut Lexer<'_>) -> Lexed<Option<Vec<u8>>> {
    let name = lexer.astring()?.into_owned();
    if [b"UTF-8".as_slice(), b"US-ASCII"].iter().any(|known| known.eq_ignore_ascii_case(&name)) {
        return Ok(None);
    }
    match is_known(&name) {
        true => Ok(Some(name)),
        false => Err(Fault::Refused(Code::BadCharset, "The charset is not known here")),
    }
}

/// `search-key *(SP search-key)` up to the end, and whether MODSEQ is among them.
fn program(lexer: &mut Lexer<'_>, charset: Option<Vec<u8>>) -> Lexed<(SearchKey, bool)> {
    let mut keys = Keys { lexer, charset, tells_modseq: false };
    let mut all = vec![keys.key(NESTING_MAX)?];
    while keys.lexer.eat(b' ') {
        all.push(keys.key(NESTING_MAX)?);
    }
    Ok((together(all), keys.tells_modseq))
}

fn together(mut keys: Vec<SearchKey>) -> SearchKey {
    match keys.pop() {
        Some(only) if keys.is_empty() => only,
        last => {
            keys.extend(last);
            SearchKey::And(keys)
        }
    }
}

struct Keys<'l, 'a> {
    lexer: &'l mut Lexer<'a>,
    /// Of the strings; `None` is UTF-8.
    charset: Option<Vec<u8>>,
    tells_modseq: bool,
}

impl Keys<'_, '_> {
    /// `search-key`, in which at most `depth` more may be nested.
    fn key(&mut self, depth: usize) -> Lexed<SearchKey> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Fault::Refused(Code::Limit, "Search keys are nested too deeply"));
        };
        match self.lexer.peek() {
            Some(b'(') => {
                self.lexer.eat(b'(');
                let mut keys = vec![self.key(depth)?];
                while self.lexer.eat(b' ') {
                    keys.push(self.key(depth)?);
                }
                self.lexer.expect(b')', "Expected a closing parenthesis")?;
                Ok(together(keys))
            }
            Some(b'0'..=b'9' | b'*' | b'$') => self.lexer.number_set().map(SearchKey::Numbers),
            _ => self.named_key(depth),
        }
    }

    fn named_key(&mut self, depth: usize) -> Lexed<SearchKey> {
        let name = self.lexer.word()?.to_ascii_uppercase();
        if let Some(key) = self.flag_key(&name) {
            return Ok(key);
        }
        match name.as_str() {
            "ALL" => return Ok(SearchKey::All),
            // RFC 8514 4.3: every mailbox here keeps save dates.
            "SAVEDATESUPPORTED" => return Ok(SearchKey::All),
            _ => self.lexer.space()?,
        }
        Ok(match name.as_str() {
            "NOT" => SearchKey::Not(Box::new(self.key(depth)?)),
            "OR" => {
                let first = self.key(depth)?;
                self.lexer.space()?;
                SearchKey::Or(Box::new(first), Box::new(self.key(depth)?))
            }
            "UID" => SearchKey::Uids(self.lexer.number_set()?),
            "KEYWORD" => SearchKey::Keyword(keyword(self.lexer)?.to_owned()),
            "UNKEYWORD" => not(SearchKey::Keyword(keyword(self.lexer)?.to_owned())),
            "LARGER" => SearchKey::Larger(self.lexer.number64()?),
            "SMALLER" => SearchKey::Smaller(self.lexer.number64()?),
            "YOUNGER" => SearchKey::Younger(self.lexer.number_nonzero()?),
            "OLDER" => SearchKey::Older(self.lexer.number_nonzero()?),
            "MODSEQ" => self.modseq()?,
            "HEADER" => {
                let field = self.lexer.text()?;
                self.lexer.space()?;
                SearchKey::Header(field, self.text()?)
            }
            "BODY" => SearchKey::Body(self.text()?),
            "TEXT" => SearchKey::Text(self.text()?),
            "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => SearchKey::Header(name, self.text()?),
            _ => return self.date_key(&name),
        })
    }

    /// `astring`, in the charset that was named.
    fn text(&mut self) -> Lexed<String> {
        let Some(charset) = &self.charset else {
            return self.lexer.text();
        };
        let text = to_utf8_strict(charset, &self.lexer.astring()?).map(Cow::into_owned);
        text.ok_or(Fault::Syntax("Text does not fit its charset"))
    }

    /// Keys without an argument that ask for flags.
    fn flag_key(&self, name: &str) -> Option<SearchKey> {
        let flags = SearchKey::Flags;
        Some(match name {
            "ANSWERED" => flags(SystemFlags::ANSWERED),
            "DELETED" => flags(SystemFlags::DELETED),
            "DRAFT" => flags(SystemFlags::DRAFT),
            "FLAGGED" => flags(SystemFlags::FLAGGED),
            "SEEN" => flags(SystemFlags::SEEN),
            "UNANSWERED" => not(flags(SystemFlags::ANSWERED)),
            "UNDELETED" => not(flags(SystemFlags::DELETED)),
            "UNDRAFT" => not(flags(SystemFlags::DRAFT)),
            "UNFLAGGED" => not(flags(SystemFlags::FLAGGED)),
            "UNSEEN" => not(flags(SystemFlags::SEEN)),
            // IMAP4rev2 knows no \Recent (RFC 9051 appendix E).
            _ if self.lexer.dialect() == Dialect::Rev2 => return None,
            "RECENT" => SearchKey::Recent,
            "OLD" => not(SearchKey::Recent),
            "NEW" => SearchKey::And(vec![SearchKey::Recent, not(flags(SystemFlags::SEEN))]),
            _ => return None,
        })
    }

    /// `("BEFORE" / "ON" / "SINCE" / "SENTBEFORE" / ... / "SAVEDSINCE") SP date`
    fn date_key(&mut self, name: &str) -> Lexed<SearchKey> {
        let (key, test): (fn(DateTest) -> SearchKey, &str) = if let Some(test) = name.strip_prefix("SENT") {
            (SearchKey::Sent, test)
        } else if let Some(test) = name.strip_prefix("SAVED") {
            (SearchKey::Saved, test)
        } else {
            (SearchKey::Internal, name)
        };
        let test = match test {
            "BEFORE" => DateTest::Before,
            "ON" => DateTest::On,
            "SINCE" => DateTest::Since,
            _ => return unknown("Unknown search key"),
        };
        // date = date-text / DQUOTE date-text DQUOTE
        let date = date::parse_imap_date(&self.lexer.quoted_or_atom()?);
        date.map(|day| key(test(day))).ok_or(Fault::Syntax("Malformed date"))
    }

    /// `"MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer` (RFC 7162 7). Flags share one
    /// mod-sequence here, so that the entry does not matter.
    fn modseq(&mut self) -> Lexed<SearchKey> {
        if self.lexer.peek() == Some(b'"') {
            let entry = self.lexer.quoted()?;
            if !entry.starts_with(b"/flags/") {
                return unknown("Unknown metadata entry");
            }
            self.lexer.space()?;
            if !["priv", "shared", "all"].iter().any(|kind| self.lexer.eat_word(kind)) {
                return unknown("Unknown metadata type");
            }
            self.lexer.space()?;
        }
        self.tells_modseq = true;
        self.lexer.number64().map(SearchKey::ModSequence)
    }
}

fn not(key: SearchKey) -> SearchKey {
    SearchKey::Not(Box::new(key))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parse, parse_bytes, parse_in};
    use crate::limits::imap::NESTING_MAX;
    use crate::mail::query::SearchKey;
    use crate::proto::imap::command::{Command, Loss, Refused, Search};
    use crate::proto::imap::lexer::{Dialect, Fault};
    use crate::proto::imap::reply::Code;

    /// A key in a short notation.
    fn shown(key: &SearchKey) -> String {
        let all = |keys: &[SearchKey]| keys.iter().map(shown).collect::<Vec<_>>().join(" & ");
        match key {
            SearchKey::And(keys) => format!("({})", all(keys)),
            SearchKey::Or(first, second) => format!("({} | {})", shown(first), shown(second)),
            SearchKey::Not(key) => format!("!{}", shown(key)),
            key => format!("{key:?}").replace("SystemFlags", ""),
        }
    }

    fn searched(text: &str) -> Option<String> {
        match parse(text).ok()? {
            Command::Search(search) => Some(shown(&search.key)),
            command => Some(format!("{command:?}")),
        }
    }

    #[test]
    fn keys() {
        let table: &[(&str, Option<&str>)] = &[
            ("ALL", Some("All")),
            ("1:3", Some("Numbers(Ranges([(Number(1), Number(3))]))")),
            ("$", Some("Numbers(Saved)")),
            ("UID *", Some("Uids(Ranges([(Last, Last)]))")),
            ("seen unseen", Some("(Flags((8)) & !Flags((8)))")),
            ("NEW", Some("(Recent & !Flags((8)))")),
            ("OLD", Some("!Recent")),
            ("OR SEEN NOT (DRAFT ALL)", Some("(Flags((8)) | !(Flags((16)) & All))")),
            ("(SEEN)", Some("Flags((8))")),
            ("FROM \"a b\"", Some("Header(\"FROM\", \"a b\")")),
            ("HEADER X-Foo {3}\r\nbar", Some("Header(\"X-Foo\", \"bar\")")),
            ("HEADER X-Foo \"\"", Some("Header(\"X-Foo\", \"\")")),
            ("BODY x TEXT y", Some("(Body(\"x\") & Text(\"y\"))")),
            ("KEYWORD $Junk UNKEYWORD x", Some("(Keyword(\"$Junk\") & !Keyword(\"x\"))")),
            ("LARGER 10 SMALLER 9223372036854775807", Some("(Larger(10) & Smaller(9223372036854775807))")),
            ("YOUNGER 60 OLDER 1", Some("(Younger(60) & Older(1))")),
            ("BEFORE 1-Jan-1970", Some("Internal(Before(Day(0)))")),
            ("SENTON \"2-Jan-1970\"", Some("Sent(On(Day(1)))")),
            ("SAVEDSINCE 1-Jan-1970", Some("Saved(Since(Day(0)))")),
            ("MODSEQ 7", Some("ModSequence(7)")),
            ("MODSEQ \"/flags/\\\\Seen\" all 7", Some("ModSequence(7)")),
            ("CHARSET utf-8 SUBJECT \"ä\"", Some("Header(\"SUBJECT\", \"ä\")")),
            ("CHARSET US-ASCII ALL", Some("All")),
            ("", None),
            ("ALL ", None),
            ("FOO", None),
            ("NOT", None),
            ("OR SEEN", None),
            ("()", None),
            ("(SEEN", None),
            ("YOUNGER 0", None),
            ("ON 32-Foo-1970", None),
            ("KEYWORD \\Seen", None),
            ("MODSEQ \"/foo\" all 7", None),
            ("MODSEQ \"/flags/x\" none 7", None),
            ("SUBJECT {1}\r\n\u{0}", None),
            ("RETURN (FOO) ALL", None),
            ("RETURN ALL", None),
            ("CHARSET UTF-8", None),
        ];
        for (keys, expected) in table {
            assert_eq!(searched(&format!("a SEARCH {keys}")).as_deref(), *expected, "{keys}");
        }
    }

    #[test]
    fn rev2_has_no_recent() {
        for key in ["RECENT", "NEW", "OLD"] {
            let text = format!("a SEARCH {key}");
            assert!(parse(&text).is_ok() && parse_in(&text, Dialect::Rev2).is_err(), "{key}");
        }
    }

    #[test]
    fn what_is_returned() {
        for (text, expected) in [
            ("a SEARCH ALL", None),
            ("a SEARCH RETURN () ALL", Some([false, false, true, false, false])),
            ("a SEARCH RETURN (SAVE) ALL", Some([false, false, false, false, true])),
            ("a SEARCH RETURN (MIN max Count) ALL", Some([true, true, false, true, false])),
        ] {
            let Ok(Command::Search(Search { returns, .. })) = parse(text) else { panic!("{text}") };
            let returns = returns.map(|asked| [asked.min, asked.max, asked.all, asked.count, asked.save]);
            assert_eq!(returns, expected, "{text}");
        }
        let Ok(Command::Search(search)) = parse("a SEARCH OR SEEN MODSEQ 4") else { panic!() };
        assert!(search.tells_modseq);
    }

    #[test]
    fn charsets() {
        let table: &[(&[u8], Option<&str>)] = &[
            (b"CHARSET KOI8-R SUBJECT {2}\r\n\xc4\xc1", Some("Header(\"SUBJECT\", \"\u{434}\u{430}\")")),
            (
                b"CHARSET iso-8859-1 OR TO {1}\r\n\xe4 BODY a",
                Some("(Header(\"TO\", \"\u{e4}\") | Body(\"a\"))"),
            ),
            (b"CHARSET ISO-2022-JP TEXT {8}\r\n\x1b$B$3\x1b(B", Some("Text(\"\u{3053}\")")),
            (b"CHARSET Shift_JIS HEADER X {1}\r\n\x81", None),
            (b"CHARSET KOI8-R ALL", Some("All")),
        ];
        for (keys, expected) in table {
            let command = [b"a SEARCH ", *keys].concat();
            let parsed = parse_bytes(&command, Dialect::Rev1);
            let found = parsed.ok().map(|command| match command {
                Command::Search(search) => shown(&search.key),
                command => format!("{command:?}"),
            });
            assert_eq!(found.as_deref(), *expected, "{}", command.escape_ascii());
        }
        let parsed = parse("a SEARCH CHARSET KLINGON ALL");
        assert!(matches!(parsed, Err(Fault::Refused(Code::BadCharset, _))));
        assert!(matches!(parse("a SORT (DATE) x ALL"), Err(Fault::Refused(Code::BadCharset, _))));
        assert!(matches!(parse("a THREAD REFERENCES \"\" ALL"), Err(Fault::Refused(Code::BadCharset, _))));
    }

    #[test]
    fn a_refused_search_that_saves_loses_what_was_saved() {
        for (text, is_lost) in [
            ("a SEARCH RETURN (SAVE) CHARSET KLINGON ALL", true),
            ("a UID SORT RETURN (COUNT SAVE) (DATE) KLINGON SUBJECT {3}\r\nabc", true),
            ("a SEARCH RETURN (COUNT) CHARSET KLINGON ALL", false),
            ("a SEARCH RETURN (SAVE) FOO", false),
            ("a SORT RETURN (SAVE) (DATE) UTF-8", false),
        ] {
            let lost = matches!(parse(text), Ok(Command::Refused(Refused { loses: Loss::Saved, .. })));
            assert!(lost == is_lost && (lost || parse(text).is_err()), "{text}");
        }
    }

    #[test]
    fn sort_and_thread() {
        let sort = searched("a SORT (REVERSE date SUBJECT) UTF-8 ALL").unwrap_or_default();
        assert!(
            sort.contains("by: Date, reverse: true") && sort.contains("by: Subject, reverse: false"),
            "{sort}"
        );
        assert!(sort.contains("returns: None"), "{sort}");
        let sort = searched("a UID SORT RETURN (MIN COUNT) (DATE) UTF-8 ALL").unwrap_or_default();
        assert!(sort.contains("min: true, max: false, all: false, count: true"), "{sort}");
        assert!(searched("a UID THREAD orderedsubject us-ascii SEEN").is_some());
        for bad in [
            "a SORT () UTF-8 ALL",
            "a SORT (FOO) UTF-8 ALL",
            "a SORT (REVERSE) UTF-8 ALL",
            "a SORT (DATE) UTF-8",
            "a SORT RETURN (FIRST) (DATE) UTF-8 ALL",
            "a SORT RETURN () UTF-8 ALL",
            "a SORT (DATE) RETURN () UTF-8 ALL",
            "a THREAD X UTF-8 ALL",
        ] {
            assert_eq!(searched(bad), None, "{bad}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize, open: &str, close: &str| {
            parse(&format!("a SEARCH {}ALL{}", open.repeat(depth), close.repeat(depth)))
        };
        for (open, close) in [("(", ")"), ("NOT ", ""), ("OR SEEN ", ""), ("OR ", " SEEN")] {
            assert!(nested(NESTING_MAX - 1, open, close).is_ok(), "{open}");
            for depth in [NESTING_MAX, 10_000] {
                assert!(matches!(nested(depth, open, close), Err(Fault::Refused(Code::Limit, _))), "{open}");
            }
        }
    }
}
