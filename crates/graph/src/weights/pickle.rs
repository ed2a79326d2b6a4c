//! A reader for the pickles inside PyTorch files. It builds dicts, lists, tuples and *descriptions* of tensors; it can call nothing.
//!
//! Opcodes and globals are allow-listed; anything else is refused by name. Containers live in an arena and are referred to by index, so
//! that a pickle of any depth is read, compared and dropped without recursion.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::dtype::Dtype;

/// Index of a container in [`Pickle::lists`] or [`Pickle::dicts`].
type Index = usize;

/// A storage of `numel` values in the file's entry `key`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    pub key: Rc<str>,
    pub dtype: Dtype,
    pub numel: u64,
}

/// A view into a storage; sizes, strides and offset count values and are not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorView {
    pub storage: Rc<Storage>,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `None`, and whatever a state dict is read without: floats, bytes, devices.
    Opaque,
    Int(i64),
    Str(Rc<str>),
    /// Tuples and lists.
    Sequence(Index),
    Dict(Index),
    Callable(Callable),
    StorageType(Dtype),
    Storage(Rc<Storage>),
    Tensor(Rc<TensorView>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callable {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Device,
}

/// Why a pickle is not read.
#[derive(Debug)]
pub(super) enum PickleError {
    /// It wants what is not allowed: a phrase with the opcode or global.
    Refused(String),
    /// It is no pickle.
    Malformed(String),
}

/// A read pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub root: Value,
    pub dicts: Vec<Vec<(Value, Value)>>,
    pub lists: Vec<Vec<Value>>,
    /// Every storage that is named, in order, repetitions included.
    pub storages: Vec<Rc<Storage>>,
    /// Bytes read.
    pub length: usize,
}

/// Reads a pickle to its end.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle, PickleError> {
    let mut reader = Reader {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        dicts: Vec::new(),
        lists: Vec::new(),
        storages: Vec::new(),
    };
    loop {
        let [opcode] = reader.array()?;
        if opcode == b'.' {
            let root = reader.pop()?;
            return Ok(Pickle { root, dicts: reader.dicts, lists: reader.lists, storages: reader.storages, length: reader.at });
        }
        reader.step(opcode)?;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    dicts: Vec<Vec<(Value, Value)>>,
    lists: Vec<Vec<Value>>,
    storages: Vec<Rc<Storage>>,
}

fn malformed(problem: impl Into<String>) -> PickleError {
    PickleError::Malformed(problem.into())
}

