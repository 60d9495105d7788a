//! THREAD (RFC 5256 3), in slices.
//!
//! Each message is asked once for identifiers, base subject and sent date; the threads are made at the end. REFERENCES
//! follows the six steps of the RFC over an array of nodes: first the messages, in order of the mailbox, then the
//! dummies. Whether a link would make a loop is asked of a [`Forest`], in logarithmic time however long the chains are.
//!
//! Invariants: nothing recurses, and no step is quadratic, whatever the messages say of each other.

use std::collections::HashMap;

use super::forest::{Forest, NONE};
use super::search::{Bodies, Budget, Nothing, Progress};
use super::sort::{Walk, sent_seconds, with_fields};
use super::view::{Look, Numbering};
use crate::mail::casemap::casemapped;
use crate::mail::message_id::{ThreadIds, thread_ids};
use crate::mail::query::{Thread, ThreadBy};
use crate::mail::subject::base_subject;

/// A threading under way.
pub struct Threading {
    by: ThreadBy,
    walk: Walk,
    members: Vec<Member>,
}

/// The threads in one go, by what is kept beside the rows alone: for few messages. Their numbers are UIDs.
pub fn thread(look: &Look<'_>, uids: &[u32], by: ThreadBy) -> Vec<Thread> {
    let mut threading = Threading::new(uids, by);
    while threading.step(look, &Nothing, Budget::UNBOUNDED) == Progress::More {}
    threading.finish(look, Numbering::Uid)
}

/// What counts of a message.
struct Member {
    uid: u32,
    /// In Unix seconds.
    sent: i64,
    /// The base subject, as it is compared.
    subject: Box<str>,
    is_reply: bool,
    ids: ThreadIds,
}

/// Nodes by number: messages first, in the order of the mailbox, then dummies.
struct Tree<'a> {
    members: &'a [Member],
    children: Vec<Vec<u32>>,
    roots: Vec<u32>,
}

impl Threading {
    /// Of messages that a search found.
    pub fn new(uids: &[u32], by: ThreadBy) -> Self {
        Self { by, walk: Walk::new(uids), members: Vec::with_capacity(uids.len()) }
    }

    pub fn step(&mut self, look: &Look<'_>, bodies: &dyn Bodies, budget: Budget) -> Progress {
        let Self { by, walk, members } = self;
        walk.step(look, budget, |row| {
            with_fields(row, bodies, |fields| {
                let base = fields.find("Subject").map(base_subject).unwrap_or_default();
                let ids = match by {
                    ThreadBy::References => thread_ids(fields),
                    ThreadBy::OrderedSubject => ThreadIds::default(),
                };
                members.push(Member {
                    uid: row.uid,
                    sent: sent_seconds(row, fields),
                    subject: casemapped(&base.text).into(),
                    is_reply: base.is_reply_or_forward,
                    ids,
                });
            })
        })
    }

    pub fn finish(self, look: &Look<'_>, numbering: Numbering) -> Vec<Thread> {
        let tree = match self.by {
            ThreadBy::OrderedSubject => Tree::by_subject(&self.members),
            ThreadBy::References => Tree::by_references(&self.members),
        };
        tree.into_threads(|uid| match numbering {
            Numbering::Uid => Some(uid),
            Numbering::Sequence => look.msn_of(uid),
        })
    }
}

impl<'a> Tree<'a> {
    /// ORDEREDSUBJECT: of equal base subjects the first is the parent of all others.
    fn by_subject(members: &'a [Member]) -> Self {
        let mut tree = Self { members, children: vec![Vec::new(); members.len()], roots: Vec::new() };
        let mut order: Vec<u32> = (0..members.len() as u32).collect();
        let member = |node: u32| &members[node as usize];
        order.sort_by_key(|&node| (&member(node).subject, member(node).sent, node));
        for node in order {
            match tree.roots.last() {
                Some(&first) if member(first).subject == member(node).subject => {
                    tree.children[first as usize].push(node);
                }
                _ => tree.roots.push(node),
            }
        }
        tree.sort_roots();
        tree
    }

