//! The thread beside a log that does its slow work: the index file, and messages read again for their digests.
//!
//! Jobs run one after the other, in the order they were given. A job that panics ends the thread: the index is
//! not written again before the next start, which takes the last checkpoint.

use super::DiskError;
use super::index_file::IndexFile;
use super::layout::DataDir;
use super::reader::Reader;
use crate::io::inbox::Inbox;
use crate::io::workers::hire;

type Job = Box<dyn FnOnce(&mut Bench) + Send>;

/// What a job works with.
pub struct Bench {
    pub index: IndexFile,
    pub reader: Reader,
}

/// The handle of the thread, which ends with it.
pub struct Indexer {
    jobs: Inbox<Job>,
}

/// The thread has ended: a job before this one panicked, or this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended;

/// Answers when it is dropped, if nobody did before.
struct Answer<T>(Option<Inbox<Option<T>>>);

impl Indexer {
    pub fn start(data: &DataDir, index: IndexFile) -> Result<Self, DiskError> {
        let path = index.path().to_owned();
        let mut bench = Bench { index, reader: Reader::new(data) };
        let jobs: Inbox<Job> = Inbox::new();
        hire("index", &jobs, move |job| job(&mut bench))
            .map_err(DiskError::new("start the thread of", &path))?;
        Ok(Self { jobs })
    }

    /// Runs a job and waits for what it gives.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Bench) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let inbox = Inbox::new();
        let answer = Answer(Some(inbox.clone()));
        // If the thread has ended the job is dropped, and the answer with it.
        self.jobs.post(Box::new(move |bench| answer.give(job(bench))));
        inbox.next().await.ok_or(Ended)
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.jobs.close();
    }
}

impl<T> Answer<T> {
    fn give(mut self, value: T) {
        if let Some(inbox) = self.0.take() {
            inbox.post(Some(value));
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(inbox) = self.0.take() {
            inbox.post(None);
        }
    }
}
