//! What belongs together: THREAD (RFC 5256 4).

use super::text;
use crate::bytes::Output;
use crate::mail::query::Thread;

/// What is still to be written. Threads are as deep as their senders made them, so this is a stack of our own.
enum Todo<'a> {
    Open(&'a Thread),
    Close,
}

/// `* THREAD (2)(3 6 (4 23)(44 7 96))`
///
/// `thread-list = "(" (thread-members / thread-nested) ")"`,
/// `thread-members = nz-number *(SP nz-number) [SP thread-nested]`, `thread-nested = 2*thread-list`
pub fn thread(out: &mut Output, threads: &[Thread]) {
    let text = out.text_mut();
    text.extend_from_slice(b"* THREAD");
    let mut todo: Vec<_> = threads.iter().rev().map(Todo::Open).collect();
    if !todo.is_empty() {
        text.push(b' ');
    }
    while let Some(next) = todo.pop() {
        match next {
            Todo::Close => text.push(b')'),
            Todo::Open(thread) => {
                text.push(b'(');
                todo.push(Todo::Close);
                let branches = chain(text, thread);
                todo.extend(branches.iter().rev().map(Todo::Open));
            }
        }
    }
    text.extend_from_slice(b"\r\n");
}

/// Writes numbers as far as each message has one answer; gives the answers where there are more.
fn chain<'a>(text: &mut Vec<u8>, mut thread: &'a Thread) -> &'a [Thread] {
    let begin = text.len();
    loop {
        if let Some(number) = thread.number {
            separate(text, begin);
            text::number(text, number.into());
        }
        let [only] = thread.children.as_slice() else {
            break;
        };
        thread = only;
    }
    if !thread.children.is_empty() {
        separate(text, begin);
    }
    &thread.children
}

fn separate(text: &mut Vec<u8>, begin: usize) {
    if text.len() > begin {
        text.push(b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::{Thread, thread};
    use crate::bytes::Output;

    fn message(number: u32, children: Vec<Thread>) -> Thread {
        Thread { number: Some(number), children }
    }

    fn written(threads: &[Thread]) -> String {
        let mut out = Output::new();
        thread(&mut out, threads);
        String::from_utf8_lossy(&out.to_vec()).into_owned()
    }

    #[test]
    fn chains_and_branches() {
        // The example of RFC 5256 4.
        let branches = vec![
            message(4, vec![message(23, vec![])]),
            message(44, vec![message(7, vec![message(96, vec![])])]),
        ];
        let threads = [message(2, vec![]), message(3, vec![message(6, branches)])];
        assert_eq!(written(&threads), "* THREAD (2)(3 6 (4 23)(44 7 96))\r\n");
        let orphans = Thread { number: None, children: vec![message(3, vec![]), message(5, vec![])] };
        assert_eq!(written(&[orphans]), "* THREAD ((3)(5))\r\n");
        assert_eq!(written(&[]), "* THREAD\r\n");
    }

    #[test]
    fn depth_costs_no_stack() {
        let mut deep = message(1, vec![]);
        for number in 2..3000 {
            deep = message(number, vec![deep, message(0, vec![])]);
        }
        assert!(written(&[deep]).starts_with("* THREAD (2999 (2998 (2997 "));
    }
}
