//! One session: what it waits for, and the message it carries.

use std::collections::VecDeque;

use crate::engine::PortId;

/// What a reply will be for, in the order of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Greeting,
    Hello,
    StartTls,
    Auth,
    Mail,
    Recipient,
    Data,
    /// The end of data, or a chunk.
    End,
    /// The end of data of a message that has failed already.
    Void,
    Reset,
    Quit,
}

/// How far the envelope is that the next data belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    None,
    Sent,
    /// Data may be sent.
    Open,
}

#[derive(Debug)]
pub struct Session {
    pub port: Option<PortId>,
    pub expected: VecDeque<Step>,
    pub stage: Stage,
    /// Of this envelope.
    pub accepted: u64,
    /// Of this envelope, in a dialogue that goes step by step.
    pub asked: usize,
    pub first_recipient: u64,
    /// Why this envelope is refused.
    pub refusal: Option<String>,
    pub message: Option<Message>,
    /// It waits for a message.
    pub is_idle: bool,
    pub is_secure: bool,
    /// What EHLO's answer listed, of what matters here.
    pub has_pipelining: bool,
    pub has_chunking: bool,
    pub dialled_at: u64,
    pub heard_at: u64,
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub number: u64,
    pub intended: u64,
    pub started: u64,
    /// When its data had been handed to the kernel.
    pub sent: Option<u64>,
    /// Recipients that it goes to.
    pub copies: Option<u64>,
    pub acknowledged: u64,
    pub bytes: u64,
}

impl Step {
    pub fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Recipient => "RCPT",
            Self::Data => "DATA",
            Self::End | Self::Void => "end of data",
            Self::Reset => "RSET",
            Self::Quit => "QUIT",
        }
    }
}

impl Session {
    pub fn new() -> Self {
        Self {
            port: None,
            expected: VecDeque::new(),
            stage: Stage::None,
            accepted: 0,
            asked: 0,
            first_recipient: 0,
            refusal: None,
            message: None,
            is_idle: false,
            is_secure: false,
            has_pipelining: false,
            has_chunking: false,
            dialled_at: 0,
            heard_at: 0,
        }
    }

    /// As before its first connection, but for the message, and for waiting for one.
    pub fn forget_connection(&mut self) {
        let message = self.message.take();
        *self = Self { message, is_idle: self.is_idle, ..Self::new() };
    }

    pub fn begin_envelope(&mut self, first_recipient: u64) {
        self.stage = Stage::Sent;
        self.accepted = 0;
        self.asked = 0;
        self.refusal = None;
        self.first_recipient = first_recipient;
    }
}
