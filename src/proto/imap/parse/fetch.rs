//! FETCH: its items, sections and modifiers (RFC 9051 6.4.5, RFC 3501, RFC 3516, RFC 7162, RFC 8514).

use super::{Request, unknown};
use crate::mail::section::{Partial, Section, SectionText};
use crate::proto::imap::command::{Command, Fetch, FetchBinary, FetchItem, FetchSection, Numbering};
use crate::proto::imap::lexer::{Fault, Lexed, Lexer, is_atom_char, utf8};

/// `fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")")
/// [SP "(" fetch-modifier ")"]`, `fetch-modifier = "CHANGEDSINCE" SP mod-sequence-value`
pub fn fetch(lexer: &mut Lexer<'_>, numbering: Numbering) -> Lexed<Request> {
    lexer.space()?;
    let numbers = lexer.number_set()?;
    lexer.space()?;
    let items = match lexer.peek() {
        Some(b'(') => lexer.list(item)?,
        _ => macro_or_item(lexer)?,
    };
    let mut changed_since = None;
    if lexer.eat(b' ') {
        lexer.list(|lexer| {
            if !lexer.eat_word("CHANGEDSINCE") || changed_since.is_some() {
                return unknown("Unknown or repeated modifier");
            }
            lexer.space()?;
            // RFC 7162 7: mod-sequence-value is not zero.
            match lexer.number64()? {
                0 => unknown("Zero is not a mod-sequence"),
                modseq => {
                    changed_since = Some(modseq);
                    Ok(())
                }
            }
        })?;
    }
    Ok(Request::Command(Command::Fetch(Fetch { numbering, numbers, items, changed_since })))
}

/// Macros stand alone.
fn macro_or_item(lexer: &mut Lexer<'_>) -> Lexed<Vec<FetchItem>> {
    const FULL: [FetchItem; 5] =
        [FetchItem::Flags, FetchItem::InternalDate, FetchItem::Size, FetchItem::Envelope, FetchItem::Body];
    for (name, count) in [("FAST", 3), ("ALL", 4), ("FULL", 5)] {
        if lexer.eat_word(name) {
            return Ok(FULL[..count].to_vec());
        }
    }
    item(lexer).map(|item| vec![item])
}

/// `fetch-att = "ENVELOPE" / "FLAGS" / "INTERNALDATE" / "RFC822.SIZE" / "BODYSTRUCTURE" / "UID" / "BODY"
/// [".PEEK"] section [partial] / "BINARY" [".PEEK"] section-binary [partial] / "BINARY.SIZE" section-binary / ...`
fn item(lexer: &mut Lexer<'_>) -> Lexed<FetchItem> {
    let name = lexer.word()?.to_ascii_uppercase();
    let has_section = lexer.eat(b'[');
    if has_section {
        return section_item(lexer, &name);
    }
    Ok(match name.as_str() {
        "FLAGS" => FetchItem::Flags,
        "UID" => FetchItem::Uid,
        "INTERNALDATE" => FetchItem::InternalDate,
        "RFC822.SIZE" => FetchItem::Size,
        "ENVELOPE" => FetchItem::Envelope,
        "BODY" => FetchItem::Body,
        "BODYSTRUCTURE" => FetchItem::BodyStructure,
        "MODSEQ" => FetchItem::ModSeq,
        "SAVEDATE" => FetchItem::SaveDate,
        // RFC 3501 6.4.5: RFC822.HEADER alone does not set \Seen.
        "RFC822" => rfc822(name, SectionText::Whole, true),
        "RFC822.HEADER" => rfc822(name, SectionText::Header, false),
        "RFC822.TEXT" => rfc822(name, SectionText::Text, true),
        _ => return unknown("Unknown FETCH item"),
    })
}

fn rfc822(label: String, text: SectionText, sets_seen: bool) -> FetchItem {
    let section = Section { part: Vec::new(), text };
    FetchItem::Section(FetchSection { section, partial: None, sets_seen, label })
}

/// An item whose opening bracket has been passed.
fn section_item(lexer: &mut Lexer<'_>, name: &str) -> Lexed<FetchItem> {
    match name {
        "BODY" => section(lexer, true),
        "BODY.PEEK" => section(lexer, false),
        "BINARY" => binary(lexer, "BINARY[", true).map(FetchItem::Binary),
        "BINARY.PEEK" => binary(lexer, "BINARY[", false).map(FetchItem::Binary),
        "BINARY.SIZE" => binary_size(lexer).map(FetchItem::BinarySize),
        _ => unknown("Unknown FETCH item"),
    }
}

