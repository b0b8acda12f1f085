//! The values of a snapshot, type by type: read to their end, counted, and digested.
//!
//! Long strings and long collections pass element by element; a small packed container is held as a whole. The numbers
//! of the types are the server's. 22 means one thing to Redis and another to Valkey.
#![deny(clippy::indexing_slicing)]

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::digest::{ContentDigest, Hash, Sum};
use super::input::Input;
use super::packed::{self, Fault, Item};
use super::streams;
use crate::{Flavour, RedisError};

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
    Module,
}

/// What was found in one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) kind: KeyKind,
    /// Elements, pairs or entries; 1 for a string.
    pub(crate) elements: u64,
    /// Fields with an expiry of their own.
    pub(crate) expiring_fields: u64,
    /// The number of the module whose value it is.
    pub(crate) module: Option<u64>,
    pub(crate) digest: ContentDigest,
}

/// Reads values one after the other, with buffers that are used again.
pub(crate) struct ValueReader {
    flavour: Flavour,
    /// Fields that expire at or before this moment (milliseconds) count as gone.
    gone_until: i64,
    pub(crate) ordered: Hash,
    element: Hash,
    sum: Sum,
    count: u64,
    expiring_fields: u64,
    module: Option<u64>,
    pub(crate) whole: Vec<u8>,
    pub(crate) name: Vec<u8>,
}

impl ValueReader {
    pub(crate) fn new(flavour: Flavour, gone_until: i64) -> Self {
        Self {
            flavour,
            gone_until,
            ordered: Hash::default(),
            element: Hash::default(),
            sum: Sum::default(),
            count: 0,
            expiring_fields: 0,
            module: None,
            whole: Vec::new(),
            name: Vec::new(),
        }
    }

    pub(crate) fn read<R: Read>(&mut self, code: u8, input: &mut Input<R>) -> Result<Value, RedisError> {
        (self.sum, self.count, self.expiring_fields, self.module) = (Sum::default(), 0, 0, None);
        let kind = match code {
            0 => self.string(input)?,
            1 => self.texts(input, KeyKind::List)?,
            2 => self.texts(input, KeyKind::Set)?,
            3 | 5 => self.sorted_set(input, code == 5)?,
            4 => self.hash(input, FieldExpiry::None)?,
            7 => self.module(input)?,
            9..=13 | 16 | 17 | 20 => self.packed(input, code)?,
            14 | 18 => self.quick_list(input, code == 18)?,
            15 | 19 | 21 => {
                self.count = streams::read(input, code, self)?;
                KeyKind::Stream
            }
            22 if self.flavour == Flavour::Valkey => self.hash(input, FieldExpiry::Behind)?,
            22 | 24 if self.flavour == Flavour::Redis => {
                let base = if code == 24 { Some(first_expiry(input)?) } else { None };
                self.hash(input, FieldExpiry::Before { base })?
            }
            23 | 25 if self.flavour == Flavour::Redis => {
                if code == 25 {
                    first_expiry(input)?;
                }
                self.packed(input, 25)?
            }
            _ => {
                return Err(RedisError::Unsupported {
                    what: format!(
                        "a value of a type that is unknown here ({code}) at byte {}",
                        input.offset()
                    ),
                    hint: "the server may be newer than this program: look for a newer release of it".to_owned(),
                });
            }
        };
        self.ordered.number(kind as u64);
        match kind {
            KeyKind::Set | KeyKind::SortedSet | KeyKind::Hash => {
                self.ordered.number(self.count);
                let sum = self.sum.digest();
                self.ordered.digest(&sum);
            }
            KeyKind::String | KeyKind::List | KeyKind::Stream | KeyKind::Module => {}
        }
        Ok(Value {
            kind,
            elements: self.count,
            expiring_fields: self.expiring_fields,
            module: self.module,
            digest: self.ordered.finish(),
        })
    }

    fn string<R: Read>(&mut self, input: &mut Input<R>) -> Result<KeyKind, RedisError> {
        let form = input.form("a string")?;
        self.ordered.number(form.length());
        input.string(form, "a string", |portion| self.ordered.portion(portion))?;
        self.count = 1;
        Ok(KeyKind::String)
    }

    /// Reads one string into the element's hash, its length first.
    fn element_text<R: Read>(&mut self, input: &mut Input<R>, reading: &'static str) -> Result<(), RedisError> {
        let form = input.form(reading)?;
        self.element.number(form.length());
        input.string(form, reading, |portion| self.element.portion(portion))
    }

    /// Counts the element that was hashed.
    fn end_element(&mut self, is_gone: bool) {
        let digest = self.element.finish();
        if !is_gone {
            self.sum.add(&digest);
            self.count += 1;
        }
    }

