//! A small file system that can be filled.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In memory, and taken away at the end.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` if that is not possible here: it takes root.
    pub fn mount(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).ok()?;
        let arguments = ["-t", "tmpfs", "-o", options, "ringpost-test"];
        let mounted = Command::new("mount").args(arguments).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }

    /// Takes all space that is left, in a file of this name.
    pub fn fill(&self, name: &str) -> PathBuf {
        let ballast = self.0.join(name);
        let mut file = fs::File::create(&ballast).expect("a file");
        let block = vec![7; 1 << 16];
        while file.write_all(&block).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server of the test may hold files until it is gone.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
