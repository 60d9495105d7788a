//! Other people's programs: found, run, and ended if they hang.

use std::env;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A client that takes longer than this hangs, even with a debug build on a busy machine.
const RUN_MAX: Duration = Duration::from_secs(180);

/// What a program said before it ended.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    /// Its standard output, if it ended well.
    pub fn ok(self) -> Vec<u8> {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.text(), self.stderr);
        self.stdout
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Whether the tests of a program can run here. A missing one that is required fails.
pub fn available(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return true;
    }
    let required = env::var("RINGPOST_INTEROP").is_ok_and(|value| value == "required");
    assert!(!required, "{program} is required here and not installed");
    eprintln!("skipped: {program} is not installed");
    false
}

/// A command that sees nothing of the configuration of whoever runs the tests.
pub fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(home).env("HOME", home).env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
    command
}

/// Runs to the end, with `input` at standard input.
pub fn run(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let input = input.to_vec();
    // A program that does not read its input to the end closes it.
    let writing = thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_all(child.stdout.take().expect("standard output is a pipe"));
    let stderr = read_all(child.stderr.take().expect("standard error is a pipe"));
    let code = wait(&mut child);
    writing.join().expect("input is written");
    let stdout = stdout.join().expect("standard output is read");
    let stderr = String::from_utf8_lossy(&stderr.join().expect("standard error is read")).into_owned();
    assert!(code.is_some(), "{command:?} hangs:\n{}\n{stderr}", String::from_utf8_lossy(&stdout));
    Ran { code, stdout, stderr }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        pipe.read_to_end(&mut all).expect("the pipe is read");
        all
    })
}

/// The exit code; none if the program had to be killed.
fn wait(child: &mut Child) -> Option<i32> {
    let started = Instant::now();
    while started.elapsed() < RUN_MAX {
        if let Some(status) = child.try_wait().expect("the program was started here") {
            return status.code().or(Some(-1));
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("the program can be killed");
    child.wait().expect("the program has ended");
    None
}