    fn texts<R: Read>(&mut self, input: &mut Input<R>, kind: KeyKind) -> Result<KeyKind, RedisError> {
        for _ in 0..input.length("the number of elements")? {
            self.element_text(input, "an element")?;
            if kind == KeyKind::List {
                self.next_in_list();
            } else {
                self.end_element(false);
            }
        }
        Ok(kind)
    }

    fn next_in_list(&mut self) {
        let digest = self.element.finish();
        self.ordered.digest(&digest);
        self.count += 1;
    }

    fn sorted_set<R: Read>(&mut self, input: &mut Input<R>, binary: bool) -> Result<KeyKind, RedisError> {
        for _ in 0..input.length("the number of members")? {
            self.element_text(input, "a member")?;
            let score = if binary {
                f64::from_le_bytes(input.array("a score")?)
            } else {
                self.written_score(input)?
            };
            self.element.score(score);
            self.end_element(false);
        }
        Ok(KeyKind::SortedSet)
    }

    /// A score in digits, its length before it; three lengths stand for what has no digits.
    fn written_score<R: Read>(&mut self, input: &mut Input<R>) -> Result<f64, RedisError> {
        match input.byte("a score")? {
            253 => Ok(f64::NAN),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            length => {
                self.whole.clear();
                input.take(u64::from(length), "a score", |portion| {
                    self.whole.extend_from_slice(portion);
                })?;
                let score = Item::Bytes(&self.whole).score();
                score.ok_or_else(|| input.damaged("a score is no number"))
            }
        }
    }

    fn hash<R: Read>(&mut self, input: &mut Input<R>, expiry: FieldExpiry) -> Result<KeyKind, RedisError> {
        for _ in 0..input.length("the number of fields")? {
            let mut until = None;
            if let FieldExpiry::Before { base } = expiry {
                let stored = input.length("a field's expiry")?;
                // With a base, what is stored is one more than the distance from it, and 0 is no expiry.
                until = match (i64::try_from(stored), base) {
                    (Ok(0), _) => None,
                    (Ok(after), Some(base)) => base.checked_add(after - 1),
                    (Ok(at), None) => Some(at),
                    (Err(_), _) => return Err(input.damaged("a field's expiry is no moment")),
                };
            }
            self.element_text(input, "a field")?;
            self.element_text(input, "a field's value")?;
            if matches!(expiry, FieldExpiry::Behind) {
                let stored = i64::from_le_bytes(input.array("a field's expiry")?);
                until = (stored != -1).then_some(stored);
            }
            self.end_field(until);
        }
        Ok(KeyKind::Hash)
    }

    fn end_field(&mut self, until: Option<i64>) {
        let is_gone = until.is_some_and(|until| until <= self.gone_until);
        self.element.signed(until.unwrap_or(-1));
        self.expiring_fields += u64::from(until.is_some() && !is_gone);
        self.end_element(is_gone);
    }

    /// Containers in one string.
    fn packed<R: Read>(&mut self, input: &mut Input<R>, code: u8) -> Result<KeyKind, RedisError> {
        let mut whole = std::mem::take(&mut self.whole);
        input.whole(&mut whole, "a packed container")?;
        let read = match code {
            9 => self.packed_hash(|each| packed::zip_map(&whole, each)),
            10 => packed::zip_list(&whole, |item| self.packed_list_item(item)).map(|_| KeyKind::List),
            11 => packed::integer_set(&whole, |item| self.packed_member(item)).map(|_| KeyKind::Set),
            20 => packed::list_pack(&whole, |item| self.packed_member(item)).map(|_| KeyKind::Set),
            12 => self.packed_sorted_set(|each| packed::zip_list(&whole, each)),
            17 => self.packed_sorted_set(|each| packed::list_pack(&whole, each)),
            13 => self.packed_hash(|each| packed::zip_list(&whole, each)),
            16 => self.packed_hash(|each| packed::list_pack(&whole, each)),
            _ => self.packed_expiring_hash(&whole),
        };
        self.whole = whole;
        read.map_err(|fault| input.damaged(fault))
    }

    fn packed_list_item(&mut self, item: Item<'_>) -> Result<(), Fault> {
        self.element.text(item.as_bytes());
        self.next_in_list();
        Ok(())
    }

    fn packed_member(&mut self, item: Item<'_>) -> Result<(), Fault> {
        self.element.text(item.as_bytes());
        self.end_element(false);
        Ok(())
    }

