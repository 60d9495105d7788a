//! What is in a mailbox. After a start it is asleep in the index until somebody looks at it, so that no start waits for
//! what nobody wants yet.
//!
//! Invariants: what sleeps was never changed; it wakes whole and as it was written, or is made again from the log.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::journal::History;
use super::mailbox::Messages;
use super::rows::Rows;
use super::snapshot;
use crate::store::checkpoint::Unread;
use crate::store::index::Chunk;

/// Makes contents again from the log, for who finds that the index is not good.
pub type Remake = Arc<dyn Fn(&Asleep) -> Awake + Send + Sync>;

/// Contents that wake when they are looked at.
#[derive(Debug)]
pub(super) struct Contents {
    awake: OnceCell<Awake>,
    /// `None` once they are awake.
    asleep: RefCell<Option<Box<Asleep>>>,
}

#[derive(Clone, Debug, Default)]
pub struct Awake {
    /// Bit `n` of a message's keywords is the `n`-th; an empty name is a bit that nobody has.
    pub(super) keywords: Vec<String>,
    pub(super) messages: Messages,
    pub(super) rows: Rows,
    pub(super) history: History,
    /// From the log: what the index has of them is not good.
    pub(super) is_remade: bool,
}

/// Contents as a checkpoint has them.
#[derive(Clone)]
pub struct Asleep {
    pub state: Unread,
    /// In order of UIDs.
    pub chunks: Vec<Unread>,
    pub remake: Remake,
}

impl Contents {
    pub fn asleep(asleep: Asleep) -> Self {
        Self { awake: OnceCell::new(), asleep: RefCell::new(Some(Box::new(asleep))) }
    }

    /// Those that sleep, if they do.
    pub fn sleeping(&self) -> Option<Asleep> {
        self.asleep.borrow().as_deref().cloned()
    }

    /// Wakes them with what [`Asleep::read`] gave, unless somebody was faster.
    pub fn wake_with(&self, awake: Awake) {
        if self.awake.set(awake).is_ok() {
            self.asleep.take();
        }
    }

    pub fn into_awake(self) -> Awake {
        self.wake();
        self.awake.into_inner().expect("it was woken")
    }

    fn wake(&self) -> &Awake {
        self.awake.get_or_init(|| {
            let asleep = self.asleep.take().expect("what is not awake is asleep");
            asleep.read()
        })
    }
}

impl Default for Contents {
    fn default() -> Self {
        Self::from(Awake::default())
    }
}

impl From<Awake> for Contents {
    fn from(awake: Awake) -> Self {
        Self { awake: OnceCell::from(awake), asleep: RefCell::default() }
    }
}

impl Deref for Contents {
    type Target = Awake;

    fn deref(&self) -> &Awake {
        self.wake()
    }
}

impl DerefMut for Contents {
    fn deref_mut(&mut self) -> &mut Awake {
        self.wake();
        self.awake.get_mut().expect("it was woken")
    }
}

impl Asleep {
    /// From the index, or if that is not good from the log.
    pub fn read(&self) -> Awake {
        self.in_index().unwrap_or_else(|| Awake { is_remade: true, ..(self.remake)(self) })
    }

    /// `None` if they are not as they were written.
    fn in_index(&self) -> Option<Awake> {
        let state = self.state.open()?;
        let open = |chunk: &Unread| Chunk::open(chunk.open()?).ok();
        let chunks = self.chunks.iter().map(open).collect::<Option<Vec<Chunk>>>()?;
        let (summary, awake) = snapshot::contents_of(self.state.name().account, &state, chunks).ok()?;
        (Some(summary) == self.state.summary()).then_some(awake)
    }
}

impl fmt::Debug for Asleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asleep({:?}, {} chunks)", self.state, self.chunks.len())
    }
}