/// `section = "[" [section-spec] "]"`, `section-spec = section-msgtext / (section-part ["." section-text])`,
/// `section-part = nz-number *("." nz-number)`
fn section(lexer: &mut Lexer<'_>, sets_seen: bool) -> Lexed<FetchItem> {
    let mut label = String::from("BODY[");
    let (part, ends_in_dot) = part(lexer, &mut label)?;
    let mut text = SectionText::Whole;
    if ends_in_dot || (part.is_empty() && lexer.peek() != Some(b']')) {
        text = section_text(lexer, &mut label)?;
    }
    if text == SectionText::Mime && part.is_empty() {
        return unknown("MIME needs a part");
    }
    let partial = close_section(lexer, &mut label)?;
    Ok(FetchItem::Section(FetchSection { section: Section { part, text }, partial, sets_seen, label }))
}

/// Part numbers, and whether a dot stands behind them.
fn part(lexer: &mut Lexer<'_>, label: &mut String) -> Lexed<(Vec<u32>, bool)> {
    let mut part = Vec::new();
    while lexer.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        let number = lexer.number_nonzero()?;
        part.push(number);
        label.push_str(&number.to_string());
        if !lexer.eat(b'.') {
            return Ok((part, false));
        }
        label.push('.');
    }
    let ends_in_dot = !part.is_empty();
    Ok((part, ends_in_dot))
}

/// `section-text = "HEADER" / "HEADER.FIELDS" [".NOT"] SP header-list / "TEXT" / "MIME"`
fn section_text(lexer: &mut Lexer<'_>, label: &mut String) -> Lexed<SectionText> {
    let name = lexer.word()?.to_ascii_uppercase();
    label.push_str(&name);
    match name.as_str() {
        "HEADER" => Ok(SectionText::Header),
        "HEADER.FIELDS" => header_list(lexer, label).map(SectionText::HeaderFields),
        "HEADER.FIELDS.NOT" => header_list(lexer, label).map(SectionText::HeaderFieldsNot),
        "TEXT" => Ok(SectionText::Text),
        "MIME" => Ok(SectionText::Mime),
        _ => unknown("Unknown section"),
    }
}

/// `header-list = "(" header-fld-name *(SP header-fld-name) ")"`, names being astrings
fn header_list(lexer: &mut Lexer<'_>, label: &mut String) -> Lexed<Vec<String>> {
    lexer.space()?;
    label.push_str(" (");
    let names = lexer.list(|lexer| {
        let is_quoted = lexer.peek() == Some(b'"');
        let name = utf8(lexer.astring()?)?;
        if name.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            return unknown("Malformed field name");
        }
        push_name(label, &name, is_quoted);
        label.push(' ');
        Ok(name)
    })?;
    label.pop();
    label.push(')');
    Ok(names)
}

/// A field name as the client wrote it; what came as a literal is quoted where it must be.
fn push_name(label: &mut String, name: &str, is_quoted: bool) {
    if !is_quoted && !name.is_empty() && name.bytes().all(is_atom_char) {
        return label.push_str(name);
    }
    label.push('"');
    for character in name.chars() {
        if matches!(character, '"' | '\\') {
            label.push('\\');
        }
        label.push(character);
    }
    label.push('"');
}

/// `"]" ["<" number "." nz-number ">"]`; the answer tells the offset only (RFC 9051 7.5.2).
fn close_section(lexer: &mut Lexer<'_>, label: &mut String) -> Lexed<Option<Partial>> {
    lexer.expect(b']', "Expected a closing bracket")?;
    label.push(']');
    if !lexer.eat(b'<') {
        return Ok(None);
    }
    let offset = lexer.number64()?;
    lexer.expect(b'.', "Expected the length of a partial")?;
    let length = lexer.number64()?;
    lexer.expect(b'>', "Expected the end of a partial")?;
    if length == 0 {
        return Err(Fault::Syntax("A partial is not empty"));
    }
    label.push('<');
    label.push_str(&offset.to_string());
    label.push('>');
    Ok(Some(Partial { offset, length }))
}

/// `section-binary = "[" [section-part] "]"`
fn binary(lexer: &mut Lexer<'_>, opening: &str, sets_seen: bool) -> Lexed<FetchBinary> {
    let mut label = String::from(opening);
    let (part, ends_in_dot) = part(lexer, &mut label)?;
    if ends_in_dot {
        return unknown("Malformed part");
    }
    let partial = close_section(lexer, &mut label)?;
    Ok(FetchBinary { part, partial, sets_seen, label })
}