    fn packed_sorted_set(
        &mut self,
        read: impl FnOnce(&mut dyn FnMut(Item<'_>) -> Result<(), Fault>) -> Result<u64, Fault>,
    ) -> Result<KeyKind, Fault> {
        let mut is_score = false;
        read(&mut |item| {
            if is_score {
                let score = item.score().ok_or_else(|| "a score is no number".to_owned())?;
                self.element.score(score);
                self.end_element(false);
            } else {
                self.element.text(item.as_bytes());
            }
            is_score = !is_score;
            Ok(())
        })?;
        if is_score {
            return Err("a member has no score".to_owned());
        }
        Ok(KeyKind::SortedSet)
    }

    fn packed_hash(
        &mut self,
        read: impl FnOnce(&mut dyn FnMut(Item<'_>) -> Result<(), Fault>) -> Result<u64, Fault>,
    ) -> Result<KeyKind, Fault> {
        let mut is_value = false;
        read(&mut |item| {
            self.element.text(item.as_bytes());
            if is_value {
                self.end_field(None);
            }
            is_value = !is_value;
            Ok(())
        })?;
        if is_value {
            return Err("a field has no value".to_owned());
        }
        Ok(KeyKind::Hash)
    }

    /// Field, value and expiry in turn; 0 is none.
    fn packed_expiring_hash(&mut self, whole: &[u8]) -> Result<KeyKind, Fault> {
        let mut place = 0;
        packed::list_pack(whole, |item| {
            if place < 2 {
                self.element.text(item.as_bytes());
                place += 1;
                return Ok(());
            }
            place = 0;
            let until = item.integer().filter(|until| *until >= 0);
            let until = until.ok_or_else(|| "a field's expiry is no moment".to_owned())?;
            self.end_field((until != 0).then_some(until));
            Ok(())
        })?;
        if place != 0 {
            return Err("a field has no expiry".to_owned());
        }
        Ok(KeyKind::Hash)
    }

    fn quick_list<R: Read>(&mut self, input: &mut Input<R>, second: bool) -> Result<KeyKind, RedisError> {
        for _ in 0..input.length("the number of nodes")? {
            let container = if second { input.length("a node's container")? } else { 0 };
            match (second, container) {
                // One element that is too long for a pack.
                (true, 1) => {
                    self.element_text(input, "an element")?;
                    self.next_in_list();
                }
                (true, 2) | (false, _) => {
                    let mut whole = std::mem::take(&mut self.whole);
                    input.whole(&mut whole, "a list's node")?;
                    let read = if second {
                        packed::list_pack(&whole, |item| self.packed_list_item(item))
                    } else {
                        packed::zip_list(&whole, |item| self.packed_list_item(item))
                    };
                    self.whole = whole;
                    read.map_err(|fault| input.damaged(fault))?;
                }
                (true, _) => return Err(input.damaged(format!("a list's node in a container {container}"))),
            }
        }
        Ok(KeyKind::List)
    }

    /// A module's value: what it is made of is known, what it means is not.
    fn module<R: Read>(&mut self, input: &mut Input<R>) -> Result<KeyKind, RedisError> {
        let id = input.length("a module's number")?;
        self.module = Some(id);
        self.ordered.number(id);
        self.module_parts(input)?;
        self.count = 1;
        Ok(KeyKind::Module)
    }

    /// The parts a module wrote, up to their end.
    pub(crate) fn module_parts<R: Read>(&mut self, input: &mut Input<R>) -> Result<(), RedisError> {
        const READING: &str = "a module's value";
        loop {
            let part = input.length(READING)?;
            self.ordered.number(part);
            match part {
                0 => return Ok(()),
                1 | 2 => {
                    let number = input.length(READING)?;
                    self.ordered.number(number);
                }
                3 => {
                    let float: [u8; 4] = input.array(READING)?;
                    self.ordered.portion(&float);
                }
                4 => {
                    let double: [u8; 8] = input.array(READING)?;
                    self.ordered.portion(&double);
                }
                5 => {
                    let form = input.form(READING)?;
                    self.ordered.number(form.length());
                    input.string(form, READING, |portion| self.ordered.portion(portion))?;
                }
                _ => return Err(input.damaged(format!("a module's value has a part of kind {part}"))),
            }
        }
    }
}

/// Where a field's own expiry stands.
#[derive(Clone, Copy)]
enum FieldExpiry {
    None,
    Before { base: Option<i64> },
    Behind,
}

/// The earliest expiry of a hash's fields.
fn first_expiry<R: Read>(input: &mut Input<R>) -> Result<i64, RedisError> {
    Ok(i64::from_le_bytes(input.array("the first expiry")?))
}
