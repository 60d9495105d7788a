//! An SMTP server that stores nothing: the floor under every other one.
//!
//! It reads lines, knows where data ends, answers from a table and forgets. What it costs a message is what the
//! dialogue itself costs; a server's own share of its cost is the rest.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;

use super::network::listen;
use super::{Bound, thread_cpu};

const RUN: Duration = Duration::from_secs(1);
const MESSAGE_BYTES: usize = 4096;

/// How the client sends: as smtp-source does, or all commands at once.
#[derive(Clone, Copy)]
enum Dialogue {
    Command,
    Pipelined,
}

pub fn measure() -> io::Result<Vec<Bound>> {
    let mut bounds = Vec::new();
    for (dialogue, name) in
        [(Dialogue::Command, "a command at a time"), (Dialogue::Pipelined, "commands pipelined")]
    {
        let (rate, cpu_us) = measure_dialogue(dialogue)?;
        let what = |figure: &str| format!("null SMTP server, 4 KiB, {name}{figure}");
        bounds.push(Bound::new(what(""), rate, "/s"));
        bounds.push(Bound::new(what(", each"), cpu_us, "us CPU"));
    }
    Ok(bounds)
}

/// Messages a second, and processor time of the server for each, in microseconds.
fn measure_dialogue(dialogue: Dialogue) -> io::Result<(f64, f64)> {
    let (listener, address) = listen()?;
    let server = thread::spawn(move || -> io::Result<Duration> {
        let (stream, _) = listener.accept()?;
        let before = thread_cpu();
        serve(stream)?;
        Ok(thread_cpu() - before)
    });
    let began = Instant::now();
    let messages = drive(address, dialogue)?;
    let took = began.elapsed();
    let cpu = server.join().map_err(|_| io::Error::other("the server panicked"))??;
    Ok((messages as f64 / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / messages as f64))
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 null ESMTP\r\n")?;
    let mut input = vec![0; 64 << 10];
    let (mut start, mut end) = (0, 0);
    let mut in_data = false;
    let mut replies = Vec::new();
    loop {
        let unread = &input[start..end];
        let found = match in_data {
            true => memmem::find(unread, b"\r\n.\r\n").map(|at| at + 5),
            false => memchr::memchr(b'\n', unread).map(|at| at + 1),
        };
        if let Some(length) = found {
            let reply: &[u8] = match unread.get(..4) {
                _ if in_data => b"250 taken\r\n",
                Some(b"DATA") => b"354 go on\r\n",
                Some(b"QUIT") => return stream.write_all(b"221 bye\r\n"),
                _ => b"250 ok\r\n",
            };
            in_data = reply.starts_with(b"354");
            replies.extend_from_slice(reply);
            start += length;
            continue;
        }
        stream.write_all(&replies)?;
        replies.clear();
        input.copy_within(start..end, 0);
        (start, end) = (0, end - start);
        match stream.read(&mut input[end..])? {
            0 => return Ok(()),
            count => end += count,
        }
    }
}

fn drive(address: SocketAddr, dialogue: Dialogue) -> io::Result<u64> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut data = vec![b'x'; MESSAGE_BYTES];
    data.extend_from_slice(b"\r\n.\r\n");
    let commands: [&[u8]; 3] = [b"MAIL FROM:<a@load.test>\r\n", b"RCPT TO:<b@load.test>\r\n", b"DATA\r\n"];
    let burst = commands.concat();
    let mut line = String::new();
    let mut expect = |reader: &mut BufReader<TcpStream>, code: &str| -> io::Result<()> {
        line.clear();
        reader.read_line(&mut line)?;
        match line.starts_with(code) {
            true => Ok(()),
            false => Err(io::Error::other(format!("{line:?} where {code} was expected"))),
        }
    };
    expect(&mut reader, "220")?;
    let began = Instant::now();
    let mut messages = 0;
    while began.elapsed() < RUN {
        match dialogue {
            Dialogue::Command => {
                for (command, code) in commands.iter().zip(["250", "250", "354"]) {
                    reader.get_mut().write_all(command)?;
                    expect(&mut reader, code)?;
                }
            }
            Dialogue::Pipelined => {
                reader.get_mut().write_all(&burst)?;
                for code in ["250", "250", "354"] {
                    expect(&mut reader, code)?;
                }
            }
        }
        reader.get_mut().write_all(&data)?;
        expect(&mut reader, "250")?;
        messages += 1;
    }
    reader.get_mut().write_all(b"QUIT\r\n")?;
    expect(&mut reader, "221")?;
    Ok(messages)
}
