//! The SMTP load of the comparison: the dialogue of smtp-source, one command at a time, which every server knows.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::plan::{Arrivals, Bodies, Rate, Sizes, Template};
use crate::record::Spectrum;
use crate::smtp::{Envelope, Limit, Load, OnError, Pace, Sent};

pub use crate::smtp::Connections;

#[derive(Clone, Debug)]
pub struct Drive {
    pub to: SocketAddr,
    pub sessions: usize,
    pub bytes: usize,
    pub recipients: Arc<Vec<String>>,
    pub connections: Connections,
    pub until: Until,
}

/// When to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    After(Duration),
    Messages(usize),
}

/// How it went.
#[derive(Debug)]
pub struct Driven {
    pub acknowledged: u64,
    pub seconds: f64,
    /// What the load used of its own threads' time. Near 1 it was the load that limited a closed loop.
    pub load_share: f64,
    /// From the end of data to its reply.
    pub ack: Spectrum,
}

/// Why a repetition says nothing about the server: it can be made again.
#[derive(Debug)]
pub struct Invalid(String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

impl Invalid {
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<Self>())
    }
}

impl Drive {
    /// A closed loop: each session sends its next message when the last was answered. It may take all of the load's
    /// processors: the rate is then at least what was found, and costs are what they are.
    pub fn run(&self) -> io::Result<Driven> {
        Self::all_taken(self.load().run()?)
    }

    /// The same number of sessions on a schedule, the next envelope of each accepted ahead. Gives how long after its
    /// time each message was acknowledged; a load that was late itself is [`Invalid`].
    pub fn run_paced(&self, rate: f64) -> io::Result<Driven> {
        let paced = Load {
            pace: Pace::Open(Rate(rate), Arrivals::Constant),
            envelope: Envelope::Ahead,
            ..self.load()
        };
        let sent = paced.run()?;
        if let Some(reason) = &sent.health.invalid {
            return Err(io::Error::other(Invalid(reason.clone())));
        }
        let corrected = sent.tally.corrected.clone();
        Self::all_taken(sent).map(|driven| Driven { ack: corrected, ..driven })
    }

    fn load(&self) -> Load {
        let limit = match self.until {
            Until::After(length) => Limit::Time(length),
            Until::Messages(messages) => Limit::Messages(messages as u64),
        };
        let bodies = Arc::new(Bodies::new(&Sizes::Same(self.bytes), 1));
        Load {
            connections: self.connections,
            sender: "sender@load.test".to_owned(),
            on_error: OnError::Stop,
            recipients: Template::Listed(Arc::clone(&self.recipients)),
            ..Load::plain(self.to, self.sessions, limit, bodies)
        }
    }

    /// A message that is not taken makes a comparison worthless.
    fn all_taken(sent: Sent) -> io::Result<Driven> {
        match sent.tally.counts.failed + sent.tally.counts.dropped {
            0 => Ok(Driven {
                acknowledged: sent.tally.counts.succeeded,
                seconds: sent.seconds,
                load_share: sent.health.cpu_share,
                ack: sent.tally.ack,
            }),
            failed => Err(io::Error::other(format!("{failed} were not taken: {:?}", sent.tally.errors))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Connections, Drive, Until};
    use crate::sink::{Conduct, Sink};

    #[test]
    fn it_sends_as_many_as_it_is_told_or_for_as_long() {
        let to = SocketAddr::from((Ipv4Addr::new(127, 71, 20, 1), 2736));
        let sink = Sink::start(to, Conduct::default(), None, 1).expect("a free port");
        let recipients = Arc::new(vec!["a@sink.test".to_owned()]);
        let drive = Drive {
            to,
            sessions: 3,
            bytes: 2000,
            recipients,
            connections: Connections::New,
            until: Until::Messages(50),
        };
        assert_eq!(drive.run().expect("all are taken").acknowledged, 50);
        assert_eq!(sink.taken(), 50);
        let until = Until::After(Duration::from_millis(200));
        let driven = Drive { connections: Connections::Kept, until, ..drive }.run().expect("all are taken");
        assert_eq!(sink.taken(), 50 + driven.acknowledged);
        assert!(driven.seconds >= 0.2 && driven.acknowledged > 0);
    }
}
