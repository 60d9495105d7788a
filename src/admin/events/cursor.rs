//! How far a reader has come, by a name of its own.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::tail::Position;
use crate::admin::failure::Failure;

const FOLDER: &str = "cursors";

const NAME_BYTES_MAX: usize = 64;

/// A file with the name of a file of events and an offset in it.
pub struct Cursor {
    path: PathBuf,
    position: Option<Position>,
}

impl Cursor {
    pub fn open(dir: &Path, name: &str) -> Result<Self, Failure> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.');
        if !is_name || !name.bytes().all(is_plain) {
            return Err(Failure::wrong(format!(
                "a cursor's name is up to {NAME_BYTES_MAX} letters, digits, - _ and ., not {name:?}"
            )));
        }
        let path = dir.join(FOLDER).join(name);
        let position = match fs::read_to_string(&path) {
            Ok(text) => Some(parse(&text).ok_or_else(|| {
                Failure::unavailable(format!("{} is no cursor; remove it to begin anew", path.display()))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::unavailable(format!("{}: {error}", path.display()))),
        };
        Ok(Self { path, position })
    }

    /// Where the last reader of this name ended.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// After a crash it is there or here.
    pub fn move_to(&mut self, position: Position) -> Result<(), Failure> {
        if self.position.as_ref() == Some(&position) {
            return Ok(());
        }
        let written = self.write(&position);
        self.position = Some(position);
        written.map_err(|error| Failure::unavailable(format!("{}: {error}", self.path.display())))
    }

    fn write(&self, position: &Position) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // No name of a cursor begins with a dot.
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let fresh = self.path.with_file_name(format!(".{name}.new"));
        let mut file = fs::File::create(&fresh)?;
        writeln!(file, "{} {}", position.file, position.offset)?;
        file.sync_data()?;
        fs::rename(&fresh, &self.path)
    }
}

fn parse(text: &str) -> Option<Position> {
    let (file, offset) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Position { file: file.to_owned(), offset: offset.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::{Cursor, Position};

    #[test]
    fn positions_are_kept_by_name() {
        let folder = TempDir::new().expect("a folder");
        let dir = folder.path();
        let mut cursor = Cursor::open(dir, "billing.v2").expect("a cursor");
        assert_eq!(cursor.position(), None);
        for offset in [7, 4000] {
            cursor.move_to(Position { file: "f".to_owned(), offset }).expect("moved");
        }
        let again = Cursor::open(dir, "billing.v2").expect("a cursor");
        assert_eq!(again.position(), Some(&Position { file: "f".to_owned(), offset: 4000 }));
        assert_eq!(Cursor::open(dir, "other").expect("a cursor").position(), None);
        assert_eq!(fs::read_dir(dir.join("cursors")).expect("a folder").count(), 1);
    }

    #[test]
    fn names_stay_in_their_folder_and_damage_is_said() {
        let folder = TempDir::new().expect("a folder");
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "a b", &"x".repeat(65)] {
            assert!(Cursor::open(folder.path(), name).is_err(), "{name}");
        }
        fs::create_dir(folder.path().join("cursors")).expect("a folder");
        fs::write(folder.path().join("cursors/broken"), "f 12").expect("a file");
        assert!(Cursor::open(folder.path(), "broken").is_err());
    }
}
