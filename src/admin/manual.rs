//! The manual as man pages, printed from the grammar of the command line.

use std::fs;
use std::path::Path;

use crate::admin::cli;
use crate::admin::failure::Failure;

/// One page for each command, into `folder`.
pub fn write(folder: &Path) -> Result<(), Failure> {
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(cli::grammar(), folder));
    written.map_err(|error| Failure::unavailable(format!("{} cannot be written: {error}", folder.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::write;

    #[test]
    fn a_page_for_each_command() {
        let folder = TempDir::new().unwrap();
        write(&folder.path().join("man")).unwrap();
        for (page, words) in [
            ("ringpost.1", "Exit status"),
            ("ringpost-serve.1", "SIGHUP"),
            ("ringpost-account-add.1", "password\\-stdin"),
            ("ringpost-import.1", "Maildir"),
            ("ringpost-queue-bounce.1", "exmaple.org"),
        ] {
            let text = fs::read_to_string(folder.path().join("man").join(page)).unwrap();
            assert!(text.contains(words), "{page}");
        }
        assert!(!folder.path().join("man/ringpost-man.1").exists());
    }
}
