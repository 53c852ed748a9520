//! Pickles of tensors, and of nothing else.
//!
//! A pickle is a program for a stack machine. This reader knows the opcodes that `torch.save` uses for dictionaries of
//! tensors, and the names they may call: `collections.OrderedDict`, `torch._utils._rebuild_tensor_v2` and torch's storage
//! classes. Nothing is imported or executed; every other opcode and name is an error that says where it is. Values are held
//! once and referred to by number, so that nothing grows by being repeated, and all counts have limits.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The longest program that is read.
pub const MAX_BYTES: usize = 64 << 20;
/// Most values, each of which takes some tens of bytes.
const MAX_NODES: usize = 4 << 20;
/// Most lists open inside each other.
const MAX_MARKS: usize = 64;
/// Longest name of a class of storages or of a storage's file: these are held once for every tensor.
const MAX_NAME: usize = 64;
/// Where the tensors of a dictionary are looked for, besides itself.
const INNER: [&str; 3] = ["model_state_dict", "state_dict", "model"];

/// A file of numbers in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Its class in torch, such as `FloatStorage`.
    pub class: String,
    /// Its file in the archive.
    pub key: String,
    /// Its elements.
    pub elements: u64,
}

/// A tensor as a part of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StridedTensor {
    /// Where its values are.
    pub storage: Storage,
    /// First element.
    pub offset: u64,
    /// Sizes.
    pub shape: Vec<u64>,
    /// Steps from one element to the next.
    pub strides: Vec<u64>,
}

/// Runs a program of at most [`MAX_BYTES`] whose result is a dictionary: the tensors in it by name. Numbers beside the tensors
/// (a step, a loss) are left out.
pub fn tensors(bytes: &[u8]) -> Result<BTreeMap<String, StridedTensor>> {
    let mut machine =
        Machine { bytes, at: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: Vec::new() };
    let root = machine.run()?;
    let dict = |id: Id| if let Node::Dict(pairs) = machine.node(id) { Some(pairs) } else { None };
    let outer = dict(root).ok_or_else(|| Error::format("it holds no dictionary of tensors"))?;
    let inner = INNER.iter().find_map(|wanted| {
        let named = |(key, _): &&(Id, Id)| matches!(machine.node(*key), Node::Text(text) if text == wanted);
        dict(outer.iter().rev().find(named)?.1)
    });
    let mut tensors = BTreeMap::new();
    for (key, value) in inner.unwrap_or(outer) {
        let (Node::Text(name), Node::Tensor(tensor)) = (machine.node(*key), machine.node(*value)) else { continue };
        if tensors.insert(name.clone(), tensor.clone()).is_some() {
            return Err(Error::format(format!("tensor {name} is there twice")));
        }
    }
    Ok(tensors)
}

/// Number of a value.
type Id = u32;

/// A value.
#[derive(Debug)]
enum Node {
    /// What no tensor is made of: `None`, a truth value, a floating point number.
    Other,
    /// A whole number.
    Int(i64),
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
    /// A class of storages by its name.
    StorageClass(String),
    /// A storage.
    Storage(Storage),
    /// A tensor.
    Tensor(StridedTensor),
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

    /// Pushes a little-endian integer of `n` bytes, in two's complement where it is `signed`.
    fn int(&mut self, n: usize, signed: bool) -> Result<()> {
        if n > 8 {
            return Err(self.bad("has a whole number of more than 8 bytes"));
        }
        let (value, unused) = (self.uint(n)?, 64 - 8 * n as u32);
        let extended = (value.checked_shl(unused).unwrap_or(0) as i64).checked_shr(unused).unwrap_or(0);
        self.push(Node::Int(if signed { extended } else { value as i64 }))
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
        self.nodes.get(id as usize).unwrap_or(&Node::Other)
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
                b'N' | 0x88 | 0x89 => self.push(Node::Other)?,
                b'K' => self.int(1, false)?,
                b'M' => self.int(2, false)?,
                b'J' => self.int(4, true)?,
                0x8a => {
                    let n = self.uint(1)? as usize;
                    self.int(n, true)?;
                }
                b'G' => {
                    self.take(8)?;
                    self.push(Node::Other)?;
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
                    let node = self.global(&module, &name)?;
                    self.push(node)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Node::Text(module), Node::Text(name)) = (self.node(module), self.node(name)) else {
                        return Err(self.bad("names something by what is no text"));
                    };
                    let node = self.global(module, name)?;
                    self.push(node)?;
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

    fn global(&self, module: &str, name: &str) -> Result<Node> {
        let class = name.strip_suffix("Storage").is_some_and(|kind| kind.bytes().all(|b| b.is_ascii_alphanumeric()));
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Node::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Node::Rebuild),
            ("torch" | "torch.storage", _) if class && name.len() <= MAX_NAME => {
                Ok(Node::StorageClass(name.to_owned()))
            }
            _ => {
                let what = format!("wants to call {module}.{name}, which no file of tensors needs; it is refused");
                Err(self.bad(what))
            }
        }
    }

    /// `("storage", class, key, device, elements)`.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let parts = match self.node(id) {
            Node::List(items) => match items.as_slice() {
                &[kind, class, key, _, elements] => [kind, class, key, elements].map(|id| self.node(id)),
                _ => return Err(self.bad("refers to no storage")),
            },
            _ => return Err(self.bad("refers to no storage")),
        };
        match parts {
            [Node::Text(kind), Node::StorageClass(class), Node::Text(key), Node::Int(elements)]
                if kind == "storage" && *elements >= 0 && key.len() <= MAX_NAME && !key.contains(['/', '\\', '.']) =>
            {
                let storage = Storage { class: class.clone(), key: key.clone(), elements: *elements as u64 };
                self.push(Node::Storage(storage))
            }
            _ => Err(self.bad("refers to no storage")),
        }
    }

    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Node::List(items) = self.node(arguments) else { return Err(self.bad("calls with no arguments")) };
        let made = match self.node(function) {
            Node::OrderedDict if items.is_empty() => Node::Dict(Vec::new()),
            Node::Rebuild => Node::Tensor(self.tensor(items)?),
            _ => return Err(self.bad("calls what is no function; it is refused")),
        };
        self.push(made)
    }

    /// `(storage, offset, shape, strides, requires_grad, hooks)`, and metadata in newer files.
    fn tensor(&self, items: &[Id]) -> Result<StridedTensor> {
        let &[storage, offset, shape, strides, _, hooks, ..] = items else {
            return Err(self.bad("rebuilds a tensor from too little"));
        };
        let whole = |id: Id| if let Node::Int(n) = self.node(id) { u64::try_from(*n).ok() } else { None };
        let numbers = |id: Id| match self.node(id) {
            Node::List(list) if list.len() <= 8 => list.iter().map(|&id| whole(id)).collect::<Option<Vec<u64>>>(),
            _ => None,
        };
        let plain = matches!(self.node(hooks), Node::Dict(pairs) if pairs.is_empty());
        match (self.node(storage), whole(offset), numbers(shape), numbers(strides)) {
            (Node::Storage(storage), Some(offset), Some(shape), Some(strides))
                if plain && shape.len() == strides.len() =>
            {
                Ok(StridedTensor { storage: storage.clone(), offset, shape, strides })
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
