//! The SMTP load of the comparison: the dialogue of smtp-source, one command at a time, which every server knows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::plan::{Arrivals, Bodies, Rate, Sizes, Template};
use crate::record::Spectrum;
use crate::smtp::{Envelope, Limit, Load, Pace, Sent};

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
    /// From the end of data to its reply.
    pub ack: Spectrum,
}

impl Drive {
    /// A closed loop: each session sends its next message when the last was answered.
    pub fn run(&self) -> io::Result<Driven> {
        Self::all_taken(self.load().run()?)
    }

    /// The same number of sessions on a schedule, the next envelope of each accepted ahead. Gives how long after its
    /// time each message was acknowledged.
    pub fn run_paced(&self, rate: f64) -> io::Result<Driven> {
        let paced = Load {
            pace: Pace::Open(Rate(rate), Arrivals::Constant),
            envelope: Envelope::Ahead,
            ..self.load()
        };
        let sent = paced.run()?;
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
