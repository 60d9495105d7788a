//! Buffers that connections borrow while they have something to read.
//!
//! One pool per shard. An idle connection holds none: it takes a buffer when data is ready and gives it back
//! when the data is handled.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// A stack of buffers of one size.
#[derive(Clone)]
pub struct Pool {
    free: Rc<RefCell<Vec<Vec<u8>>>>,
    buffer_bytes: usize,
    kept_max: usize,
}

/// A buffer on loan; it returns to its pool on drop.
pub struct Pooled {
    buffer: Vec<u8>,
    pool: Pool,
}

impl Pool {
    /// A pool of buffers of `buffer_bytes` each that keeps at most `kept_max` of them while they are free.
    pub fn new(buffer_bytes: usize, kept_max: usize) -> Self {
        Self { free: Rc::default(), buffer_bytes, kept_max }
    }

    /// A buffer of the pool's size; its content is whatever was left in it.
    pub fn take(&self) -> Pooled {
        let free = self.free.borrow_mut().pop();
        let buffer = free.unwrap_or_else(|| vec![0; self.buffer_bytes]);
        Pooled { buffer, pool: self.clone() }
    }
}

impl Deref for Pooled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut free = self.pool.free.borrow_mut();
        if free.len() < self.pool.kept_max {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn a_returned_buffer_is_lent_again() {
        let pool = Pool::new(16, 1);
        let first = pool.take();
        let address = first.as_ptr();
        let second = pool.take();
        drop(first);
        drop(second);
        assert_eq!(pool.free.borrow().len(), 1);
        assert_eq!(pool.take().as_ptr(), address);
    }
}
