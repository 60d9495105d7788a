//! `ringpost restore`: a data directory from a backup.
//!
//! After a backup the store lived on. What it did then is lost here and not elsewhere: clients remember UIDs and POP3
//! unique-ids that it gave, and other servers have mail that it sent. So every mailbox gets a UIDVALIDITY above all
//! that can have been in use by now, mailboxes of accounts to be made as well; and queued mail is held, for the
//! operator to say what is to become of it.
//!
//! A backup that is damaged is not restored, unless that is wanted: then what can be read is put back, the store finds
//! what is missing as it does after a bad sector, and all of that is told.
//!
//! Invariants: all of the backup is checked before anything is written; until all is done and durable the directory is
//! marked, and no server takes it; a restore that begins again begins anew.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::admin::backup::check_apart;
use crate::admin::backup::folder::Folder;
use crate::admin::backup::manifest::Stored;
use crate::admin::cli::Restore;
use crate::admin::control::Refusal;
use crate::admin::directory_file;
use crate::admin::failure::Failure;
use crate::admin::offline::{OpenStore, sizes};
use crate::admin::queue::words::{QueueReply, QueueRequest};
use crate::admin::server::{Backend, Finding};
use crate::admin::storage::progress_bar;
use crate::admin::user;
use crate::config::Config;
use crate::io::clock;
use crate::io::disk::DiskError;
use crate::io::disk::copy::{checksum, copy, copy_what_can_be, lengthen};
use crate::io::disk::layout::{DataDir, create_directory};
use crate::io::disk::sync_directory;
use crate::mail::date::Rfc3339;
use crate::mail::time::Timestamp;
use crate::mailbox::RAISE_MIN;
use crate::queue::selection::{Order, Selection};

pub fn restore(restore: &Restore, open: OpenStore) -> Result<(), Failure> {
    let config = restore.place.load()?;
    user::become_configured(&config)?;
    check_apart(&restore.folder, &config.data)?;
    let folder = Folder::open_finished(&restore.folder)?;
    let damaged = check(&folder)?;
    if let Some(first) = damaged.values().next()
        && !restore.damaged
    {
        return Err(refusal(first, damaged.len()));
    }
    let taken = Rfc3339(Timestamp::utc(folder.manifest.taken)).to_string();
    if restore.check {
        writeln!(io::stdout(), "the backup of {taken} is whole")?;
        return Ok(());
    }
    let data = take_directory(&config, restore)?;
    write(&folder, &config.data, &damaged)?;
    let floor = raise_floor(&config)?;
    let backend = open(&config, data.with_sizes(sizes(&config)))?;
    let accounts = backend.raise_uid_validity(floor)?;
    let held = match restore.send_queue {
        true => 0,
        false => hold_queue(&backend, &taken)?,
    };
    if !damaged.is_empty() {
        tell_lost(&damaged, &*backend)?;
    }
    DataDir::finish_restore(&config.data)?;
    tell(&config, accounts, held, &taken)
}

/// Files of a backup that are not as they were, by the paths that they have in a store, with what is wrong.
type Damaged = BTreeMap<String, String>;

/// Reads every file and compares its checksum.
fn check(folder: &Folder) -> Result<Damaged, Failure> {
    let mut damaged = Damaged::new();
    let bar = progress_bar("{bar:30} {bytes} of {total_bytes} checked, {eta} left");
    bar.set_length(folder.manifest.files.values().map(|stored| stored.bytes).sum());
    for (path, stored) in &folder.manifest.files {
        let place = folder.place(path, stored.number);
        if let Err(why) = check_file(&place, stored, |bytes| bar.inc(bytes)) {
            damaged.insert(path.clone(), format!("{}: {why}", place.display()));
        }
    }
    bar.finish_and_clear();
    Ok(damaged)
}