    fn by_references(members: &'a [Member]) -> Self {
        let mut tree = Self::linked(members);
        tree.prune();
        tree.sort_roots();
        tree.merge_subjects();
        // Step 6: siblings at every level. No node's place depends on what is below it but that of a dummy at
        // the root.
        for node in 0..tree.children.len() as u32 {
            tree.sort_children(node);
        }
        tree.sort_roots();
        tree
    }

    /// Steps 1 and 2: parents and children as the messages name them.
    fn linked(members: &'a [Member]) -> Self {
        let mut nodes: HashMap<&[u8], u32> = HashMap::with_capacity(members.len());
        // Of several messages with one identifier only the first has it.
        for (node, member) in (0..).zip(members) {
            if let Some(id) = &member.ids.id {
                nodes.entry(id).or_insert(node);
            }
        }
        let mut forest = Forest::new(members.len());
        for (node, member) in (0..).zip(members) {
            let mut last = NONE;
            for id in &member.ids.ancestors {
                let ancestor = *nodes.entry(id).or_insert_with(|| forest.add());
                // Step 1.A: a link that is there stays; none that would make a loop is made.
                if last != NONE && forest.parent(ancestor) == NONE {
                    forest.link(ancestor, last);
                }
                last = ancestor;
            }
            // Step 1.B: what the message says of itself counts more than what others say of it.
            forest.cut(node);
            if last != NONE {
                forest.link(node, last);
            }
        }
        let mut tree = Self { members, children: vec![Vec::new(); forest.len()], roots: Vec::new() };
        for node in 0..forest.len() as u32 {
            match forest.parent(node) {
                NONE => tree.roots.push(node),
                parent => tree.children[parent as usize].push(node),
            }
        }
        tree
    }

    /// Step 3: dummies go, and their children take their place; at the root only where it is one child.
    fn prune(&mut self) {
        for node in self.bottom_up() {
            let children = std::mem::take(&mut self.children[node as usize]);
            let mut kept = Vec::with_capacity(children.len());
            for child in children {
                match self.is_dummy(child) {
                    true => splice(&mut kept, std::mem::take(&mut self.children[child as usize])),
                    false => kept.push(child),
                }
            }
            self.children[node as usize] = kept;
        }
        let mut roots = Vec::with_capacity(self.roots.len());
        for root in std::mem::take(&mut self.roots) {
            let children = &mut self.children[root as usize];
            match children.len() {
                0 | 1 if root as usize >= self.members.len() => roots.append(children),
                _ => roots.push(root),
            }
        }
        self.roots = roots;
    }

    /// Step 4. A dummy stands where its first child would.
    fn sort_roots(&mut self) {
        for index in 0..self.roots.len() {
            if self.is_dummy(self.roots[index]) {
                self.sort_children(self.roots[index]);
            }
        }
        let mut roots = std::mem::take(&mut self.roots);
        roots.sort_by_key(|&root| self.place(self.head(root)));
        self.roots = roots;
    }

    /// Step 5: threads of one subject become one.
    fn merge_subjects(&mut self) {
        let members = self.members;
        let mut table: HashMap<&'a str, u32> = HashMap::new();
        for &root in &self.roots {
            let subject = &*members[self.head(root) as usize].subject;
            if subject.is_empty() {
                continue;
            }
            let entry = table.entry(subject).or_insert(root);
            let is_better = self.is_dummy(root) || (self.is_reply(*entry) && !self.is_reply(root));
            if !self.is_dummy(*entry) && is_better {
                *entry = root;
            }
        }
        let mut roots = Vec::with_capacity(self.roots.len());
        for root in std::mem::take(&mut self.roots) {
            let subject = &*members[self.head(root) as usize].subject;
            match table.get_mut(subject) {
                None => roots.push(root),
                Some(entry) if *entry == root => {}
                Some(entry) => *entry = self.merged(*entry, root),
            }
        }
        roots.extend(table.into_values());
        self.roots = roots;
    }

    /// Step 5.C: `root` and the `entry` of its subject become one thread, whose head is the answer.
    fn merged(&mut self, entry: u32, root: u32) -> u32 {
        if self.is_dummy(entry) && self.is_dummy(root) {
            let children = std::mem::take(&mut self.children[root as usize]);
            self.children[entry as usize].extend(children);
            return entry;
        }
        if self.is_dummy(entry) || (self.is_reply(root) && !self.is_reply(entry)) {
            self.children[entry as usize].push(root);
            return entry;
        }
        self.children.push(vec![entry, root]);
        (self.children.len() - 1) as u32
    }

