//! Who this process runs as, and giving root up for good.
//!
//! A server that is started as root needs it only to bind ports under 1024. [`become_user`] takes groups, group and
//! user of another for the whole process (glibc carries each of these calls to all threads), empties its
//! capabilities, and forbids that a program that it would start gets more than it has itself.
//!
//! Invariant: after [`become_user`] has returned `Ok`, no call of this process brings root back; that was tried.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

/// The first buffer for an entry of the user database; it grows while that is too small.
const ENTRY_BYTES: usize = 1024;
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// A user of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub name: String,
    pub uid: u32,
    /// The group that it is in by itself; there may be more.
    pub gid: u32,
}

impl User {
    /// `None` if there is none of this name.
    pub fn named(name: &str) -> io::Result<Option<Self>> {
        let name = CString::new(name)?;
        // SAFETY: the name ends with a zero; the rest is as `look_up` promises.
        look_up(|entry, buffer, length, found| unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found)
        })
    }

    /// `None` if there is none of this number.
    pub fn numbered(uid: u32) -> io::Result<Option<Self>> {
        // SAFETY: as `look_up` promises.
        look_up(|entry, buffer, length, found| unsafe { libc::getpwuid_r(uid, entry, buffer, length, found) })
    }
}

/// The user that calls of this process are judged by.
pub fn current_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub fn is_root() -> bool {
    current_uid() == 0
}

/// The name of a user, or its number where it has none.
pub fn name_of(uid: u32) -> String {
    let found = User::numbered(uid).ok().flatten();
    found.map_or_else(|| format!("user {uid}"), |user| user.name)
}

/// Makes this process, which is root and has one thread, that user's for good.
pub fn become_user(user: &User) -> io::Result<()> {
    // Capabilities belong to threads: another one would keep its own.
    assert_eq!(std::fs::read_dir("/proc/self/task")?.count(), 1, "root is given up before threads start");
    let name = CString::new(user.name.as_str())?;
    // SAFETY: the name ends with a zero and lives through the call.
    done(unsafe { libc::initgroups(name.as_ptr(), user.gid) })?;
    // SAFETY: numbers go in and a number comes out.
    done(unsafe { libc::setresgid(user.gid, user.gid, user.gid) })?;
    // SAFETY: as above. Real, effective and saved: none is left to go back to.
    done(unsafe { libc::setresuid(user.uid, user.uid, user.uid) })?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    check_it_stays(user)
}

/// Tries to get root back.
fn check_it_stays(user: &User) -> io::Result<()> {
    // SAFETY: numbers go in and a number comes out.
    let is_root_again = unsafe { libc::setresuid(0, 0, 0) == 0 || libc::setuid(0) == 0 };
    // SAFETY: as above.
    let is_group_again = user.gid != 0 && unsafe { libc::setresgid(0, 0, 0) == 0 };
    let kept = capabilities(None)?;
    let has_capabilities = !(kept.permitted | kept.effective | kept.inheritable).is_empty();
    let is_user = rustix::process::getuid().as_raw() == user.uid && current_uid() == user.uid;
    if is_root_again || is_group_again || has_capabilities || !is_user {
        return Err(io::Error::other("this system gives root back to who has given it up"));
    }
    Ok(())
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks the user database through `ask`, which gets an entry to fill, a buffer with its length for the strings of the
/// entry, and where to say whether there is one; all live through the call.
fn look_up(
    ask: impl Fn(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> libc::c_int,
) -> io::Result<Option<User>> {
    let mut buffer: Vec<libc::c_char> = vec![0; ENTRY_BYTES];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        match ask(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) {
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: the entry was found, so that it is filled, and its name lies in the buffer.
                let (entry, name) = unsafe { (&*found, CStr::from_ptr((*found).pw_name)) };
                let name = name.to_string_lossy().into_owned();
                return Ok(Some(User { name, uid: entry.pw_uid, gid: entry.pw_gid }));
            }
            libc::ERANGE if buffer.len() < ENTRY_BYTES_MAX => buffer.resize(buffer.len() * 2, 0),
            // POSIX leaves open which of these says that there is no such user.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{User, name_of};

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = User { name: "root".to_owned(), uid: 0, gid: 0 };
        assert_eq!(User::named("root").unwrap().as_ref(), Some(&root));
        assert_eq!(User::numbered(0).unwrap(), Some(root));
        assert_eq!(User::named("no such user here").unwrap(), None);
        assert!(User::named("with\0zero").is_err());
        assert_eq!(name_of(0), "root");
        assert_eq!(name_of(4_000_000_123), "user 4000000123");
    }
}
