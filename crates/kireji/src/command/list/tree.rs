//! The topology, down from the root buses.

use pci::{Address, Function, Host};

/// One function in the tree.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// The function.
    pub(super) function: &'a Function,
    /// For each level above, whether more follows there: a line is drawn past this function.
    pub(super) open: Vec<bool>,
    /// Whether it is the last below its bridge.
    pub(super) is_last: bool,
}

/// Returns all functions in the order of the tree.
pub(super) fn nodes(host: &Host) -> Vec<Node<'_>> {
    let most = host.functions().count();
    let mut nodes = Vec::with_capacity(most);
    let mut stack = Vec::new();
    push(host, None, &[], &mut stack);
    while let Some(node) = stack.pop() {
        // A captured tree may have loops, and none has more functions than there are.
        if nodes.len() >= most {
            break;
        }
        let mut open = node.open.clone();
        open.push(!node.is_last);
        push(host, Some(node.function.address), &open, &mut stack);
        nodes.push(node);
    }
    nodes
}

fn push<'a>(host: &'a Host, above: Option<Address>, open: &[bool], stack: &mut Vec<Node<'a>>) {
    let children: Vec<_> = host.children(above).collect();
    let last = children.len().saturating_sub(1);
    for (number, function) in children.into_iter().enumerate().rev() {
        stack.push(Node { function, open: open.to_vec(), is_last: number == last });
    }
}

impl Node<'_> {
    /// The lines to the left of the function.
    pub(super) fn prefix(&self) -> String {
        let mut text: String =
            self.open.iter().map(|open| if *open { "│  " } else { "   " }).collect();
        text += if self.is_last { "└─ " } else { "├─ " };
        text
    }
}