    fn sort_children(&mut self, node: u32) {
        let mut children = std::mem::take(&mut self.children[node as usize]);
        children.sort_by_key(|&child| self.place(child));
        self.children[node as usize] = children;
    }

    fn is_dummy(&self, node: u32) -> bool {
        node as usize >= self.members.len()
    }

    fn is_reply(&self, node: u32) -> bool {
        self.members.get(node as usize).is_some_and(|member| member.is_reply)
    }

    /// The message that stands for a thread: its first, where a dummy is at its head.
    fn head(&self, root: u32) -> u32 {
        match self.is_dummy(root) {
            true => self.children[root as usize].first().copied().unwrap_or(root),
            false => root,
        }
    }

    /// RFC 5256 2.2: by sent date, and of one date by place in the mailbox.
    fn place(&self, node: u32) -> (i64, u32) {
        let sent = self.members.get(node as usize).map_or(i64::MAX, |member| member.sent);
        (sent, node)
    }

    /// All nodes below the roots, children before their parents.
    fn bottom_up(&self) -> Vec<u32> {
        let mut order = self.roots.clone();
        let mut next = 0;
        while let Some(&node) = order.get(next) {
            order.extend(&self.children[node as usize]);
            next += 1;
        }
        order.reverse();
        order
    }

    fn into_threads(self, number_of: impl Fn(u32) -> Option<u32>) -> Vec<Thread> {
        let mut threads: Vec<Thread> = Vec::new();
        threads.resize_with(self.children.len(), Thread::default);
        for node in self.bottom_up() {
            let children = self.children[node as usize].iter();
            let children = children.map(|&child| std::mem::take(&mut threads[child as usize])).collect();
            let number = self.members.get(node as usize).and_then(|member| number_of(member.uid));
            threads[node as usize] = Thread { number, children };
        }
        self.roots.iter().map(|&root| std::mem::take(&mut threads[root as usize])).collect()
    }
}

