//! Matching the columns of two layouts by name.

use repo_format::catalog::Layout;
use repo_format::limits;
use repo_format::record::{Field, Fields};
use repo_format::value;

use super::json;
use crate::error::Result;
use crate::repo::ObjectReader;

/// How the columns of an older and a newer layout of one collection correspond.
#[derive(Debug)]
pub(super) struct Alignment {
    /// Per column of either side: its name, and its position in each.
    columns: Vec<(String, Option<usize>, Option<usize>)>,
    /// Names of those that hold JSON as it was typed, on both sides.
    json: Vec<String>,
    rekeyed: Option<String>,
    positional: bool,
}

impl Alignment {
    pub fn new(old: &Layout, new: &Layout) -> Self {
        let position =
            |layout: &Layout, name: &str| layout.columns.iter().position(|column| column.name == name);
        let mut columns: Vec<_> = (new.columns.iter().enumerate())
            .map(|(at, column)| (column.name.clone(), position(old, &column.name), Some(at)))
            .collect();
        let gone = old.columns.iter().enumerate().filter(|(_, column)| position(new, &column.name).is_none());
        columns.extend(gone.map(|(at, column)| (column.name.clone(), Some(at), None)));
        let is_json = |layout: &Layout, name: &str| {
            layout.columns.iter().any(|column| column.name == name && column.type_name == "json")
        };
        let names = columns.iter().map(|(name, _, _)| name);
        let json = names.filter(|name| is_json(old, name) && is_json(new, name)).cloned().collect();
        // Columns added at the end change no record that is NULL in them.
        let positional = old.columns.iter().zip(&new.columns).all(|(old, new)| old.name == new.name);
        Self { columns, json, rekeyed: rekeyed(old, new), positional }
    }

    /// Whether records are equal exactly when their bytes are.
    pub fn is_positional(&self) -> bool {
        self.positional
    }

    /// Why the records cannot be matched: the key changed.
    pub fn rekeyed(&self) -> Option<&str> {
        self.rekeyed.as_deref()
    }

    /// The names of the columns in which two records differ, in the newer layout's order.
    pub fn differing(&self, old: &[u8], new: &[u8], reader: &mut ObjectReader) -> Result<Vec<String>> {
        let old: Vec<Field<'_>> = Fields::new(old).collect::<Result<_, _>>()?;
        let new: Vec<Field<'_>> = Fields::new(new).collect::<Result<_, _>>()?;
        let mut differing = Vec::new();
        for (name, old_at, new_at) in &self.columns {
            if !same(field(&old, *old_at), field(&new, *new_at), reader)? {
                differing.push(name.clone());
            }
        }
        Ok(differing)
    }

    /// A column's fields in two records; NULL where a side has no such column.
    pub fn pair<'a>(&self, column: &str, old: &[Field<'a>], new: &[Field<'a>]) -> (Field<'a>, Field<'a>) {
        let found = self.columns.iter().find(|(name, ..)| name == column);
        let (old_at, new_at) = found.map_or((None, None), |(_, old_at, new_at)| (*old_at, *new_at));
        (field(old, old_at), field(new, new_at))
    }

    /// Of the columns in which two records differ, those that hold the same JSON in another format.
    pub fn reformatted(
        &self,
        old: &[u8],
        new: &[u8],
        differing: &[String],
        reader: &mut ObjectReader,
    ) -> Result<Vec<String>> {
        let concerned: Vec<_> = (self.columns.iter())
            .filter(|(name, ..)| self.json.contains(name) && differing.contains(name))
            .collect();
        if concerned.is_empty() {
            return Ok(Vec::new());
        }
        let old: Vec<Field<'_>> = Fields::new(old).collect::<Result<_, _>>()?;
        let new: Vec<Field<'_>> = Fields::new(new).collect::<Result<_, _>>()?;
        let mut reformatted = Vec::new();
        for (name, old_at, new_at) in concerned {
            let (old, new) = (text(field(&old, *old_at), reader)?, text(field(&new, *new_at), reader)?);
            if let (Some(old), Some(new)) = (old, new)
                && json::differ_in_format_only(&old, &new)
            {
                reformatted.push(name.clone());
            }
        }
        Ok(reformatted)
    }
}

/// The bytes of a field, wherever they are; none for NULL.
fn text(field: Field<'_>, reader: &mut ObjectReader) -> Result<Option<Vec<u8>>> {
    Ok(match field {
        Field::Null => None,
        Field::Inline(bytes) => Some(bytes.to_vec()),
        Field::Out(out) => Some(value::read::<ObjectReader>(&out, limits::RECORD as u64, reader)?),
    })
}

/// A column's field: NULL where the layout has no such column, or the record ends before it.
fn field<'a>(fields: &[Field<'a>], at: Option<usize>) -> Field<'a> {
    at.and_then(|at| fields.get(at)).copied().unwrap_or(Field::Null)
}

/// Whether two fields hold the same value. A value may be moved out in one record and not in the
/// other, when other fields of its record are longer.
fn same(old: Field<'_>, new: Field<'_>, reader: &mut ObjectReader) -> Result<bool> {
    Ok(match (old, new) {
        (Field::Inline(inline), Field::Out(out)) | (Field::Out(out), Field::Inline(inline)) => {
            out.len == inline.len() as u64
                && value::read::<ObjectReader>(&out, limits::RECORD as u64, reader)? == inline
        }
        (old, new) => old == new,
    })
}

fn rekeyed(old: &Layout, new: &Layout) -> Option<String> {
    let parts = |layout: &Layout| -> Vec<_> {
        let column = |at: u32| layout.columns.get(at as usize).map(|column| column.name.clone());
        layout.key.columns.iter().map(|part| (column(part.column), part.encoding)).collect()
    };
    if parts(old) == parts(new) {
        return None;
    }
    Some(format!("the key was {} and is {}", describe(old), describe(new)))
}

fn describe(layout: &Layout) -> String {
    let names: Vec<_> = (layout.key.columns.iter())
        .filter_map(|part| layout.columns.get(part.column as usize))
        .map(|column| format!("{} {}", column.name, column.type_name))
        .collect();
    if names.is_empty() {
        "none (whole rows are compared)".to_owned()
    } else {
        format!("({})", names.join(", "))
    }
}
