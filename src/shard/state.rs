//! State that has to be whole: of a mailbox, of what is owed, of a log.
//!
//! A panic ends the task it happened in and nothing else. One that happens while such state is being changed may
//! leave it half changed, and what would then be shown or written is worse than an end: the process aborts, and the
//! next start reads the log back.

use std::cell::{Ref, RefCell, RefMut};
use std::ops::{Deref, DerefMut};
use std::process::abort;
use std::thread::panicking;

use crate::io::stderr;

/// A `RefCell` whose value no panic leaves half changed.
#[derive(Default)]
pub struct State<T>(RefCell<T>);

/// The value, for changing it.
pub struct Changing<'a, T>(RefMut<'a, T>);

impl<T> State<T> {
    pub fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// To look. Not across an await.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.0.borrow()
    }

    /// To change. Not across an await.
    pub fn borrow_mut(&self) -> Changing<'_, T> {
        Changing(self.0.borrow_mut())
    }
}

impl<T> Deref for Changing<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Changing<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Changing<'_, T> {
    fn drop(&mut self) {
        if panicking() {
            tracing::error!(
                "a panic while mail was being changed in memory: the server ends, a start repairs it"
            );
            stderr::flush();
            abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::panic::catch_unwind;
    use std::process::{Command, Stdio};

    use super::State;

    /// Set in the process that is to die.
    const DOOMED: &str = "RINGPOST_TEST_PANICS";

    #[test]
    fn a_panic_while_looking_is_survived_and_one_while_changing_is_not() {
        if std::env::var_os(DOOMED).is_none() {
            let program = std::env::current_exe().expect("a test is a program");
            let name = "shard::state::tests::a_panic_while_looking_is_survived_and_one_while_changing_is_not";
            let mut command = Command::new(program);
            command.args(["--exact", name]).env(DOOMED, "1").stdout(Stdio::null()).stderr(Stdio::null());
            let status = command.status().expect("the program runs");
            assert_eq!(status.signal(), Some(libc::SIGABRT));
            return;
        }
        let looked = catch_unwind(|| {
            let state = State::new(1);
            let _one = state.borrow();
            panic!("while looking");
        });
        assert!(looked.is_err());
        let _changed = catch_unwind(|| {
            let state = State::new(1);
            let mut changing = state.borrow_mut();
            *changing = 2;
            panic!("while changing");
        });
    }
}
