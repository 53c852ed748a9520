//! Parquet, row group by row group: one batch of rows is in memory at a time.

use super::{Records, RowVisitor, Source, broken};
use crate::config::FileFormat;
use crate::error::{Error, Result};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::{Map, Value};
use std::fs::File;
use std::path::Path;

fn reader(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(|err| Error::io("reading the data", path, err))?;
    SerializedFileReader::new(file).map_err(|err| broken(path, "Parquet", &err))
}

pub(super) fn open(path: &Path) -> Result<Records> {
    let reader = reader(path)?;
    let about = reader.metadata().file_metadata();
    let columns = about.schema_descr().root_schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
    let stored = format!("Parquet (rows: {})", about.num_rows());
    Ok(Records { format: FileFormat::Parquet, stored, columns, source: Source::Parquet(path.to_path_buf()) })
}

pub(super) fn visit(path: &Path, visit: &mut RowVisitor<'_>) -> Result<()> {
    let reader = reader(path)?;
    let rows = reader.get_row_iter(None).map_err(|err| broken(path, "Parquet", &err))?;
    for (index, row) in rows.enumerate() {
        let row = row.map_err(|err| broken(path, "Parquet", &err))?;
        let object = match row.to_json_value() {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        if visit(index + 1, object)?.is_break() {
            break;
        }
    }
    Ok(())
}
