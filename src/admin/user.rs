//! The user that the server runs as, and commands that open its data in its place.
//!
//! The configuration's `user` is whom a process that is root becomes before it opens anything that the
//! configuration names. A command does that only where it opens the data directory itself: what it writes is then
//! the server's, and can be read by it.
//!
//! Invariant: with a `user` configured, nothing in the data directory is opened, made or changed as another.

use crate::admin::failure::Failure;
use crate::config::Config;
use crate::io::disk::DiskError;
use crate::io::privilege::{self, User};
use crate::io::ring;

/// Becomes the configured user, if there is one. Who is neither root nor that user goes no further.
pub fn become_configured(config: &Config) -> Result<(), Failure> {
    let Some(name) = &config.user else {
        return Ok(());
    };
    let user = find(name)?;
    if privilege::current_uid() == user.uid {
        return Ok(());
    }
    if !privilege::is_root() {
        let current = privilege::name_of(privilege::current_uid());
        return Err(Failure::unavailable(format!(
            "the configuration is for the user {name}, and this runs as {current}; run it as {name} or as root"
        )));
    }
    // Root may raise them further than others.
    ring::raise_limits();
    privilege::become_user(&user)
        .map_err(|error| Failure::unavailable(format!("cannot become the user {name}: {error}")))
}

/// The user of that name, which is not root.
pub fn find(name: &str) -> Result<User, Failure> {
    match User::named(name) {
        Ok(Some(user)) if user.uid != 0 => Ok(user),
        Ok(Some(_)) => Err(Failure::wrong(format!("`user`: {name} is root, which is to be given up"))),
        Ok(None) => Err(Failure::wrong(format!(
            "`user`: there is no user {name:?} on this machine; make one with: \
             useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
        ))),
        Err(error) => Err(Failure::unavailable(format!(
            "`user`: {name:?} cannot be looked up on this machine: {error}"
        ))),
    }
}

/// Why a directory of the user's could not be opened, and what to do where it could not be made.
pub fn no_directory(config: &Config, error: &DiskError) -> Failure {
    let is_denied = error.source.kind() == std::io::ErrorKind::PermissionDenied;
    match &config.user {
        Some(name) if is_denied && error.doing == "create" => Failure::unavailable(format!(
            "{error}; make it as root with: install -d -m 700 -o {name} {}",
            error.path.display()
        )),
        _ => Failure::unavailable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{become_configured, find};
    use crate::admin::failure::Failure;
    use crate::config::Config;

    #[test]
    fn only_a_user_that_is_there_and_not_root() {
        assert!(matches!(find("root"), Err(Failure::Wrong(text)) if text.contains("given up")));
        assert!(matches!(find("nosuchuser"), Err(Failure::Wrong(text)) if text.contains("useradd")));
        let config = Config::parse("user = \"nosuchuser\"", "here").unwrap();
        assert!(matches!(become_configured(&config), Err(Failure::Wrong(_))));
        become_configured(&Config::parse("", "here").unwrap()).unwrap();
    }
}
