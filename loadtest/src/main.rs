//! The program: arguments, a command, its exit status.

use std::process::ExitCode;

use loadtest::command::Arguments;

fn main() -> ExitCode {
    match Arguments::take().run() {
        Ok(outcome) => ExitCode::from(outcome as u8),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
