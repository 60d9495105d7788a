//! Where the control socket is, made and found whatever the length of the path.
//!
//! A socket's address holds 107 bytes of path, and data directories may have longer ones; through
//! `/proc/self/fd` every path is short. The socket is made under another name and renamed when only its owner
//! can use it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const NAME: &str = "control.sock";
const FRESH_NAME: &str = "control.sock.new";

/// Where the socket of the server on `data` lies.
pub fn path(data: &Path) -> PathBuf {
    data.join(NAME)
}

/// Listens in the place of whatever socket was there. The caller holds the lock of the data directory.
pub fn listen(data: &Path) -> io::Result<UnixListener> {
    let folder = File::open(data)?;
    let fresh = data.join(FRESH_NAME);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(short(&folder, FRESH_NAME))?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path(data))?;
    Ok(listener)
}

/// Connects to the server on `data`; `None` if none runs.
pub fn connect(data: &Path) -> io::Result<Option<UnixStream>> {
    let connected = File::open(data).and_then(|folder| UnixStream::connect(short(&folder, NAME)));
    match connected {
        Ok(stream) => Ok(Some(stream)),
        // A server that was killed leaves its socket behind.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn short(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::{connect, listen, path};

    #[test]
    fn found_in_a_deep_folder_and_private() {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("x".repeat(200));
        assert!(connect(&data).unwrap().is_none());
        fs::create_dir(&data).unwrap();
        assert!(connect(&data).unwrap().is_none());
        let first = listen(&data).unwrap();
        assert!(connect(&data).unwrap().is_some());
        assert_eq!(fs::metadata(path(&data)).unwrap().permissions().mode() & 0o777, 0o600);
        drop(first);
        assert!(connect(&data).unwrap().is_none());
        let _second = listen(&data).unwrap();
        assert!(connect(&data).unwrap().is_some());
    }
}
