//! Counts the rows of a rows event without keeping them: values are passed over by the lengths that their types give.
//!
//! Bytes come in pieces of any size. What is kept is less than one bitmap.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use crate::MysqlError;
use crate::wire::reader::{Reader, text};

/// A table has no more columns than this.
const COLUMNS_MAX: u64 = 4096;

/// How many bytes a value takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Fixed(u32),
    /// That many bytes before it say.
    Told(u8),
}

/// What a rows event needs to know of its table.
#[derive(Debug)]
pub(super) struct TableShape {
    pub(super) id: u64,
    pub(super) schema: String,
    pub(super) table: String,
    /// `None` where a column is of a type this does not know.
    widths: Option<Vec<Width>>,
    json: Vec<bool>,
}

impl TableShape {
    /// Of the body of a `TABLE_MAP` event.
    pub(super) fn decode(body: &[u8]) -> Result<Self, MysqlError> {
        let mut reader = Reader::new("table map event", body);
        let id = reader.uint_le(6)?;
        reader.u16_le()?; // flags
        let mut name = || {
            let bytes = usize::from(reader.u8()?);
            let name = text(reader.take(bytes)?);
            reader.take(1)?;
            Ok::<_, MysqlError>(name)
        };
        let (schema, table) = (name()?, name()?);
        let columns = reader.lenenc()?;
        if columns > COLUMNS_MAX {
            return Err(reader.wrong(format_args!("{columns} columns")));
        }
        let kinds = reader.take(usize::try_from(columns).unwrap_or(0))?;
        let metadata = reader.lenenc_bytes()?;
        let mut metadata = Reader::new("table map event", metadata);
        let mut widths = Some(Vec::new());
        for kind in kinds {
            let width = width(*kind, &mut metadata)?;
            if let (Some(widths), Some(width)) = (&mut widths, width) {
                widths.push(width);
            } else {
                widths = None;
            }
        }
        Ok(Self {
            id,
            schema,
            table,
            widths,
            json: kinds.iter().map(|kind| *kind == JSON).collect(),
        })
    }
}

const JSON: u8 = 245;

/// `None` for a type that is not known; what comes behind it cannot be read then.
fn width(kind: u8, metadata: &mut Reader<'_>) -> Result<Option<Width>, MysqlError> {
    let told = |max: u16| Width::Told(if max > 255 { 2 } else { 1 });
    let fraction = |precision: u8| u32::from(precision).div_ceil(2);
    Ok(Some(match kind {
        1 | 13 => Width::Fixed(1),
        2 => Width::Fixed(2),
        9 | 10 | 11 | 14 => Width::Fixed(3),
        3 | 7 => Width::Fixed(4),
        8 | 12 => Width::Fixed(8),
        6 => Width::Fixed(0),
        // FLOAT and DOUBLE: the metadata is their width.
        4 | 5 => Width::Fixed(u32::from(metadata.u8()?)),
        17 => Width::Fixed(4 + fraction(metadata.u8()?)),
        18 => Width::Fixed(5 + fraction(metadata.u8()?)),
        19 => Width::Fixed(3 + fraction(metadata.u8()?)),
        // VARCHAR, VAR_STRING, and MariaDB's compressed VARCHAR.
        15 | 253 | 141 => told(metadata.u16_le()?),
        // BLOBs, JSON, GEOMETRY, VECTOR, and MariaDB's compressed BLOB.
        249..=252 | JSON | 255 | 242 | 140 => {
            let bytes = metadata.u8()?;
            if !(1..=4).contains(&bytes) {
                return Ok(None);
            }
            Width::Told(bytes)
        }
        16 => {
            let (bits, bytes) = (metadata.u8()?, metadata.u8()?);
            Width::Fixed(u32::from(bytes) + u32::from(bits > 0))
        }
        246 => {
            let (precision, scale) = (metadata.u8()?, metadata.u8()?);
            let Some(whole) = precision.checked_sub(scale) else {
                return Ok(None);
            };
            Width::Fixed(digits_bytes(whole) + digits_bytes(scale))
        }
        254 | 247 | 248 => {
            let (high, low) = (metadata.u8()?, metadata.u8()?);
            // The two bits that lengths over 255 are put into are turned round.
            let real = high | 0x30;
            match real {
                247 | 248 => Width::Fixed(u32::from(low)),
                _ => told(u16::from(low) | u16::from((high & 0x30) ^ 0x30) << 4),
            }
        }
        _ => return Ok(None),
    }))
}

/// Nine digits take four bytes, fewer take less.
fn digits_bytes(digits: u8) -> u32 {
    let rest = match digits % 9 {
        0 => 0,
        1 | 2 => 1,
        3 | 4 => 2,
        5 | 6 => 3,
        _ => 4,
    };
    u32::from(digits / 9) * 4 + rest
}

/// What is done to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowChange {
    Insert,
    Update,
    Delete,
}

#[derive(Debug)]
enum Phase {
    /// What comes before a row: `value_options` of a partial update, then the NULL bitmap.
    RowStart,
    /// The NULL bitmap, with the bitmap of partial JSON values before it.
    Bitmap { partial_bytes: usize },
    /// The length of a value, then the value.
    Value { bytes: u8 },
}

