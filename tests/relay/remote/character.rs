//! How a remote server is: what it offers, and what it does instead of what it should.

use std::sync::Arc;

use rustls::ServerConfig;

/// Where in the dialogue a remote is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// A client has connected.
    Connect,
    Ehlo,
    Starttls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Bdat,
    /// The message is there, whole.
    End,
    Rset,
    Quit,
    Other,
}

/// A step of the dialogue, before the remote has answered.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub verb: Verb,
    /// Number of the connection at this remote.
    pub connection: usize,
    /// Number of the transaction on this connection.
    pub transaction: usize,
}

/// What is done instead of the decent thing.
#[derive(Clone, Debug)]
pub enum Act {
    /// Says this; at [`Verb::Mail`] and [`Verb::Rcpt`], 2yz counts as taken, and at [`Verb::End`], too.
    Say(String),
    /// Says bytes that may be no reply, and goes on as if that was all there is to say.
    Bytes(Vec<u8>),
    /// Says this and closes.
    SayAndClose(String),
    Close,
    /// Nothing, until the client goes away.
    Silence,
    /// Says this again and again until the client goes away, at most so many bytes.
    Repeat(Vec<u8>, usize),
    /// Takes a byte of the message now and then. At [`Verb::Data`].
    Crawl,
    /// Stops reading in the middle of the message, says this, and closes. At [`Verb::Data`].
    Interrupt(String),
    /// Says this, hears what comes, says those bytes and closes.
    Garble(String, Vec<u8>),
    /// Says this after so many milliseconds.
    Late(u64, String),
}

type Script = dyn Fn(&Step) -> Option<Act> + Send + Sync;

/// What a remote offers, and its script.
#[derive(Clone)]
pub struct Character {
    /// Lines of the reply to EHLO, without STARTTLS, which is there if `tls` is.
    pub extensions: Vec<String>,
    pub tls: Option<Arc<ServerConfig>>,
    pub is_lmtp: bool,
    /// Name and password without which no mail is taken.
    pub login: Option<(String, String)>,
    script: Arc<Script>,
}

impl Character {
    /// Offers what most do.
    pub fn decent() -> Self {
        Self::offering(&[
            "PIPELINING",
            "SIZE 104857600",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "DSN",
            "SMTPUTF8",
        ])
    }

    pub fn offering(extensions: &[&str]) -> Self {
        let extensions = extensions.iter().map(|line| (*line).to_owned()).collect();
        Self { extensions, tls: None, is_lmtp: false, login: None, script: Arc::new(|_| None) }
    }

    pub fn with(mut self, extension: &str) -> Self {
        self.extensions.push(extension.to_owned());
        self
    }

    pub fn without(mut self, extension: &str) -> Self {
        self.extensions.retain(|line| line != extension);
        self
    }

    pub fn lmtp(self) -> Self {
        Self { is_lmtp: true, ..self }
    }

    pub fn tls(self, config: Arc<ServerConfig>) -> Self {
        Self { tls: Some(config), ..self }
    }

    pub fn login(self, name: &str, password: &str) -> Self {
        Self { login: Some((name.to_owned(), password.to_owned())), ..self }
    }

    pub fn script(self, script: impl Fn(&Step) -> Option<Act> + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), ..self }
    }

    /// Does this at each step of this kind.
    pub fn at(self, verb: Verb, act: Act) -> Self {
        self.script(move |step| (step.verb == verb).then(|| act.clone()))
    }

    pub fn act(&self, step: &Step) -> Option<Act> {
        (self.script)(step)
    }
}
