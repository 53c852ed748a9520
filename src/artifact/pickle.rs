//! Pickles of tensors, and of nothing else.
//!
//! A pickle is a program for a stack machine. This reader knows the opcodes that `torch.save` uses for dictionaries of
//! tensors, and the names they may call: `collections.OrderedDict`, `torch._utils._rebuild_tensor_v2` and torch's storage
//! classes. Nothing is imported or executed; every other opcode and name is an error that says where it is. Values are held
//! once and referred to by number, so that nothing grows by being repeated, and all counts have limits.

use crate::error::{Error, Result};

/// The longest program that is read.
pub const MAX_BYTES: usize = 64 << 20;
/// Most values, each of which takes some tens of bytes.
const MAX_NODES: usize = 4 << 20;
/// Most lists open inside each other.
const MAX_MARKS: usize = 64;

/// Number of a value.
pub type Id = u32;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// A text.
    Text(String),
    /// A tuple or list.
    List(Vec<Id>),
    /// A dictionary in order.
    Dict(Vec<(Id, Id)>),
    /// `OrderedDict` itself.
    OrderedDict,
    /// `_rebuild_tensor_v2` itself.
    Rebuild,
    /// A class of storages: its name, such as `FloatStorage`.
    StorageClass(String),
    /// A storage.
    Storage {
        /// `FloatStorage` and the like.
        class: String,
        /// Its file in the archive.
        key: String,
        /// Its elements.
        elements: u64,
    },
    /// A tensor.
    Tensor {
        /// Its storage.
        storage: Id,
        /// First element.
        offset: u64,
        /// Sizes.
        shape: Vec<u64>,
        /// Steps from one element to the next.
        strides: Vec<u64>,
    },
}

/// The result of a program.
#[derive(Debug)]
pub struct Pickle {
    nodes: Vec<Node>,
    root: Id,
}

impl Pickle {
    /// Runs a program.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::format(format!("the pickle of {} bytes is longer than {MAX_BYTES}", bytes.len())));
        }
        let mut machine =
            Machine { bytes, at: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: Vec::new() };
        let root = machine.run()?;
        Ok(Self { nodes: machine.nodes, root })
    }

    /// The outermost value.
    pub fn root(&self) -> &Node {
        self.get(self.root)
    }
    /// A value.
    pub fn get(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }
    /// The value of a text key of a dictionary.
    pub fn entry<'a>(&'a self, dict: &Node, key: &str) -> Option<&'a Node> {
        let Node::Dict(pairs) = dict else { return None };
        pairs
            .iter()
            .rev()
            .find(|(k, _)| matches!(self.get(*k), Node::Text(text) if text == key))
            .map(|(_, v)| self.get(*v))
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack where lists began.
    marks: Vec<usize>,
    /// Remembered values, sorted by key.
    memo: Vec<(u32, Id)>,
}

