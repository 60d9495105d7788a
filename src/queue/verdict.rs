//! What an attempt means for a recipient: delivered, tried again, or given up.

use super::policy::RetryPolicy;
use super::retry::Life;

/// How an attempt went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    Taken,
    /// It may go otherwise another time.
    Transient,
    Permanent,
}

/// What follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Delivered,
    /// It is tried again at a time, in Unix seconds.
    Later {
        at: i64,
        sender: Sender,
    },
    Failed,
    /// It was tried for as long as it may be.
    Expired,
}

/// Whether the sender is told, now, that the message is late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// Told, too, that it is tried until then, in Unix seconds.
    Warned {
        until: i64,
    },
    NotBothered,
}

/// What is known of a recipient's message beside this attempt.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    pub life: Life,
    /// Attempts before this one.
    pub attempts: u32,
    /// The sender was told before.
    pub is_warned: bool,
}

impl Past {
    /// `random` spreads what failed together.
    pub fn judge(&self, attempt: Attempt, policy: &RetryPolicy, now: i64, random: u64) -> Verdict {
        match attempt {
            Attempt::Taken => Verdict::Delivered,
            Attempt::Permanent => Verdict::Failed,
            Attempt::Transient if now >= policy.expires(&self.life) => Verdict::Expired,
            Attempt::Transient => {
                let at = policy.next_attempt(&self.life, self.attempts.saturating_add(1), now, random);
                let is_late = policy.warns(&self.life).is_some_and(|warns| now >= warns);
                let sender = match is_late && !self.is_warned {
                    true => Sender::Warned { until: policy.expires(&self.life) },
                    false => Sender::NotBothered,
                };
                Verdict::Later { at, sender }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempt, Past, Sender, Verdict};
    use crate::queue::policy::RetryPolicy;
    use crate::queue::retry::Life;

    const HOUR: i64 = 3600;

    fn judge(attempt: Attempt, now: i64, is_warned: bool) -> Verdict {
        let policy = RetryPolicy { jitter_percent: 0, ..RetryPolicy::default() };
        let life = Life { received: 0, release: None, deliver_by: None };
        Past { life, attempts: 0, is_warned }.judge(attempt, &policy, now, 0)
    }

    #[test]
    fn a_sender_is_warned_once_and_told_the_end() {
        let later = |at, sender| Verdict::Later { at, sender };
        assert_eq!(judge(Attempt::Transient, 0, false), later(300, Sender::NotBothered));
        let warned = Sender::Warned { until: 120 * HOUR };
        assert_eq!(judge(Attempt::Transient, 4 * HOUR, false), later(4 * HOUR + 300, warned));
        assert_eq!(judge(Attempt::Transient, 5 * HOUR, true), later(5 * HOUR + 300, Sender::NotBothered));
        assert_eq!(judge(Attempt::Transient, 120 * HOUR, true), Verdict::Expired);
        assert_eq!(judge(Attempt::Permanent, 0, false), Verdict::Failed);
        assert_eq!(judge(Attempt::Taken, 200 * HOUR, false), Verdict::Delivered);
    }
}
