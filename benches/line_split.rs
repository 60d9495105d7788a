//! Lines out of input: whole in the buffer, and cut by every read.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringpost::proto::line::{Lines, Taken};

const LINES: usize = 1000;
const LINE_BYTES_MAX: usize = 512;

/// Counts the lines of `input` as it comes in pieces of `piece` bytes.
fn count_lines(input: &[u8], piece: usize) -> usize {
    let mut lines = Lines::new();
    let mut count = 0;
    for mut part in input.chunks(piece) {
        while !part.is_empty() {
            let (taken_bytes, taken) = lines.take(part, LINE_BYTES_MAX);
            count += usize::from(matches!(taken, Taken::Line(_)));
            part = &part[taken_bytes..];
        }
    }
    count
}

fn line_split(criterion: &mut Criterion) {
    let input: Vec<u8> = (0..LINES)
        .flat_map(|number| format!("RCPT TO:<recipient{number}@example.org>\r\n").into_bytes())
        .collect();
    let mut group = criterion.benchmark_group("line_split");
    group.throughput(Throughput::Bytes(input.len() as u64));
    for piece in [16 << 10, 1448, 7] {
        assert_eq!(count_lines(&input, piece), LINES);
        group.bench_function(format!("reads_of_{piece}"), |bencher| {
            bencher.iter_batched(
                || &input,
                |input| count_lines(black_box(input), piece),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, line_split);
criterion_main!(benches);
