//! Trees that grow and are cut, and know in logarithmic time whether a link would close a loop.
//!
//! A link-cut tree without re-rooting (Sleator and Tarjan): the path from a node to its root is kept in splay trees,
//! shallow nodes to the left. `up` says the plain truth beside it, so that most questions need no splaying.
//!
//! Invariants: no loop, ever; nothing recurses.

/// No node.
pub(super) const NONE: u32 = u32::MAX;

pub(super) struct Forest {
    nodes: Vec<Node>,
}

struct Node {
    /// The parent in the forest.
    up: u32,
    children: u32,
    /// In the splay tree, or for its root the node that its shallowest node hangs below.
    above: u32,
    left: u32,
    right: u32,
}

impl Forest {
    /// Nodes without parents.
    pub fn new(len: usize) -> Self {
        let mut forest = Self { nodes: Vec::with_capacity(len) };
        (0..len).for_each(|_| {
            forest.add();
        });
        forest
    }

    /// Another node; the answer is its number.
    pub fn add(&mut self) -> u32 {
        self.nodes.push(Node { up: NONE, children: 0, above: NONE, left: NONE, right: NONE });
        (self.nodes.len() - 1) as u32
    }

    /// Puts `child`, which has no parent, below `parent`, unless it stands above it.
    pub fn link(&mut self, child: u32, parent: u32) {
        debug_assert_eq!(self.parent(child), NONE);
        if self.would_loop(child, parent) {
            return;
        }
        self.node(child).up = parent;
        self.node(parent).children += 1;
        self.access(child);
        self.access(parent);
        self.node(child).above = parent;
    }

    /// Makes `child` a root.
    pub fn cut(&mut self, child: u32) {
        let parent = self.parent(child);
        if parent == NONE {
            return;
        }
        self.node(child).up = NONE;
        self.node(parent).children -= 1;
        self.access(child);
        // What is left of it is the path above it.
        let path = std::mem::replace(&mut self.node(child).left, NONE);
        self.node(path).above = NONE;
    }

    pub fn parent(&self, node: u32) -> u32 {
        self.nodes[node as usize].up
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    fn would_loop(&mut self, child: u32, parent: u32) -> bool {
        if child == parent {
            return true;
        }
        // Nothing is below the one, or nothing above the other.
        if self.nodes[child as usize].children == 0 || self.parent(parent) == NONE {
            return false;
        }
        self.root_of(parent) == child
    }

    fn root_of(&mut self, node: u32) -> u32 {
        self.access(node);
        let mut root = node;
        while self.nodes[root as usize].left != NONE {
            root = self.nodes[root as usize].left;
        }
        self.splay(root);
        root
    }

    /// Makes the path from the root to `node` one splay tree, with `node` on top.
    fn access(&mut self, node: u32) {
        let mut below = NONE;
        let mut at = node;
        while at != NONE {
            self.splay(at);
            self.node(at).right = below;
            below = at;
            at = self.node(at).above;
        }
        self.splay(node);
    }

    fn splay(&mut self, node: u32) {
        while let Some(parent) = self.splay_parent(node) {
            if let Some(grandparent) = self.splay_parent(parent) {
                let same_side = self.is_left(node, parent) == self.is_left(parent, grandparent);
                self.rotate(if same_side { parent } else { node });
            }
            self.rotate(node);
        }
    }

    /// Lifts `node` above its parent in the splay tree.
    fn rotate(&mut self, node: u32) {
        let parent = self.node(node).above;
        let grandparent = self.node(parent).above;
        let parent_was_inside = self.splay_parent(parent).is_some();
        let parent_was_left = parent_was_inside && self.is_left(parent, grandparent);
        let inner = if self.is_left(node, parent) {
            let inner = std::mem::replace(&mut self.node(node).right, parent);
            self.node(parent).left = inner;
            inner
        } else {
            let inner = std::mem::replace(&mut self.node(node).left, parent);
            self.node(parent).right = inner;
            inner
        };
        if inner != NONE {
            self.node(inner).above = parent;
        }
        self.node(parent).above = node;
        self.node(node).above = grandparent;
        match (parent_was_inside, parent_was_left) {
            (true, true) => self.node(grandparent).left = node,
            (true, false) => self.node(grandparent).right = node,
            (false, _) => {}
        }
    }

    fn splay_parent(&self, node: u32) -> Option<u32> {
        let parent = self.nodes[node as usize].above;
        let above = self.nodes.get(parent as usize)?;
        (above.left == node || above.right == node).then_some(parent)
    }

    fn is_left(&self, node: u32, parent: u32) -> bool {
        self.nodes[parent as usize].left == node
    }

    fn node(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, any};
    use proptest::{prop_assert_eq, proptest};

    use super::{Forest, NONE};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn links_are_those_of_a_forest_that_walks(operations in vec((any::<bool>(), 0u32..40, 0u32..40), 0..300)) {
            let mut forest = Forest::new(40);
            let mut parents = [NONE; 40];
            for (cut, child, parent) in operations {
                if cut {
                    forest.cut(child);
                    parents[child as usize] = NONE;
                } else if parents[child as usize] == NONE {
                    let above = |&node: &u32| Some(parents[node as usize]).filter(|&up| up != NONE);
                    let loops = std::iter::successors(Some(parent), above).any(|node| node == child);
                    forest.link(child, parent);
                    if !loops {
                        parents[child as usize] = parent;
                    }
                }
                for node in 0..40 {
                    prop_assert_eq!(forest.parent(node), parents[node as usize]);
                }
            }
        }
    }
}
