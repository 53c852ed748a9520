//! Arrow: the file format (Feather 2) and streams (what Hugging Face's `datasets` caches), one record batch at a time.

use super::{Records, RowVisitor, Source, broken};
use crate::config::FileFormat;
use crate::error::{Error, Result};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowDictionaryKeyType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, DataType, Schema};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

/// The batches of a file of either kind.
type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>>>;

fn batches(path: &Path) -> Result<(Schema, Batches, &'static str)> {
    let failed = |err| Error::io("reading the data", path, err);
    let wrong = |err: ArrowError| broken(path, "Arrow", &err);
    let mut start = [0; 6];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).map_err(failed)?;
    let file = BufReader::new(File::open(path).map_err(failed)?);
    if &start == b"ARROW1" {
        let reader = FileReader::try_new(file, None).map_err(wrong)?;
        Ok((reader.schema().as_ref().clone(), Box::new(reader), "Arrow"))
    } else {
        let reader = StreamReader::try_new(file, None).map_err(wrong)?;
        Ok((reader.schema().as_ref().clone(), Box::new(reader), "an Arrow stream"))
    }
}

pub(super) fn is_stream(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| StreamReader::try_new(BufReader::new(file), None).is_ok())
}

pub(super) fn open(path: &Path) -> Result<Records> {
    let (schema, _, stored) = batches(path)?;
    let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
    let source = Source::Arrow(path.to_path_buf());
    Ok(Records { format: FileFormat::Arrow, stored: stored.to_owned(), columns, source })
}

pub(super) fn visit(path: &Path, visit: &mut RowVisitor<'_>) -> Result<()> {
    let (schema, batches, _) = batches(path)?;
    let mut number = 0;
    for batch in batches {
        let batch = batch.map_err(|err| broken(path, "Arrow", &err))?;
        for row in 0..batch.num_rows() {
            number += 1;
            let mut object = Map::new();
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                let cell = cell(column, row).map_err(|kind| {
                    Error::data(format!(
                        "the column {:?} is of the type {kind}, which is not read here; leave it out, or save it as text: {}",
                        field.name(),
                        path.display()
                    ))
                })?;
                object.insert(field.name().clone(), cell);
            }
            if visit(number, object)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// One cell as JSON, or the type that is not read.
fn cell(column: &ArrayRef, row: usize) -> std::result::Result<Value, String> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    // NaN is a missing number.
    let number = |value: f64| serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number);
    Ok(match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => number(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => number(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::List(_) => list(&column.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let columns = column.as_struct();
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(columns.columns()) {
                object.insert(field.name().clone(), cell(column, row)?);
            }
            Value::Object(object)
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let mut object = Map::new();
            for entry in 0..entries.len() {
                let [key, value] = [0, 1].map(|at| cell(entries.column(at), entry));
                let key = key?;
                object.insert(key.as_str().map_or_else(|| key.to_string(), str::to_owned), value?);
            }
            Value::Object(object)
        }
        DataType::Dictionary(key, _) => match key.as_ref() {
            DataType::Int8 => named::<Int8Type>(column, row)?,
            DataType::Int16 => named::<Int16Type>(column, row)?,
            DataType::Int32 => named::<Int32Type>(column, row)?,
            DataType::Int64 => named::<Int64Type>(column, row)?,
            DataType::UInt8 => named::<UInt8Type>(column, row)?,
            DataType::UInt16 => named::<UInt16Type>(column, row)?,
            DataType::UInt32 => named::<UInt32Type>(column, row)?,
            other => return Err(other.to_string()),
        },
        // Dates and binary data are no text to learn from, and stand beside it in many files.
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => json!(null),
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => {
            json!(null)
        }
        other => return Err(other.to_string()),
    })
}

fn list(items: &ArrayRef) -> std::result::Result<Value, String> {
    (0..items.len()).map(|item| cell(items, item)).collect()
}

/// A value of a dictionary, such as pandas writes for categories.
fn named<K: ArrowDictionaryKeyType>(column: &ArrayRef, row: usize) -> std::result::Result<Value, String> {
    let dictionary = column.as_dictionary::<K>();
    dictionary.key(row).map_or(Ok(Value::Null), |key| cell(dictionary.values(), key))
}
