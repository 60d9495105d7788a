//! The options of sendmail: letters of old, alone or together, their values behind them or in the next word.
//!
//! Invariants: an option that is not known is an error; one that makes no sense here is taken and forgotten.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use crate::admin::cli::Place;
use crate::mail::envelope::{Notify, Ret};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A message on standard input.
    Message,
    /// SMTP on standard input and output.
    Dialogue,
    Queue,
    /// Something that needs no doing here.
    Nothing,
    Help,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipients {
    OfCommandLine,
    AlsoOfHeader,
}

/// What a line with a dot alone is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dots {
    End,
    Text,
}

#[derive(Clone, Debug)]
pub struct Arguments {
    pub mode: Mode,
    pub recipients: Vec<String>,
    pub from_header: Recipients,
    pub dots: Dots,
    pub sender: Option<String>,
    pub full_name: Option<String>,
    pub notify: Option<Notify>,
    pub ret: Option<Ret>,
    /// In xtext.
    pub envid: Option<String>,
    pub is_verbose: bool,
    pub place: Place,
    runs_queue: bool,
}

/// Where an option's value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    /// The rest of the word, or the next word.
    Required,
    /// The rest of the word, which may be empty.
    Attached,
}

/// Letters and where their values are, as getopt knows them.
const LETTERS: [(char, Value); 28] = [
    ('A', Value::Attached),
    ('B', Value::Required),
    ('b', Value::Attached),
    ('C', Value::Required),
    ('d', Value::Attached),
    ('e', Value::Attached),
    ('F', Value::Required),
    ('f', Value::Required),
    ('G', Value::None),
    ('h', Value::Required),
    ('I', Value::None),
    ('i', Value::None),
    ('L', Value::Required),
    ('m', Value::None),
    ('N', Value::Required),
    ('n', Value::None),
    ('O', Value::Required),
    ('o', Value::Attached),
    ('p', Value::Required),
    ('q', Value::Attached),
    ('R', Value::Required),
    ('r', Value::Required),
    ('s', Value::None),
    ('t', Value::None),
    ('U', Value::None),
    ('V', Value::Required),
    ('v', Value::None),
    ('X', Value::Required),
];

impl Arguments {
    pub fn parse(words: &[OsString]) -> Result<Self, String> {
        let mut arguments = Self {
            mode: Mode::Message,
            recipients: Vec::new(),
            from_header: Recipients::OfCommandLine,
            dots: Dots::End,
            sender: None,
            full_name: None,
            notify: None,
            ret: None,
            envid: None,
            is_verbose: false,
            place: Place::default(),
            runs_queue: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let word = word.to_str().ok_or_else(|| format!("{} is not UTF-8", word.display()))?;
            let mut next = || words.next().map(|word| word.to_string_lossy().into_owned());
            match word {
                "--" => {
                    arguments.recipients.extend(words.map(|word| word.to_string_lossy().into_owned()));
                    break;
                }
                "--help" => arguments.mode = Mode::Help,
                _ if word.starts_with("--") => arguments.take_long(&word[2..], &mut next)?,
                _ if word.len() > 1 && word.starts_with('-') => {
                    arguments.take_letters(&word[1..], &mut next)?
                }
                _ => arguments.recipients.push(word.to_owned()),
            }
        }
        let has_recipients =
            !arguments.recipients.is_empty() || arguments.from_header == Recipients::AlsoOfHeader;
        if arguments.runs_queue && arguments.mode == Mode::Message && !has_recipients {
            arguments.mode = Mode::Nothing;
        }
        Ok(arguments)
    }

