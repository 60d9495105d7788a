//! Keeps of what libFuzzer found the few inputs that reach most, as lines of the corpus.
//!
//! A merge of libFuzzer leaves a control file: the name of each input, and the features that it has. A feature is
//! an edge of the code and how often it was taken, as one of eight counts; here the edges alone are counted. The
//! seeds by hand and the cases come first and cost nothing; then comes, again and again, the input with the most
//! edges that none before it has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::seeds;

/// Of a target.
const INPUTS_MAX: usize = 20;
const BYTES_MAX: usize = 1000;

/// Fewer new edges are not worth a line.
const EDGES_MIN: usize = 3;

/// Counts of an edge that libFuzzer tells apart.
const COUNTS: u32 = 8;

/// What stands above the inputs that were found.
const FOUND: &str = "# Found by libFuzzer: each reaches what those by hand do not.\n";

type Edges = BTreeSet<u32>;

/// Writes the best of the inputs named in `control` to the corpus of `target`, in place of those kept before.
pub fn best(target: &str, control: &Path) {
    let inputs = read(control);
    let (known, mut found): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(path, _)| is_known(path));
    let mut reached: Edges = known.into_iter().flat_map(|(_, edges)| edges).collect();
    let by_seeds = reached.len();
    let mut kept = Vec::new();
    found.retain(|(path, _)| fs::metadata(path).is_ok_and(|file| file.len() <= BYTES_MAX as u64));
    while kept.len() < INPUTS_MAX {
        let new = |edges: &Edges| edges.difference(&reached).count();
        let Some((path, edges)) = found.iter().max_by_key(|(_, edges)| new(edges)) else {
            break;
        };
        if new(edges) < EDGES_MIN {
            break;
        }
        reached.extend(edges.clone());
        kept.push(fs::read(path).expect("it was just read"));
    }
    println!("{target}: {by_seeds} edges by the seeds, {} with {} inputs more", reached.len(), kept.len());
    kept.sort();
    write(target, &kept);
}

fn is_known(path: &str) -> bool {
    Path::new(path).file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"))
}

/// The inputs with their edges: `FT 7 80 96` are two features of the eighth of the files, which are named at the top.
fn read(control: &Path) -> Vec<(String, Edges)> {
    let text = fs::read_to_string(control).expect("libFuzzer wrote it");
    let mut lines = text.lines();
    let mut count = || -> usize { lines.next().and_then(|line| line.parse().ok()).expect("a count") };
    let (files, _) = (count(), count());
    let names: Vec<&str> = lines.by_ref().take(files).collect();
    let mut edges = BTreeMap::<usize, Edges>::new();
    for line in lines.filter_map(|line| line.strip_prefix("FT ")) {
        let mut numbers = line.split(' ').filter_map(|word| word.parse::<u32>().ok());
        let file = numbers.next().expect("the number of a file") as usize;
        edges.insert(file, numbers.map(|feature| feature / COUNTS).collect());
    }
    edges.into_iter().map(|(file, edges)| (names[file].to_owned(), edges)).collect()
}

/// Puts `found` in place of what was found for the target before.
fn write(target: &str, found: &[Vec<u8>]) {
    let path = seeds::corpus(target);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut text = text.split(FOUND).next().unwrap_or_default().to_owned();
    if !found.is_empty() {
        text.push_str(FOUND);
    }
    found.iter().for_each(|input| text.extend([&seeds::escaped(input), "\n"]));
    fs::write(path, text).expect("the corpus can be written");
}
