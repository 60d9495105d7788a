//! Commands about the session: CAPABILITY, LOGIN, ENABLE, ID and their like.

use super::Request;
use crate::proto::imap::command::Numbering;
use crate::proto::imap::lexer::{Fault, Lexed, Lexer};
use crate::proto::sasl::Secret;

/// RFC 2971 3.3.
const ID_PAIRS_MAX: usize = 30;
const ID_FIELD_BYTES_MAX: usize = 30;
const ID_VALUE_BYTES_MAX: usize = 1024;

pub fn capability(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    Ok(Request::Capability)
}

pub fn noop(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    Ok(Request::Noop)
}

pub fn logout(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    Ok(Request::Logout)
}

pub fn starttls(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    Ok(Request::StartTls)
}

pub fn idle(_: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    Ok(Request::Idle)
}

/// `login = "LOGIN" SP userid SP password`, both astrings
pub fn login(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    lexer.space()?;
    let login = lexer.text()?;
    lexer.space()?;
    let password = Secret::from(lexer.astring()?.into_owned());
    Ok(Request::Login { login, password })
}

/// `authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp]`, `initial-resp = base64 / "="` (RFC 4959 7)
pub fn authenticate(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    lexer.space()?;
    let mechanism = lexer.atom()?.to_owned();
    let initial = match lexer.eat(b' ') {
        true => Some(lexer.atom()?.to_owned()),
        false => None,
    };
    Ok(Request::Authenticate { mechanism, initial })
}

/// `enable = "ENABLE" 1*(SP capability)`. Names that are unknown do nothing (RFC 5161 3.1).
pub fn enable(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    let (mut rev2, mut condstore) = (false, false);
    lexer.space()?;
    loop {
        let name = lexer.atom()?;
        rev2 |= name.eq_ignore_ascii_case("IMAP4rev2");
        condstore |= name.eq_ignore_ascii_case("CONDSTORE");
        if !lexer.eat(b' ') {
            return Ok(Request::Enable { rev2, condstore });
        }
    }
}

/// `id = "ID" SP id-params-list`, `id-params-list = "(" [string SP nstring *(SP string SP nstring)] ")" / nil`
pub fn id(lexer: &mut Lexer<'_>, _: Numbering) -> Lexed<Request> {
    lexer.space()?;
    if lexer.eat_word("NIL") {
        return Ok(Request::Id);
    }
    let mut fields: Vec<Vec<u8>> = Vec::new();
    lexer.list_or_empty(|lexer| {
        let field = lexer.string()?.to_ascii_lowercase();
        lexer.space()?;
        let value = lexer.nstring()?;
        let value_bytes = value.map_or(0, |value| value.len());
        if fields.len() == ID_PAIRS_MAX
            || field.len() > ID_FIELD_BYTES_MAX
            || value_bytes > ID_VALUE_BYTES_MAX
        {
            return Err(Fault::Syntax("ID is over its bounds"));
        }
        if fields.contains(&field) {
            return Err(Fault::Syntax("A field is there twice"));
        }
        fields.push(field);
        Ok(())
    })?;
    Ok(Request::Id)
}

#[cfg(test)]
mod tests {
    use super::super::{Request, head};
    use crate::proto::imap::lexer::Dialect;

    fn shown(text: &str) -> Option<String> {
        match head(text.as_bytes(), Dialect::Rev1).and_then(|head| head.request()).ok()? {
            Request::Login { login, password } => {
                Some(format!("{login} {}", password.bytes().escape_ascii()))
            }
            Request::Authenticate { mechanism, initial } => Some(format!("{mechanism} {initial:?}")),
            Request::Enable { rev2, condstore } => Some(format!("{rev2} {condstore}")),
            request => Some(format!("{request:?}")),
        }
    }

    #[test]
    fn arguments() {
        let table: &[(&str, Option<&str>)] = &[
            ("a CAPABILITY", Some("Capability")),
            ("a CAPABILITY x", None),
            ("a LOGIN fred flint", Some("fred flint")),
            ("a LOGIN {4}\r\nfred {7}\r\nfl in t", Some("fred fl in t")),
            ("a LOGIN \"fred\" \"\"", Some("fred ")),
            ("a LOGIN fred", None),
            ("a LOGIN fred flint x", None),
            ("a AUTHENTICATE PLAIN", Some("PLAIN None")),
            ("a AUTHENTICATE PLAIN =", Some("PLAIN Some(\"=\")")),
            ("a AUTHENTICATE PLAIN AGEAYg==", Some("PLAIN Some(\"AGEAYg==\")")),
            ("a AUTHENTICATE PLAIN ", None),
            ("a AUTHENTICATE", None),
            ("a ENABLE condstore", Some("false true")),
            ("a ENABLE X-FOO IMAP4REV2 CONDSTORE", Some("true true")),
            ("a ENABLE", None),
            ("a ENABLE ", None),
            ("a ID NIL", Some("Id")),
            ("a ID ()", Some("Id")),
            ("a ID (\"name\" \"x\" \"version\" NIL)", Some("Id")),
            ("a ID (\"name\" \"x\" \"NAME\" NIL)", None),
            ("a ID (\"name\")", None),
            ("a ID", None),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text).as_deref(), *expected, "{text}");
        }
    }
}
