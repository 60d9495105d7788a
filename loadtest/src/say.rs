//! What commands print. Whoever reads may leave before the end, as `head` does: the rest is said to nobody then, and
//! the command goes on to its end, its files and its exit status. Any other failure to write ends the program, since a
//! result that nobody has is none.

use std::fmt::Arguments;
use std::io::{self, Write};

/// As `println!`, which would panic when its reader has left.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::say::line(format_args!($($text)*))
    };
}

/// With the end of the line.
pub fn line(text: Arguments<'_>) {
    write(format_args!("{text}\n"));
}

/// As it stands, with the ends of its lines.
pub fn text(text: &str) {
    write(format_args!("{text}"));
}

fn write(text: Arguments<'_>) {
    match io::stdout().lock().write_fmt(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}
