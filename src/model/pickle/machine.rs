//! In: the instructions of a pickle. Out: the tensors that they put into dictionaries.

use super::names::{Global, global};
use super::{Outcome, Storage, Stored};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Limits far above any checkpoint's needs; a pickle that passes them is no checkpoint.
const STACK: usize = 1 << 20;
const MEMO: usize = 1 << 20;
const DICTIONARIES: usize = 1 << 16;
const DEPTH: usize = 64;
const RANK: usize = 8;

#[derive(Clone, Debug)]
enum Value {
    /// Anything that no tensor is made of: numbers, lists, objects of training frameworks.
    Opaque,
    Integer(i64),
    Text(Rc<str>),
    /// Its parts, and how deep they are nested.
    Tuple(Rc<[Value]>, usize),
    Dictionary(usize),
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<Stored>),
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// The entries that matter: dictionaries and tensors, by name.
    dictionaries: Vec<HashMap<Rc<str>, Value>>,
}

/// The tensors of a checkpoint: those of its "state_dict" where there is one.
pub(in crate::model) fn tensors(bytes: &[u8]) -> Outcome<BTreeMap<String, Stored>> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        dictionaries: Vec::new(),
    };
    let root = machine.run().map_err(|what| format!("{what} (at byte {})", machine.at))?;
    let Value::Dictionary(mut root) = root else {
        return Err("holds no dictionary of tensors".into());
    };
    if let Some(Value::Dictionary(inner)) = machine.dictionaries[root].get("state_dict") {
        root = *inner;
    }
    let mut found = BTreeMap::new();
    for (name, value) in &machine.dictionaries[root] {
        if let Value::Tensor(stored) = value {
            stored.check().map_err(|what| format!("tensor {name} {what}"))?;
            found.insert(name.to_string(), Stored::clone(stored));
        }
    }
    Ok(found)
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Outcome<Value> {
        loop {
            if self.stack.len() > STACK || self.marks.len() > STACK || self.memo.len() > MEMO {
                return Err("is larger than any checkpoint's".into());
            }
            let code = self.byte()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Outcome<()> {
        match code {
            // PROTO, FRAME
            0x80 => {
                let version = self.byte()?;
                if !(2..=5).contains(&version) {
                    return Err(format!("has protocol {version}, wanted 2 to 5"));
                }
            }
            0x95 => drop(self.take(8)?),
            // NONE, NEWTRUE, NEWFALSE, EMPTY_LIST, EMPTY_SET, BINFLOAT
            b'N' | 0x88 | 0x89 | b']' | 0x8f => self.stack.push(Value::Opaque),
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Opaque);
            }
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let number = self.number(4)? as u32 as i32;
                self.stack.push(Value::Integer(number.into()));
            }
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            0x8a => self.long()?,
            // BINUNICODE, SHORT_BINUNICODE, BINSTRING, SHORT_BINSTRING
            b'X' | b'T' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            // BINBYTES, SHORT_BINBYTES
            b'B' => self.skip(4)?,
            b'C' => self.skip(1)?,
            // MARK, POP, POP_MARK
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.marked()?),
            // EMPTY_DICT, EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3
            b'}' => self.dictionary()?,
            b')' => self.tuple(Vec::new())?,
            b't' => {
                let parts = self.marked()?;
                self.tuple(parts)?;
            }
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(code) - 0x84);
                let parts = self.stack.split_off(start.ok_or("takes from an empty stack")?);
                self.tuple(parts)?;
            }
            // LIST, FROZENSET
            b'l' | 0x91 => {
                self.marked()?;
                self.stack.push(Value::Opaque);
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => {
                let value = self.top()?.clone();
                self.memo.insert(self.memo.len() as u32, value);
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            // GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, BUILD, BINPERSID
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.named(module, name)?;
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.named(&module, &name)?,
                _ => return Err("names something by what isn't text".into()),
            },
            b'R' | 0x81 => self.call()?,
            b'b' => drop(self.pop()?),
            b'Q' => self.storage()?,
            // APPEND, APPENDS, ADDITEMS
            b'a' => {
                self.pop()?;
                self.list()?;
            }
            b'e' | 0x90 => {
                self.marked()?;
                self.list()?;
            }
            // SETITEM, SETITEMS
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set(items)?;
            }
            _ => return Err(format!("has the instruction {code:#04x}, which no tensor needs")),
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Outcome<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..length).ok_or("ends early")?;
        self.at += length;
        Ok(bytes)
    }

    fn byte(&mut self) -> Outcome<u8> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&mut self, length: usize) -> Outcome<u64> {
        Ok(self.take(length)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn integer(&mut self, length: usize) -> Outcome<()> {
        let number = self.number(length)?;
        self.stack.push(Value::Integer(number as i64));
        Ok(())
    }

    /// An integer of any length, two's complement; one that is too long for a size is opaque.
    fn long(&mut self) -> Outcome<()> {
        let length = self.byte()?;
        let bytes = self.take(length.into())?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let fill = if negative { -1 } else { 0 };
        let value = bytes.iter().rev().fold(fill, |n: i64, &b| n << 8 | i64::from(b));
        self.stack.push(if bytes.len() <= 8 { Value::Integer(value) } else { Value::Opaque });
        Ok(())
    }

    fn text(&mut self, width: usize) -> Outcome<()> {
        let length = self.number(width)? as usize;
        let bytes = self.take(length)?;
        let value = match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.into()),
            Err(_) => Value::Opaque,
        };
        self.stack.push(value);
        Ok(())
    }

    fn skip(&mut self, width: usize) -> Outcome<()> {
        let length = self.number(width)? as usize;
        self.take(length)?;
        self.stack.push(Value::Opaque);
        Ok(())
    }

    fn line(&mut self) -> Outcome<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&b| b == b'\n').ok_or("ends early")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "has a name that isn't text".into())
    }

    /// The lowest place that may be taken from: what lies below the last mark belongs to others.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Outcome<Value> {
        if self.stack.len() <= self.floor() {
            return Err("takes from an empty stack".into());
        }
        self.stack.pop().ok_or_else(|| "takes from an empty stack".into())
    }

    fn top(&self) -> Outcome<&Value> {
        self.stack.last().ok_or_else(|| "looks at an empty stack".into())
    }

    /// What was pushed since the last mark, which is taken away.
    fn marked(&mut self) -> Outcome<Vec<Value>> {
        let start = self.marks.pop().ok_or("lacks a mark")?;
        if start > self.stack.len() {
            return Err("lacks a mark".into());
        }
        Ok(self.stack.split_off(start))
    }

    fn tuple(&mut self, parts: Vec<Value>) -> Outcome<()> {
        let depth = |part: &Value| if let Value::Tuple(_, depth) = part { *depth } else { 0 };
        let depth = 1 + parts.iter().map(depth).max().unwrap_or(0);
        if depth > DEPTH {
            return Err(format!("nests tuples more than {DEPTH} deep"));
        }
        self.stack.push(Value::Tuple(parts.into(), depth));
        Ok(())
    }

    fn dictionary(&mut self) -> Outcome<()> {
        if self.dictionaries.len() >= DICTIONARIES {
            return Err("is larger than any checkpoint's".into());
        }
        self.stack.push(Value::Dictionary(self.dictionaries.len()));
        self.dictionaries.push(HashMap::new());
        Ok(())
    }

    fn put(&mut self, width: usize) -> Outcome<()> {
        let index = self.number(width)? as u32;
        let value = self.top()?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn get(&mut self, width: usize) -> Outcome<()> {
        let index = self.number(width)? as u32;
        let value = self.memo.get(&index).ok_or("recalls what was never kept")?;
        self.stack.push(value.clone());
        Ok(())
    }

    fn named(&mut self, module: &str, name: &str) -> Outcome<()> {
        let found = global(module, name).ok_or_else(|| {
            format!(
                "names {module}.{name}, which no tensor needs: refused, and nothing was executed"
            )
        })?;
        self.stack.push(Value::Global(found));
        Ok(())
    }

    /// REDUCE and NEWOBJ. Only tensors and dictionaries are made; the rest stays without content.
    fn call(&mut self) -> Outcome<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Tuple(arguments, _) = arguments else {
            return Err("makes an object from what isn't a tuple".into());
        };
        let value = match function {
            Value::Global(Global::OrderedDict) => return self.dictionary(),
            Value::Global(Global::RebuildTensor) => rebuild(&arguments)?,
            Value::Global(Global::RebuildParameter) => {
                arguments.first().cloned().ok_or("makes a parameter of nothing")?
            }
            Value::Global(Global::Other) | Value::Opaque => Value::Opaque,
            _ => return Err("calls what isn't a function".into()),
        };
        self.stack.push(value);
        Ok(())
    }

    /// BINPERSID: ("storage", type, key, device, length).
    fn storage(&mut self) -> Outcome<()> {
        let Value::Tuple(parts, _) = self.pop()? else {
            return Err("refers to what isn't a storage".into());
        };
        let [
            Value::Text(kind),
            Value::Global(Global::Storage(dtype)),
            Value::Text(key),
            _,
            Value::Integer(length),
            ..,
        ] = &*parts
        else {
            return Err("refers to what isn't a storage".into());
        };
        let length = u64::try_from(*length).map_err(|_| "has a storage of negative length")?;
        if &**kind != "storage" {
            return Err(format!("refers to a '{kind}', wanted 'storage'"));
        }
        let storage = Storage { key: key.to_string(), dtype: *dtype, length };
        self.stack.push(Value::Storage(Rc::new(storage)));
        Ok(())
    }

    /// What is appended to has to be there, and is of no interest.
    fn list(&self) -> Outcome<()> {
        match self.top()? {
            Value::Opaque => Ok(()),
            _ => Err("appends to what isn't a list".into()),
        }
    }

    fn set(&mut self, items: Vec<Value>) -> Outcome<()> {
        let index = match self.top()? {
            Value::Dictionary(index) => *index,
            Value::Opaque => return Ok(()),
            _ => return Err("sets items of what isn't a dictionary".into()),
        };
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            if let (Value::Text(key), Value::Dictionary(_) | Value::Tensor(_)) = (key, &value) {
                self.dictionaries[index].insert(key, value);
            }
        }
        Ok(())
    }
}

/// torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...).
fn rebuild(arguments: &[Value]) -> Outcome<Value> {
    let [Value::Storage(storage), Value::Integer(offset), shape, strides, ..] = arguments else {
        return Err("makes a tensor of something else".into());
    };
    let sizes = |value: &Value| -> Outcome<Vec<usize>> {
        let Value::Tuple(parts, _) = value else {
            return Err("has a tensor without a shape".into());
        };
        let size = |part: &Value| match part {
            Value::Integer(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        parts.iter().map(size).collect::<Option<_>>().ok_or("has a tensor of an odd shape".into())
    };
    let (shape, strides) = (sizes(shape)?, sizes(strides)?);
    let offset = u64::try_from(*offset).map_err(|_| "has a tensor at a negative offset")?;
    if shape.len() != strides.len() || shape.len() > RANK {
        return Err(format!("has a tensor of shape {shape:?} with strides {strides:?}"));
    }
    let storage = Rc::clone(storage);
    Ok(Value::Tensor(Rc::new(Stored { storage, offset, shape, strides })))
}