impl Machine<'_> {
    fn bad(&self, what: impl std::fmt::Display) -> Error {
        Error::format(format!("the pickle {what} at byte {}", self.at.saturating_sub(1)))
    }

    fn take(&mut self, n: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.bad("is cut off"))?;
        let part = &self.bytes[self.at..end];
        self.at = end;
        Ok(part)
    }

    /// An unsigned little-endian integer of `n` bytes, at most 8.
    fn uint(&mut self, n: usize) -> Result<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    }

    fn text(&mut self, n: usize) -> Result<String> {
        let bytes = self.take(n)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.bad("has a text that is not UTF-8"))
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(256).position(|&b| b == b'\n').ok_or_else(|| self.bad("has an endless name"))?;
        let text = self.text(end)?;
        self.at += 1;
        Ok(text)
    }

    fn push(&mut self, node: Node) -> Result<()> {
        if self.nodes.len() >= MAX_NODES {
            return Err(self.bad(format!("makes more than {MAX_NODES} values")));
        }
        self.nodes.push(node);
        self.push_id((self.nodes.len() - 1) as Id)
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        if self.stack.len() >= MAX_NODES {
            return Err(self.bad("fills its stack"));
        }
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = if self.stack.len() > floor { self.stack.pop() } else { None };
        top.ok_or_else(|| self.bad("takes from an empty stack"))
    }

    fn top(&self) -> Result<Id> {
        self.stack.last().copied().ok_or_else(|| self.bad("looks at an empty stack"))
    }

    fn above_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| self.bad("ends a list that it did not begin"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    fn remember(&mut self, key: u32) -> Result<()> {
        let id = self.top()?;
        // Keys nearly always come in order.
        match self.memo.binary_search_by_key(&key, |(k, _)| *k) {
            Ok(at) => self.memo[at].1 = id,
            // Inserting far from the end would make the work quadratic.
            Err(at) if self.memo.len() < MAX_NODES && self.memo.len() - at < 64 => self.memo.insert(at, (key, id)),
            Err(_) => return Err(self.bad("numbers its memory without order")),
        }
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        match self.memo.binary_search_by_key(&key, |(k, _)| *k) {
            Ok(at) => self.push_id(self.memo[at].1),
            Err(_) => Err(self.bad(format!("recalls value {key}, which it did not remember"))),
        }
    }

    fn run(&mut self) -> Result<Id> {
        loop {
            let code = self.uint(1)? as u8;
            match code {
                b'.' => return self.pop(),
                0x80 => {
                    let protocol = self.uint(1)?;
                    if !(2..=4).contains(&protocol) {
                        return Err(self.bad(format!("has protocol {protocol}, and 2 to 4 are known")));
                    }
                }
                0x95 => self.take(8).map(|_| ())?, // the length of a frame
                b'(' if self.marks.len() >= MAX_MARKS => {
                    return Err(self.bad("opens too many lists inside each other"));
                }
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.push(Node::None)?,
                0x88 | 0x89 => self.push(Node::Bool(code == 0x88))?,
                b'K' | b'M' => {
                    let value = self.uint(if code == b'K' { 1 } else { 2 })?;
                    self.push(Node::Int(value as i64))?;
                }
                b'J' => {
                    let value = self.uint(4)? as u32 as i32;
                    self.push(Node::Int(i64::from(value)))?;
                }
                0x8a => {
                    let n = self.uint(1)? as usize;
                    if n > 8 {
                        return Err(self.bad("has a whole number of more than 8 bytes"));
                    }
                    // Two's complement of n bytes, sign-extended.
                    let unused = 64 - 8 * n as u32;
                    let value = self.uint(n)?.checked_shl(unused).unwrap_or(0) as i64;
                    self.push(Node::Int(value.checked_shr(unused).unwrap_or(0)))?;
                }
                b'G' => {
                    let value = f64::from_bits(self.uint(8)?.swap_bytes());
                    self.push(Node::Float(value))?;
                }
                b'X' | 0x8c => {
                    let n = self.uint(if code == b'X' { 4 } else { 1 })?;
                    let text = self.text(n as usize)?;
                    self.push(Node::Text(text))?;
                }
                b'q' | b'r' => {
                    let key = self.uint(if code == b'q' { 1 } else { 4 })?;
                    self.remember(key as u32)?;
                }
                0x94 => self.remember(self.memo.last().map_or(0, |(key, _)| key.saturating_add(1)))?,
                b'h' | b'j' => {
                    let key = self.uint(if code == b'h' { 1 } else { 4 })?;
                    self.recall(key as u32)?;
                }
                b'}' => self.push(Node::Dict(Vec::new()))?,
                b']' | b')' => self.push(Node::List(Vec::new()))?,
                0x85..=0x87 => {
                    let mut items = (0x84..code).map(|_| self.pop()).collect::<Result<Vec<Id>>>()?;
                    items.reverse();
                    self.push(Node::List(items))?;
                }
                b't' => {
                    let items = self.above_mark()?;
                    self.push(Node::List(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.above_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let items = self.above_mark()?;
                    self.set(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Node::Text(module), Node::Text(name)) = (self.node(module).clone(), self.node(name).clone())
                    else {
                        return Err(self.bad("names something by what is no text"));
                    };
                    self.global(&module, &name)?;
                }
                b'Q' => self.storage()?,
                b'R' => self.call()?,
                b'b' => self.build()?,
                other => {
                    return Err(self
                        .bad(format!("has instruction 0x{other:02x}, which no file of tensors needs; it is refused")));
                }
            }
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        match self.nodes.get_mut(top as usize) {
            Some(Node::List(list)) if list.len() + items.len() <= MAX_NODES => {
                list.extend(items);
                Ok(())
            }
            _ => Err(self.bad("appends to what is no list")),
        }
    }

    fn set(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        match self.nodes.get_mut(top as usize) {
            Some(Node::Dict(pairs)) if items.len().is_multiple_of(2) && pairs.len() <= MAX_NODES => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err(self.bad("sets an entry of what is no dictionary")),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let storage = name.strip_suffix("Storage").is_some_and(|kind| kind.bytes().all(|b| b.is_ascii_alphanumeric()));
        let node = match (module, name) {
            ("collections", "OrderedDict") => Node::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Node::Rebuild,
            ("torch" | "torch.storage", _) if storage => Node::StorageClass(name.to_owned()),
            _ => {
                return Err(
                    self.bad(format!("wants to call {module}.{name}, which no file of tensors needs; it is refused"))
                );
            }
        };
        self.push(node)
    }

    /// `("storage", class, key, device, elements)`.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let Node::List(items) = self.node(id).clone() else { return Err(self.bad("refers to no storage")) };
        let [kind, class, key, _, elements] = items.as_slice() else { return Err(self.bad("refers to no storage")) };
        match (self.node(*kind), self.node(*class), self.node(*key), self.node(*elements)) {
            (Node::Text(kind), Node::StorageClass(class), Node::Text(key), Node::Int(elements))
                if kind == "storage" && *elements >= 0 && !key.contains(['/', '\\', '.']) =>
            {
                let storage = Node::Storage { class: class.clone(), key: key.clone(), elements: *elements as u64 };
                self.push(storage)
            }
            _ => Err(self.bad("refers to no storage")),
        }
    }

    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Node::List(items) = self.node(arguments).clone() else { return Err(self.bad("calls with no arguments")) };
        match self.node(function) {
            Node::OrderedDict if items.is_empty() => self.push(Node::Dict(Vec::new())),
            Node::Rebuild => self.tensor(&items),
            _ => Err(self.bad("calls what is no function; it is refused")),
        }
    }

    /// `(storage, offset, shape, strides, requires_grad, hooks)`, and metadata in newer files.
    fn tensor(&mut self, items: &[Id]) -> Result<()> {
        let numbers = |id: Id| -> Option<Vec<u64>> {
            let Node::List(list) = self.node(id) else { return None };
            let whole = |id: &Id| if let Node::Int(n) = self.node(*id) { u64::try_from(*n).ok() } else { None };
            (list.len() <= 8).then(|| list.iter().map(whole).collect())?
        };
        let [storage, offset, shape, strides, _, hooks, ..] = items else {
            return Err(self.bad("rebuilds a tensor from too little"));
        };
        let plain = matches!(self.node(*hooks), Node::Dict(pairs) if pairs.is_empty());
        let offset = if let Node::Int(n) = self.node(*offset) { u64::try_from(*n).ok() } else { None };
        match (self.node(*storage), offset, numbers(*shape), numbers(*strides)) {
            (Node::Storage { .. }, Some(offset), Some(shape), Some(strides))
                if plain && shape.len() == strides.len() =>
            {
                self.push(Node::Tensor { storage: *storage, offset, shape, strides })
            }
            _ => Err(self.bad("rebuilds a tensor from what is none")),
        }
    }

    /// A dictionary's own attributes (`_metadata` of a state dict) are dropped.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let target = self.top()?;
        match (self.node(target), self.node(state)) {
            (Node::Dict(_), Node::Dict(_)) => Ok(()),
            _ => Err(self.bad("sets the state of an object; it is refused")),
        }
    }
}