fn binary_size(lexer: &mut Lexer<'_>) -> Lexed<FetchBinary> {
    let item = binary(lexer, "BINARY.SIZE[", false)?;
    match item.partial {
        Some(_) => unknown("BINARY.SIZE has no partial"),
        None => Ok(item),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use crate::proto::imap::command::{Command, FetchItem};

    fn shown(item: &FetchItem) -> String {
        match item {
            FetchItem::Section(item) => format!(
                "{} {:?} {:?} {:?} {}",
                item.label,
                item.section.part,
                item.section.text,
                item.partial.map(|partial| (partial.offset, partial.length)),
                item.sets_seen
            ),
            FetchItem::Binary(item) | FetchItem::BinarySize(item) => {
                format!("{} {:?} {} {}", item.label, item.part, item.partial.is_some(), item.sets_seen)
            }
            item => format!("{item:?}"),
        }
    }

    fn items(text: &str) -> Option<String> {
        match parse(&format!("a FETCH 1 {text}")) {
            Ok(Command::Fetch(fetch)) => {
                let mut all = fetch.items.iter().map(shown).collect::<Vec<_>>().join("; ");
                if let Some(modseq) = fetch.changed_since {
                    all.push_str(&format!(" since {modseq}"));
                }
                Some(all)
            }
            _ => None,
        }
    }

    #[test]
    fn what_can_be_fetched() {
        let table: &[(&str, Option<&str>)] = &[
            ("FLAGS", Some("Flags")),
            ("fast", Some("Flags; InternalDate; Size")),
            ("ALL", Some("Flags; InternalDate; Size; Envelope")),
            ("FULL", Some("Flags; InternalDate; Size; Envelope; Body")),
            ("(UID BODY BODYSTRUCTURE MODSEQ SAVEDATE)", Some("Uid; Body; BodyStructure; ModSeq; SaveDate")),
            ("FLAGS (CHANGEDSINCE 12)", Some("Flags since 12")),
            ("RFC822", Some("RFC822 [] Whole None true")),
            ("RFC822.HEADER", Some("RFC822.HEADER [] Header None false")),
            ("rfc822.text", Some("RFC822.TEXT [] Text None true")),
            ("BODY[]", Some("BODY[] [] Whole None true")),
            ("body.peek[]<0.1024>", Some("BODY[]<0> [] Whole Some((0, 1024)) false")),
            ("BODY[1.2]", Some("BODY[1.2] [1, 2] Whole None true")),
            ("BODY[1.2.mime]", Some("BODY[1.2.MIME] [1, 2] Mime None true")),
            ("BODY[3.HEADER]", Some("BODY[3.HEADER] [3] Header None true")),
            (
                "BODY.PEEK[HEADER.FIELDS (From \"To\" {2}\r\nCc \"a b\")]",
                Some(
                    "BODY[HEADER.FIELDS (From \"To\" Cc \"a b\")] [] HeaderFields([\"From\", \"To\", \"Cc\", \"a b\"]) None false",
                ),
            ),
            (
                "BODY[2.HEADER.FIELDS.NOT (X)]<5.6>",
                Some("BODY[2.HEADER.FIELDS.NOT (X)]<5> [2] HeaderFieldsNot([\"X\"]) Some((5, 6)) true"),
            ),
            ("BINARY[1]", Some("BINARY[1] [1] false true")),
            ("BINARY.PEEK[1.2]<3.4>", Some("BINARY[1.2]<3> [1, 2] true false")),
            ("BINARY.SIZE[]", Some("BINARY.SIZE[] [] false false")),
        ];
        for (text, expected) in table {
            assert_eq!(items(text).as_deref(), *expected, "{text}");
        }
    }

    #[test]
    fn what_cannot() {
        for bad in [
            "",
            "()",
            "FOO",
            "(ALL)",
            "(FLAGS ALL)",
            "ALL FLAGS",
            "FLAGS ()",
            "FLAGS (CHANGEDSINCE 0)",
            "FLAGS (CHANGEDSINCE 1 CHANGEDSINCE 2)",
            "FLAGS (VANISHED)",
            "BODY[",
            "BODY[0]",
            "BODY[1.]",
            "BODY[.1]",
            "BODY[1..2]",
            "BODY[MIME]",
            "BODY[TEXT.1]",
            "BODY[1.FOO]",
            "BODY[HEADER.FIELDS]",
            "BODY[HEADER.FIELDS ()]",
            "BODY[HEADER.FIELDS (\"\u{e4}\")]",
            "BODY[]<1>",
            "BODY[]<1.0>",
            "BODY[]<1.2",
            "BINARY",
            "BINARY[TEXT]",
            "BINARY[1.]",
            "BINARY.SIZE[1]<0.1>",
            "UID[]",
        ] {
            assert_eq!(items(bad), None, "{bad}");
        }
    }
}
