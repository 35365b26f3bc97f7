//! One transaction on a SQLite connection: parameters in, rows out, errors translated.

use rusqlite::{
    CachedStatement, Connection, ErrorCode, ffi,
    types::{ToSql, ToSqlOutput, ValueRef},
};

use crate::store::{Row, StoreError, Tx, Value};

/// The inside of an open transaction.
pub(super) struct SqliteTx<'c> {
    connection: &'c Connection,
}

impl<'c> SqliteTx<'c> {
    pub(super) const fn new(connection: &'c Connection) -> Self {
        Self { connection }
    }

    fn bound(&self, sql: &str, params: &[Value]) -> Result<CachedStatement<'c>, StoreError> {
        #[cfg(test)]
        crate::store::testing::statements::note(sql);
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(|e| translate(&e))?;
        bind(&mut statement, params)?;
        Ok(statement)
    }
}

impl Tx for SqliteTx<'_> {
    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.bound(sql, params)?;
        let width = statement.column_count();
        let mut rows = statement.raw_query();
        let mut fetched = Vec::new();
        while let Some(row) = rows.next().map_err(|e| translate(&e))? {
            let values = (0..width).map(|column| {
                let value = row.get_ref(column).map_err(|e| translate(&e))?;
                owned(column, value)
            });
            fetched.push(Row(values.collect::<Result<_, _>>()?));
        }
        Ok(fetched)
    }

    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, StoreError> {
        let mut statement = self.bound(sql, params)?;
        let count = if statement.column_count() == 0 {
            statement.raw_execute().map_err(|e| translate(&e))?
        } else {
            // RETURNING: each changed row comes back
            let mut rows = statement.raw_query();
            let mut count = 0;
            while rows.next().map_err(|e| translate(&e))?.is_some() {
                count += 1;
            }
            count
        };
        u64::try_from(count).map_err(|e| StoreError::failed(e.to_string()))
    }
}

/// Binds `$n` to the n-th value, whatever the order in the text. SQLite takes `$1` for a *name*, so that
/// the second name it meets has index 2 even if it is `$1`. As on PostgreSQL, every value must be used.
fn bind(statement: &mut CachedStatement<'_>, params: &[Value]) -> Result<(), StoreError> {
    let count = statement.parameter_count();
    if count != params.len() {
        return Err(StoreError::failed(format!(
            "the statement has {count} parameters but {} values came",
            params.len()
        )));
    }
    for index in 1..=count {
        let name = statement.parameter_name(index).unwrap_or("?");
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        let value = number
            .and_then(|number| params.get(number.checked_sub(1)?))
            .ok_or_else(|| {
                StoreError::failed(format!(
                    "parameter {name} isn't one of $1 to ${}",
                    params.len()
                ))
            })?;
        statement
            .raw_bind_parameter(index, Bound(value))
            .map_err(|e| translate(&e))?;
    }
    Ok(())
}

struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Text(value) => ValueRef::Text(value.as_bytes()),
            Value::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

fn owned(column: usize, value: ValueRef<'_>) -> Result<Value, StoreError> {
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(value) => Ok(Value::Int(value)),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(_) => Err(StoreError::Column {
                column,
                found: "text that isn't UTF-8",
            }),
        },
        ValueRef::Blob(bytes) => Ok(Value::Blob(bytes.to_vec())),
        ValueRef::Real(_) => Err(StoreError::Column {
            column,
            found: "real",
        }),
    }
}

/// Translates an error of the driver.
pub(super) fn translate(error: &rusqlite::Error) -> StoreError {
    let Some(sqlite) = error.sqlite_error() else {
        return StoreError::failed(error.to_string());
    };
    let text = match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        other => other.to_string(),
    };
    match sqlite.code {
        ErrorCode::ConstraintViolation => match sqlite.extended_code {
            ffi::SQLITE_CONSTRAINT_UNIQUE
            | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            | ffi::SQLITE_CONSTRAINT_ROWID => {
                let columns = text.strip_prefix("UNIQUE constraint failed: ");
                StoreError::Unique(columns.unwrap_or(&text).to_owned())
            }
            _ => StoreError::Constraint(text),
        },
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Busy(text),
        ErrorCode::SystemIoFailure
        | ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::DiskFull => StoreError::fatal(format!("{text} ({})", sqlite.extended_code)),
        ErrorCode::OperationInterrupted => {
            StoreError::failed("the transaction took too long and was stopped")
        }
        _ => StoreError::failed(format!("{text} ({})", sqlite.extended_code)),
    }
}