/// What is wrong with a file, if anything is.
fn check_file(place: &Path, stored: &Stored, mut each: impl FnMut(u64)) -> Result<(), String> {
    let length = place.metadata().map_err(|error| error.to_string())?.len();
    if length != stored.bytes {
        return Err(format!("it has {length} bytes and not {}", stored.bytes));
    }
    let found = checksum(place, stored.bytes, |bytes| {
        each(bytes);
        Ok::<_, DiskError>(())
    });
    match found {
        Ok(crc) if crc == stored.crc => Ok(()),
        Ok(_) => Err("its checksum is wrong".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn refusal(first: &str, count: usize) -> Failure {
    let others = match count - 1 {
        0 => String::new(),
        others => format!(", and {others} more files are"),
    };
    Failure::wrong(format!(
        "the backup is damaged and was not restored: {first}{others}; `ringpost restore --damaged` restores what \
         can be read and says what is lost"
    ))
}

/// Which files were not whole, and what of the mail in them cannot be read.
fn tell_lost(damaged: &Damaged, backend: &dyn Backend) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for why in damaged.values() {
        writeln!(out, "damaged: {why}")?;
    }
    let mut lost = 0;
    backend.verify(&mut |finding| {
        let Finding::Damage(row) = finding else {
            return Ok(());
        };
        lost += 1;
        writeln!(out, "lost: {}", row.text)
    })?;
    match lost {
        0 => writeln!(out, "nothing in the store misses what was in them")?,
        _ => writeln!(out, "run `ringpost store repair` to put aside what is damaged")?,
    }
    Ok(())
}

/// An empty directory, locked and marked.
fn take_directory(config: &Config, restore: &Restore) -> Result<DataDir, Failure> {
    let path = &config.data;
    if restore.set_aside && path.exists() && !DataDir::is_empty(path)? {
        let aside = DataDir::set_aside(path).map_err(|error| match error.source.kind() {
            io::ErrorKind::WouldBlock => in_use(path),
            _ => error.into(),
        })?;
        writeln!(io::stdout(), "what was in {} is in {} now", path.display(), aside.display())?;
    }
    DataDir::open_for_restore(path).map_err(|error| match error.source.kind() {
        io::ErrorKind::WouldBlock => in_use(path),
        io::ErrorKind::DirectoryNotEmpty => Failure::wrong(format!(
            "{} is not empty; name another directory with --data, or have this one renamed with --set-aside",
            path.display()
        )),
        _ => user::no_directory(config, &error),
    })
}

fn in_use(path: &Path) -> Failure {
    Failure::unavailable(format!("another process uses {}; end it first", path.display()))
}

/// Copies every file to its place; what was read is checked once more, but for what is damaged.
fn write(folder: &Folder, data: &Path, damaged: &Damaged) -> Result<(), Failure> {
    let bar = progress_bar("{bar:30} {bytes} of {total_bytes} written, {bytes_per_sec}, {eta} left");
    bar.set_length(folder.manifest.files.values().map(|stored| stored.bytes).sum());
    let mut folders = vec![data.to_owned()];
    for (path, stored) in &folder.manifest.files {
        for (at, _) in path.match_indices('/') {
            let above = data.join(&path[..at]);
            if !folders.contains(&above) {
                create_directory(&above)?;
                folders.push(above);
            }
        }
        let is_damaged = damaged.contains_key(path);
        let (place, path) = (folder.place(path, stored.number), data.join(path));
        if is_damaged && !place.exists() {
            continue;
        }
        match is_damaged {
            true => copy_what_can_be(&place, &path, stored.bytes)?,
            false => copy_whole(&place, &path, stored, |bytes| bar.inc(bytes))?,
        }
        if stored.length > stored.bytes {
            lengthen(&path, stored.length)?;
        }
    }
    for folder in folders {
        sync_directory(&folder)?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn copy_whole(from: &Path, to: &Path, stored: &Stored, mut each: impl FnMut(u64)) -> Result<(), Failure> {
    let crc = copy(from, to, stored.bytes, |bytes| {
        each(bytes);
        Ok::<_, Failure>(())
    })?;
    match crc == stored.crc {
        true => Ok(()),
        false => Err(refusal(&format!("{}: its checksum is wrong", from.display()), 1)),
    }
}

/// Accounts that are made from here on begin above everything, as those will that are there. The clock is the only
/// witness of how often this backup was restored before; accounts keep clear of what they knew without it, too.
fn raise_floor(config: &Config) -> Result<u32, Failure> {
    let directory = directory_file::read(&config.data, &[])?;
    let now = u32::try_from(clock::timestamp().seconds).unwrap_or(u32::MAX);
    let floor = now.max(directory.uid_validity()).saturating_add(RAISE_MIN);
    directory_file::write(&config.data, &directory.with_uid_validity(floor))?;
    Ok(floor)
}

/// How many recipients are held that were not before.
fn hold_queue(backend: &Arc<dyn Backend>, taken: &str) -> Result<u64, Refusal> {
    let reason = format!("restored from the backup of {taken}; it may have been sent since");
    let order = Order::Hold { reason: Some(reason) };
    let request = QueueRequest::Order { selection: Selection::all(), order };
    let mut held = 0;
    backend.queue(request, &mut |reply| {
        if let QueueReply::Ordered(counts) = reply {
            held = counts.changed;
        }
        Ok(())
    })?;
    Ok(held)
}

fn tell(config: &Config, accounts: u64, held: u64, taken: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let count = |count: u64, what: &str| match count {
        1 => format!("1 {what} is"),
        _ => format!("{count} {what}s are"),
    };
    let (accounts, recipients) = (count(accounts, "account"), count(held, "recipient"));
    let data = config.data.display();
    writeln!(out, "{accounts} in {data} as of {taken}; mail programs will fetch their mail again")?;
    if held > 0 {
        writeln!(
            out,
            "{recipients} held of mail that was queued, since it may have been sent after the backup: look at it with \
             `ringpost queue list --state held`, then `ringpost queue release` or `ringpost queue bounce`"
        )?;
    }
    Ok(())
}