impl Reader<'_> {
    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            // PROTO and FRAME say nothing that is needed.
            0x80 => self.skip(1),
            0x95 => self.skip(8),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => self.top().cloned().and_then(|v| self.push(v)),
            b'N' | b'}' | b']' | b')' | b'd' | b'l' | b't' | 0x85..=0x89 => self.container_or_constant(opcode),
            b'J' | b'K' | b'M' | b'G' | 0x8a | b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e => self.literal(opcode),
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.memo(opcode),
            b's' | b'u' | b'a' | b'e' => self.fill(opcode),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = global(&module, &name)?;
                self.push(global)
            }
            0x93 => {
                let (name, module) = (self.string()?, self.string()?);
                let global = global(&module, &name)?;
                self.push(global)
            }
            b'Q' => {
                let id = self.sequence()?;
                let storage = Rc::new(storage(&id)?);
                self.storages.push(Rc::clone(&storage));
                self.push(Value::Storage(storage))
            }
            b'R' => self.reduce(),
            b'b' => self.build(),
            other => Err(PickleError::Refused(match opcode_name(other) {
                Some(name) => format!("run the opcode {name}"),
                None => format!("run the unknown opcode {other:#04x}"),
            })),
        }
    }

    fn container_or_constant(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b'N' => Value::Opaque,
            0x88 => Value::Int(1),
            0x89 => Value::Int(0),
            b'}' => self.new_dict(Vec::new()),
            b']' | b')' => self.new_list(Vec::new()),
            b'd' => {
                let items = self.pop_mark()?;
                let pairs = pairs(items)?;
                self.new_dict(pairs)
            }
            b'l' | b't' => {
                let items = self.pop_mark()?;
                self.new_list(items)
            }
            _ => {
                let count = usize::from(opcode - 0x84);
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                self.new_list(items)
            }
        };
        self.push(value)
    }

    fn literal(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            0x8a => self.long()?,
            b'G' => {
                self.skip(8)?;
                Value::Opaque
            }
            b'X' | b'T' => {
                let n = u32::from_le_bytes(self.array()?).into();
                self.text(n)?
            }
            0x8c | b'U' => {
                let n = u8::from_le_bytes(self.array()?).into();
                self.text(n)?
            }
            0x8d => {
                let n = u64::from_le_bytes(self.array()?);
                self.text(n)?
            }
            _ => {
                let n = match opcode {
                    b'C' => u8::from_le_bytes(self.array()?).into(),
                    b'B' => u32::from_le_bytes(self.array()?).into(),
                    _ => u64::from_le_bytes(self.array()?),
                };
                self.skip(usize::try_from(n).unwrap_or(usize::MAX))?;
                Value::Opaque
            }
        };
        self.push(value)
    }

    /// LONG1: little-endian two's complement; more than 8 bytes is a number that no shape holds.
    fn long(&mut self) -> Result<Value, PickleError> {
        let [n] = self.array()?;
        let bytes = self.take(n.into())?;
        if bytes.len() > 8 {
            return Ok(Value::Opaque);
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(whole)))
    }

    fn memo(&mut self, opcode: u8) -> Result<(), PickleError> {
        let key = match opcode {
            b'q' | b'h' => u8::from_le_bytes(self.array()?).into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).map_err(|_| malformed("the memo is too large"))?,
        };
        if matches!(opcode, b'h' | b'j') {
            let value = self.memo.get(&key).cloned().ok_or_else(|| malformed(format!("memo {key} is read before it is written")))?;
            self.push(value)
        } else {
            let value = self.top()?.clone();
            self.memo.insert(key, value);
            Ok(())
        }
    }

    /// SETITEM, SETITEMS, APPEND, APPENDS.
    fn fill(&mut self, opcode: u8) -> Result<(), PickleError> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.pop_mark()?,
        };
        match (opcode, self.top()?) {
            (b's' | b'u', &Value::Dict(index)) => self.dicts[index].extend(pairs(items)?),
            (b'a' | b'e', &Value::Sequence(index)) => self.lists[index].extend(items),
            _ => return Err(malformed("items are added to what is no dict or list")),
        }
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), PickleError> {
        let arguments = self.sequence()?;
        let Value::Callable(callable) = self.pop()? else {
            return Err(malformed("it calls what cannot be called"));
        };
        let result = match (callable, arguments.as_slice()) {
            (Callable::OrderedDict, []) => self.new_dict(Vec::new()),
            (
                Callable::RebuildTensor,
                [Value::Storage(storage), Value::Int(offset), Value::Sequence(shape), Value::Sequence(strides), ..],
            ) => {
                let view = TensorView {
                    storage: Rc::clone(storage),
                    offset: *offset,
                    shape: self.integers(*shape)?,
                    strides: self.integers(*strides)?,
                };
                Value::Tensor(Rc::new(view))
            }
            (Callable::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => tensor.clone(),
            (Callable::Size, [sequence @ Value::Sequence(_)]) => sequence.clone(),
            (Callable::Device, _) => Value::Opaque,
            (callable, _) => return Err(malformed(format!("unexpected arguments of {callable:?}"))),
        };
        self.push(result)
    }

    /// BUILD sets attributes; a state dict's (`_metadata`) carry no weights.
    fn build(&mut self) -> Result<(), PickleError> {
        self.pop()?;
        match self.top()? {
            Value::Dict(_) => Ok(()),
            _ => Err(PickleError::Refused("set the state of an object (opcode BUILD)".into())),
        }
    }

    fn integers(&self, index: Index) -> Result<Vec<i64>, PickleError> {
        let integer = |value: &Value| match value {
            Value::Int(i) => Ok(*i),
            _ => Err(malformed("a tensor's shape or stride is no integer")),
        };
        self.short(index)?.iter().map(integer).collect()
    }

    /// A tuple of arguments or sizes; the limit keeps a small pickle from copying a long list many times.
    fn short(&self, index: Index) -> Result<&Vec<Value>, PickleError> {
        Some(&self.lists[index]).filter(|list| list.len() <= 64).ok_or_else(|| malformed("a tuple of arguments or sizes is too long"))
    }

    fn new_dict(&mut self, items: Vec<(Value, Value)>) -> Value {
        self.dicts.push(items);
        Value::Dict(self.dicts.len() - 1)
    }

    fn new_list(&mut self, items: Vec<Value>) -> Value {
        self.lists.push(items);
        Value::Sequence(self.lists.len() - 1)
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        self.stack.push(value);
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<&Value, PickleError> {
        let above_mark = self.stack.len() > self.floor();
        self.stack.last().filter(|_| above_mark).ok_or_else(|| malformed("the stack is empty"))
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        self.top()?;
        self.stack.pop().ok_or_else(|| malformed("the stack is empty"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| malformed("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn sequence(&mut self) -> Result<Vec<Value>, PickleError> {
        match self.pop()? {
            Value::Sequence(index) => Ok(self.short(index)?.clone()),
            _ => Err(malformed("expected a tuple")),
        }
    }

    fn string(&mut self) -> Result<Rc<str>, PickleError> {
        match self.pop()? {
            Value::Str(text) => Ok(text),
            _ => Err(malformed("expected a string")),
        }
    }

    fn take(&mut self, n: usize) -> Result<&[u8], PickleError> {
        let bytes = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| malformed("it ends in the middle"))?;
        self.at += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        self.take(N)?.try_into().map_err(|_| malformed("it ends in the middle"))
    }

    fn skip(&mut self, n: usize) -> Result<(), PickleError> {
        self.take(n).map(drop)
    }

    fn text(&mut self, n: u64) -> Result<Value, PickleError> {
        let bytes = self.take(usize::try_from(n).unwrap_or(usize::MAX))?;
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("a string is not UTF-8"))?;
        Ok(Value::Str(text.into()))
    }

    fn line(&mut self) -> Result<Rc<str>, PickleError> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|&b| b == b'\n').ok_or_else(|| malformed("it ends in the middle"))?;
        let Value::Str(line) = self.text(n as u64)? else { return Err(malformed("expected a string")) };
        self.at += 1;
        Ok(line)
    }
}