    fn take_long(&mut self, option: &str, next: &mut dyn FnMut() -> Option<String>) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        let place = match name {
            "config" => &mut self.place.config,
            "data" => &mut self.place.data,
            _ => return Err(format!("there is no option --{name}; --help lists all")),
        };
        let value = value.or_else(next).ok_or_else(|| format!("--{name} needs a value"))?;
        *place = Some(PathBuf::from(value));
        Ok(())
    }

    fn take_letters(
        &mut self,
        letters: &str,
        next: &mut dyn FnMut() -> Option<String>,
    ) -> Result<(), String> {
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let Some((_, value)) = LETTERS.iter().find(|(known, _)| *known == letter) else {
                return Err(format!("there is no option -{letter}; --help lists all"));
            };
            let attached = rest.as_str();
            let value = match value {
                Value::None => {
                    self.take_flag(letter);
                    continue;
                }
                Value::Attached => attached.to_owned(),
                Value::Required if !attached.is_empty() => attached.to_owned(),
                Value::Required => next().ok_or_else(|| format!("-{letter} needs a value"))?,
            };
            return self.take_value(letter, value, next);
        }
        Ok(())
    }

    fn take_flag(&mut self, letter: char) {
        match letter {
            't' => self.from_header = Recipients::AlsoOfHeader,
            'i' => self.dots = Dots::Text,
            'v' => self.is_verbose = true,
            'I' => self.mode = Mode::Nothing,
            _ => {}
        }
    }

    fn take_value(
        &mut self,
        letter: char,
        value: String,
        next: &mut dyn FnMut() -> Option<String>,
    ) -> Result<(), String> {
        match letter {
            'f' | 'r' => self.sender = Some(value),
            'F' => self.full_name = Some(value),
            'C' => self.place.config = Some(PathBuf::from(value)),
            'N' => self.notify = Some(notify(&value)?),
            'R' => self.ret = Some(ret(&value)?),
            'V' => self.envid = Some(xtext(&value)?),
            'q' => self.runs_queue = true,
            'b' => self.mode = mode(&value)?,
            'o' => {
                let option = if value.is_empty() { next().unwrap_or_default() } else { value };
                if option == "i" {
                    self.dots = Dots::Text;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn mode(letter: &str) -> Result<Mode, String> {
    match letter {
        "m" => Ok(Mode::Message),
        "s" => Ok(Mode::Dialogue),
        "p" => Ok(Mode::Queue),
        "i" => Ok(Mode::Nothing),
        "d" | "D" => Err("the server is started by `ringpost serve`".to_owned()),
        _ => Err(format!("there is no mode -b{letter}; there are -bm, -bs and -bp")),
    }
}

/// RFC 3461 4.1, in any case.
fn notify(list: &str) -> Result<Notify, String> {
    let mut notify = Notify::default();
    if list.eq_ignore_ascii_case("never") {
        return Ok(notify);
    }
    for word in list.split(',') {
        match word.trim().to_ascii_lowercase().as_str() {
            "success" => notify.success = true,
            "failure" => notify.failure = true,
            "delay" => notify.delay = true,
            _ => return Err(format!("-N is never, or some of success,failure,delay; not {list:?}")),
        }
    }
    Ok(notify)
}

fn ret(word: &str) -> Result<Ret, String> {
    match word.to_ascii_lowercase().as_str() {
        "full" => Ok(Ret::Full),
        "hdrs" => Ok(Ret::Headers),
        _ => Err(format!("-R is full or hdrs, not {word:?}")),
    }
}

/// RFC 3461 4 and 4.4: printable characters, at most 100 when encoded.
fn xtext(text: &str) -> Result<String, String> {
    const ENVID_BYTES_MAX: usize = 100;
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'+' | b'=' | b' ' => {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "+{byte:02X}");
            }
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => return Err("-V takes printable ASCII".to_owned()),
        }
    }
    match (1..=ENVID_BYTES_MAX).contains(&encoded.len()) {
        true => Ok(encoded),
        false => Err(format!("-V takes 1 to {ENVID_BYTES_MAX} characters")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::{Arguments, Dots, Mode, Recipients};
    use crate::mail::envelope::{Notify, Ret};

    fn parse(line: &str) -> Result<Arguments, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        Arguments::parse(&words)
    }

    fn fine(line: &str) -> Arguments {
        parse(line).unwrap_or_else(|text| panic!("{line}: {text}"))
    }

    #[test]
    fn what_programs_write() {
        // Cron, PHP, git, mutt, and a script of the last century.
        let cron = fine("-FCronDaemon -i -B8BITMIME -oem root");
        assert_eq!(
            (cron.full_name.as_deref(), cron.dots, cron.recipients.len()),
            (Some("CronDaemon"), Dots::Text, 1)
        );
        let php = fine("-t -i -f web@example.org");
        assert_eq!(
            (php.from_header, php.sender.as_deref()),
            (Recipients::AlsoOfHeader, Some("web@example.org"))
        );
        let mutt = fine("-oem -oi -f a@b -N failure,delay -R hdrs -V x -- -c@d e@f");
        assert_eq!((mutt.dots, mutt.recipients), (Dots::Text, vec!["-c@d".to_owned(), "e@f".to_owned()]));
        assert_eq!(mutt.notify, Some(Notify { success: false, failure: true, delay: true }));
        assert_eq!((mutt.ret, mutt.envid.as_deref()), (Some(Ret::Headers), Some("x")));
        let old = fine("-tiv -odb -O DeliveryMode=b -X /tmp/log -h 20 -d0.1 -Am -G -U -n -m");
        assert_eq!((old.from_header, old.dots, old.is_verbose), (Recipients::AlsoOfHeader, Dots::Text, true));
        assert!(old.recipients.is_empty());
        let last = fine("-tfa@b --data d --config=c");
        assert_eq!(last.sender.as_deref(), Some("a@b"));
        assert_eq!(
            (last.place.data.as_deref(), last.place.config.as_deref()),
            (Some(Path::new("d")), Some(Path::new("c")))
        );
    }

    #[test]
    fn modes() {
        for (line, mode) in [
            ("", Mode::Message),
            ("-bm a@b", Mode::Message),
            ("-bs", Mode::Dialogue),
            ("-bp", Mode::Queue),
            ("-bi", Mode::Nothing),
            ("-q", Mode::Nothing),
            ("-q30m", Mode::Nothing),
            ("-q a@b", Mode::Message),
            ("-t -q", Mode::Message),
            ("--help", Mode::Help),
        ] {
            assert_eq!(fine(line).mode, mode, "{line}");
        }
        for line in ["-bd", "-bx", "-b", "-z", "--nothing", "-f", "-N sometimes", "-R some", "--data"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn identifiers_become_xtext() {
        assert_eq!(fine("-Va+b=c").envid.as_deref(), Some("a+2Bb+3Dc"));
        assert_eq!(super::xtext("a b").as_deref(), Ok("a+20b"));
        for text in ["", "\u{e9}", "a\nb", &"x".repeat(101)] {
            assert!(super::xtext(text).is_err(), "{text:?}");
        }
    }
}