/// Reads one rows event behind its post-header and column count.
#[derive(Debug)]
pub(super) struct RowCounter {
    shape: Arc<TableShape>,
    change: RowChange,
    partial: bool,
    /// The columns of the image before and of the image after; one of them alone where there is one image.
    images: Vec<Vec<usize>>,
    image: usize,
    phase: Phase,
    /// Columns of this image that are not NULL and not read, last first.
    columns: Vec<usize>,
    kept: Vec<u8>,
    skip: u64,
    pub(super) rows: u64,
}

impl RowCounter {
    /// `present` are the bitmaps of the columns in each image. `None` where rows cannot be told apart: the table's types are
    /// not known, or an image has no columns and so takes no bytes.
    pub(super) fn new(
        shape: &Arc<TableShape>,
        change: RowChange,
        partial: bool,
        present: &[&[u8]],
        columns: usize,
    ) -> Option<Self> {
        if shape.widths.as_ref()?.len() != columns {
            return None;
        }
        let columns_of = |bitmap: &&[u8]| (0..columns).filter(|column| bit(bitmap, *column)).collect();
        let images: Vec<Vec<usize>> = present.iter().map(columns_of).collect();
        if images.iter().any(Vec::is_empty) {
            return None;
        }
        Some(Self {
            shape: Arc::clone(shape),
            change,
            partial,
            images,
            image: 0,
            phase: Phase::RowStart,
            columns: Vec::new(),
            kept: Vec::new(),
            skip: 0,
            rows: 0,
        })
    }

    pub(super) fn change(&self) -> RowChange {
        self.change
    }

    pub(super) fn shape(&self) -> &TableShape {
        &self.shape
    }

    /// Whether it stands between two rows, as it must in the end.
    pub(super) fn is_between_rows(&self) -> bool {
        self.skip == 0 && self.kept.is_empty() && self.image == 0 && matches!(self.phase, Phase::RowStart)
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.skip > 0 {
                return;
            }
            let need = self.need();
            if need > 0 {
                if bytes.is_empty() {
                    return;
                }
                let taken = need.saturating_sub(self.kept.len()).min(bytes.len());
                self.kept.extend_from_slice(bytes.get(..taken).unwrap_or_default());
                bytes = bytes.get(taken..).unwrap_or_default();
                if self.kept.len() < need {
                    return;
                }
            } else if bytes.is_empty() && self.is_between_rows() {
                return;
            }
            self.step();
            self.kept.clear();
        }
    }

    fn image_columns(&self) -> &[usize] {
        self.images.get(self.image).map_or(&[], Vec::as_slice)
    }

    fn is_partial_image(&self) -> bool {
        self.partial && self.image == 1
    }

    /// How many bytes the next step looks at.
    fn need(&self) -> usize {
        match self.phase {
            // An option is one byte; there is one option.
            Phase::RowStart => usize::from(self.is_partial_image()),
            Phase::Bitmap { partial_bytes } => partial_bytes + self.image_columns().len().div_ceil(8),
            Phase::Value { bytes } => usize::from(bytes),
        }
    }

    /// Uses what was kept.
    fn step(&mut self) {
        match self.phase {
            Phase::RowStart => {
                let has_partial = self.is_partial_image() && self.kept.first().is_some_and(|options| options & 1 != 0);
                let partial_bytes = if has_partial {
                    let json = self
                        .image_columns()
                        .iter()
                        .filter(|column| self.shape.json.get(**column) == Some(&true));
                    json.count().div_ceil(8)
                } else {
                    0
                };
                self.phase = Phase::Bitmap { partial_bytes };
            }
            Phase::Bitmap { partial_bytes } => {
                let nulls = self.kept.get(partial_bytes..).unwrap_or_default();
                let columns = self.image_columns().iter().enumerate();
                self.columns = columns
                    .filter(|(at, _)| !bit(nulls, *at))
                    .map(|(_, column)| *column)
                    .rev()
                    .collect();
                self.next_value();
            }
            Phase::Value { .. } => {
                self.skip = self
                    .kept
                    .iter()
                    .rev()
                    .fold(0, |value, byte| value << 8 | u64::from(*byte));
                self.next_value();
            }
        }
    }

    /// On to the next value that takes bytes, or the next image, or row.
    fn next_value(&mut self) {
        let widths = self.shape.widths.as_deref().unwrap_or_default();
        while let Some(column) = self.columns.pop() {
            match widths.get(column) {
                Some(Width::Told(bytes)) => {
                    self.phase = Phase::Value { bytes: *bytes };
                    return;
                }
                Some(Width::Fixed(bytes)) => self.skip += u64::from(*bytes),
                None => {}
            }
        }
        self.phase = Phase::RowStart;
        self.image += 1;
        if self.image >= self.images.len() {
            self.image = 0;
            self.rows += 1;
        }
    }
}

fn bit(bitmap: &[u8], at: usize) -> bool {
    bitmap.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}