/// Joins two lists whose order does not matter, moving the shorter: a long one climbs a chain of dummies for
/// nothing.
fn splice(list: &mut Vec<u32>, mut other: Vec<u32>) {
    if list.len() < other.len() {
        std::mem::swap(list, &mut other);
    }
    list.extend(other);
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::{Thread, ThreadBy, Threading};
    use crate::mailbox::search::{Budget, Nothing, Progress};
    use crate::mailbox::test_mail::mailbox_of;
    use crate::mailbox::view::{Access, Numbering, View};

    fn threads_of(headers: &[impl AsRef<str>], by: ThreadBy) -> Vec<Thread> {
        let mailbox = mailbox_of(headers);
        let mut view = View::open(&mailbox, Access::ReadOnly);
        let look = view.look(&mailbox);
        let mut threading = Threading::new(mailbox.uids(), by);
        while threading.step(&look, &Nothing, Budget { messages: 1000, bytes: 1 }) == Progress::More {}
        threading.finish(&look, Numbering::Sequence)
    }

    fn print(threads: &[Thread], out: &mut String) {
        for thread in threads {
            let number = thread.number.map_or("-".to_owned(), |number| number.to_string());
            write!(out, "({number}").expect("a string takes all");
            print(&thread.children, out);
            out.push(')');
        }
    }

    fn printed(headers: &[impl AsRef<str>], by: ThreadBy) -> String {
        let mut out = String::new();
        print(&threads_of(headers, by), &mut out);
        out
    }

    /// `id subject <- references`, one a line.
    fn letters(letters: &[&str]) -> Vec<String> {
        let header = |letter: &&str| {
            let (head, references) = letter.split_once("<-").unwrap_or((letter, ""));
            let (id, subject) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
            let references: Vec<_> = references.split_whitespace().map(|id| format!("<{id}@x>")).collect();
            let message_id = if id == "-" { String::new() } else { format!("Message-ID: <{id}@x>\r\n") };
            format!("{message_id}References: {}\r\nSubject: {subject}", references.join(" "))
        };
        letters.iter().map(header).collect()
    }

    #[test]
    fn references_as_the_rfc_steps_say() {
        let table: [(&str, &[&str], &str); 15] = [
            ("a chain and a branch", &["a", "b <- a", "c <- a b", "d <- a"], "(1(2(3))(4))"),
            ("the parent comes later", &["b <- a", "a"], "(2(1))"),
            ("a missing parent of one child", &["b <- a"], "(1)"),
            ("a missing parent of two", &["b x <- a", "c y <- a"], "(-(1)(2))"),
            ("missing ones in the middle", &["a", "d <- a b c", "e <- a b c"], "(1(2)(3))"),
            ("a link that is there stays", &["a", "b <- a", "c", "d <- c b"], "(1(2(4)))(3)"),
            ("what it says of itself counts more", &["c <- a b", "a", "b <- d", "d"], "(2)(4(3(1)))"),
            ("no loop", &["a <- b", "b <- a"], "(2(1))"),
            ("no loop with itself", &["a <- a"], "(1)"),
            ("a double identifier is the first's", &["a", "a", "b <- a"], "(1(3))(2)"),
            ("no identifier", &["-", "- <- a", "a"], "(1)(3(2))"),
            ("subjects: a reply goes below", &["a hello", "b Re: hello"], "(1(2))"),
            ("subjects: two of a kind get a dummy", &["a hello", "b Hello"], "(-(1)(2))"),
            ("subjects: the reply came first", &["a Re: hello", "b hello", "c fwd: hello"], "(2(1)(3))"),
            (
                "subjects: dummies join",
                &["b hi <- a", "c hi <- a", "e hi <- d", "f hi <- d", "g hi"],
                "(-(1)(2)(3)(4)(5))",
            ),
        ];
        for (name, messages, expected) in table {
            let got = printed(&letters(messages), ThreadBy::References);
            // Without a subject nothing is merged.
            assert_eq!(got, expected, "{name}");
        }
    }

    #[test]
    fn ordered_subject_is_two_levels_deep() {
        let headers = [
            "Subject: b\r\nDate: Mon, 3 Jan 2000 00:00:00 +0000",
            "Subject: re: a\r\nDate: Mon, 3 Jan 2000 00:00:00 +0100",
            "Subject: A\r\nDate: Mon, 3 Jan 2000 00:00:00 -0100",
            "Subject: Re: b\r\nDate: Sun, 2 Jan 2000 00:00:00 +0000",
            "Subject: b (fwd)\r\nDate: Mon, 3 Jan 2000 12:00:00 +0000",
        ];
        assert_eq!(printed(&headers, ThreadBy::OrderedSubject), "(4(1)(5))(2(3))");
        assert!(threads_of(&[] as &[&str], ThreadBy::OrderedSubject).is_empty());
    }

    #[test]
    fn a_long_chain_takes_no_stack_and_little_time() {
        const LONG: usize = 20_000;
        let forward = (0..LONG).map(|n| format!("m{n} <- m{}", n.wrapping_sub(1)));
        let backward = (0..LONG).map(|n| format!("m{n} <- m{}", n + 1));
        for chain in [forward.collect::<Vec<_>>(), backward.collect()] {
            let chain: Vec<_> = chain.iter().map(String::as_str).collect();
            let threads = threads_of(&letters(&chain), ThreadBy::References);
            assert_eq!(threads.len(), 1);
            let depth = std::iter::successors(threads.first(), |thread| thread.children.first()).count();
            assert_eq!(depth, LONG);
        }
    }

    #[test]
    fn a_chain_of_dummies_carries_its_children_up_once() {
        let dummies: Vec<_> = (0..400).map(|n| format!("d{n}")).collect();
        let all = dummies.join(" ");
        let mut messages = vec![format!("a <- {all}")];
        messages.extend((0..2000).map(|n| format!("m{n} <- d399")));
        let messages: Vec<_> = messages.iter().map(String::as_str).collect();
        let threads = threads_of(&letters(&messages), ThreadBy::References);
        assert_eq!((threads.len(), threads[0].number, threads[0].children.len()), (1, None, 2001));
    }
}