fn pairs(items: Vec<Value>) -> Result<Vec<(Value, Value)>, PickleError> {
    if !items.len().is_multiple_of(2) {
        return Err(malformed("a dict has a key without a value"));
    }
    let mut items = items.into_iter();
    Ok(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect())
}

/// The allow-list of globals.
fn global(module: &str, name: &str) -> Result<Value, PickleError> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Value::Callable(Callable::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Value::Callable(Callable::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Value::Callable(Callable::RebuildParameter),
        ("torch", "Size") => Value::Callable(Callable::Size),
        ("torch", "device") => Value::Callable(Callable::Device),
        _ => {
            let dtype = if module == "torch" { Dtype::of_torch_storage(name) } else { None };
            let refused = || PickleError::Refused(format!("call {:?}", format!("{module}.{name}")));
            Value::StorageType(dtype.ok_or_else(refused)?)
        }
    })
}

/// `("storage", torch.FloatStorage, "0", "cpu", 12)`, PyTorch's persistent id; the legacy format adds a `None`.
fn storage(id: &[Value]) -> Result<Storage, PickleError> {
    match id {
        [Value::Str(kind), Value::StorageType(dtype), Value::Str(key), Value::Str(_), Value::Int(numel)]
        | [Value::Str(kind), Value::StorageType(dtype), Value::Str(key), Value::Str(_), Value::Int(numel), Value::Opaque]
            if &**kind == "storage" =>
        {
            let numel = u64::try_from(*numel).map_err(|_| malformed(format!("storage {key:?} has {numel} values")))?;
            Ok(Storage { key: Rc::clone(key), dtype: *dtype, numel })
        }
        _ => Err(malformed("a persistent id is no whole storage of a known type")),
    }
}

/// Names of the opcodes that are not allowed, as Python's `pickletools` spells them.
fn opcode_name(opcode: u8) -> Option<&'static str> {
    Some(match opcode {
        b'I' => "INT",
        b'L' => "LONG",
        b'F' => "FLOAT",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'P' => "PERSID",
        b'i' => "INST",
        b'o' => "OBJ",
        b'p' => "PUT",
        b'g' => "GET",
        0x81 => "NEWOBJ",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x8b => "LONG4",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return None,
    })
}
