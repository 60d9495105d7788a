//! A small file system that can be filled.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Far more than the quota; what is not written takes nothing.
const IMAGE_BYTES: u64 = 700 << 20;

/// Taken away at the end.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// In memory. `None` if that is not possible here: it takes root.
    pub fn mount(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).ok()?;
        let arguments = ["-t", "tmpfs", "-o", options, "ringpost-test"];
        let mounted = Command::new("mount").args(arguments).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }

    /// Btrfs in a file, with a quota. `None` if that is not possible here: it takes root, Btrfs and its programs.
    pub fn with_quota(at: &Path, image: &Path, quota: &str) -> Option<Self> {
        let done = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok()?;
            output.status.success().then_some(())
        };
        let (folder, file) = (at.to_str()?, image.to_str()?);
        fs::create_dir_all(at).ok()?;
        fs::File::create(image).and_then(|image| image.set_len(IMAGE_BYTES)).ok()?;
        done("mkfs.btrfs", &["-q", file])?;
        done("mount", &["-o", "loop", file, folder])?;
        let disk = Self(at.to_owned());
        done("chmod", &["700", folder])?;
        done("btrfs", &["quota", "enable", folder])?;
        done("btrfs", &["qgroup", "limit", quota, folder])?;
        Some(disk)
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
