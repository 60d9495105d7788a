//! What loopback costs: a round trip, a stream, a connection; and a mail server that does nothing else.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Bound, null, process_cpu, record};
use crate::record::Spectrum;

const RUN: Duration = Duration::from_secs(1);
const STREAM_BYTES: usize = 256 << 10;

pub fn measure() -> io::Result<Vec<Bound>> {
    let mut bounds = Vec::new();
    for size in [64, 4096] {
        bounds.extend(round_trips(size)?);
    }
    bounds.push(stream()?);
    bounds.push(connections()?);
    bounds.extend(null::measure()?);
    Ok(bounds)
}

pub fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// One side sends, the other sends it back.
fn round_trips(size: usize) -> io::Result<[Bound; 2]> {
    let (listener, address) = listen()?;
    let echo = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut bytes = vec![0; size];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut bytes = vec![b'x'; size];
    let mut latency = Spectrum::default();
    let (began, cpu_before) = (Instant::now(), process_cpu());
    while began.elapsed() < RUN {
        let trip_began = Instant::now();
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
        record(&mut latency, trip_began);
    }
    let (took, cpu) = (began.elapsed(), process_cpu() - cpu_before);
    drop(stream);
    echo.join().map_err(|_| io::Error::other("the echo panicked"))??;
    let trips = latency.count() as f64;
    let trip = Bound::new(format!("round trip of {size} bytes"), trips / took.as_secs_f64(), "/s");
    let way = Bound::new(
        format!("{size} bytes, one way, sent and received"),
        cpu.as_secs_f64() * 1e6 / trips / 2.0,
        "us CPU",
    );
    Ok([trip.with_latency(latency), way])
}

fn stream() -> io::Result<Bound> {
    let (listener, address) = listen()?;
    let sender = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let bytes = vec![b'x'; STREAM_BYTES];
        // Until the reader has had enough.
        while stream.write_all(&bytes).is_ok() {}
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    let mut bytes = vec![0; STREAM_BYTES];
    let began = Instant::now();
    let mut received = 0;
    while began.elapsed() < RUN {
        received += stream.read(&mut bytes)?;
    }
    let rate = received as f64 / began.elapsed().as_secs_f64() / 1e9;
    drop(stream);
    sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
    Ok(Bound::new("one stream", rate, "GB/s"))
}

/// Connected, greeted, closed: the least that a connection can be.
fn connections() -> io::Result<Bound> {
    let (listener, address) = listen()?;
    let greeter = thread::spawn(move || -> io::Result<Duration> {
        let before = super::thread_cpu();
        loop {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(b"220 ready\r\n")?;
            let mut word = [0; 16];
            // The last one says so before it closes.
            if stream.read(&mut word)? > 0 {
                return Ok(super::thread_cpu() - before);
            }
        }
    });
    let began = Instant::now();
    let mut count = 0_u64;
    let mut greeting = [0; 64];
    while began.elapsed() < RUN {
        let mut stream = TcpStream::connect(address)?;
        if stream.read(&mut greeting)? == 0 {
            return Err(io::Error::other("closed without a greeting"));
        }
        count += 1;
    }
    let took = began.elapsed();
    TcpStream::connect(address)?.write_all(b"QUIT\r\n")?;
    let cpu = greeter.join().map_err(|_| io::Error::other("the greeter panicked"))??;
    let each = cpu.as_secs_f64() * 1e6 / count as f64;
    let what = format!("connections, greeted and closed ({each:.1} us CPU each)");
    Ok(Bound::new(what, count as f64 / took.as_secs_f64(), "/s"))
}
