//! One transaction on a PostgreSQL connection: values are bound by the types the statement wants, rows come back in the
//! portable subset.

use std::{error::Error as StdError, time::Duration};

use deadpool_postgres::Transaction;
use tokio::{runtime::Handle, time::timeout};
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

use super::errors::translate;
use crate::store::{Row, StoreError, Tx, Value};

/// Longer than the server's own limit on a statement, so that this one means that the server is gone.
pub(super) const REPLY_LIMIT: Duration = Duration::from_secs(35);

/// The inside of an open transaction. Blocks its thread, which therefore isn't one of the runtime's.
pub(super) struct PgTx<'a> {
    handle: &'a Handle,
    tx: &'a Transaction<'a>,
    lost: bool,
}

impl<'a> PgTx<'a> {
    pub(super) const fn new(handle: &'a Handle, tx: &'a Transaction<'a>) -> Self {
        Self {
            handle,
            tx,
            lost: false,
        }
    }

    /// Whether the connection is of no more use.
    pub(super) const fn lost(&self) -> bool {
        self.lost
    }

    fn run<T, F>(&mut self, call: impl FnOnce(&'a Transaction<'a>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let reply = wait(self.handle, call(self.tx));
        self.lost |= matches!(&reply, Err(NoReply::Late | NoReply::Lost(_)));
        reply.map_err(StoreError::from)
    }
}

/// Why there is no good answer of the server.
pub(super) enum NoReply {
    /// It said no.
    Refused(tokio_postgres::Error),
    /// The connection broke.
    Lost(tokio_postgres::Error),
    /// It said nothing for [`REPLY_LIMIT`].
    Late,
}

impl From<NoReply> for StoreError {
    fn from(reply: NoReply) -> Self {
        match reply {
            NoReply::Refused(error) | NoReply::Lost(error) => translate(&error),
            NoReply::Late => Self::failed("the server doesn't answer"),
        }
    }
}

/// Waits for the server on a thread that may block.
pub(super) fn wait<T>(
    handle: &Handle,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, NoReply> {
    match handle.block_on(async { timeout(REPLY_LIMIT, call).await }) {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) if super::errors::is_lost(&error) => Err(NoReply::Lost(error)),
        Ok(Err(error)) => Err(NoReply::Refused(error)),
        Err(_) => Err(NoReply::Late),
    }
}

impl Tx for PgTx<'_> {
    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let bound: Vec<_> = params.iter().map(Bound).collect();
        let rows = self.run(|tx| async {
            let statement = tx.prepare_cached(sql).await?;
            tx.query(&statement, &parameters(&bound)).await
        })?;
        rows.iter().map(fetched).collect()
    }

    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, StoreError> {
        let bound: Vec<_> = params.iter().map(Bound).collect();
        self.run(|tx| async {
            let statement = tx.prepare_cached(sql).await?;
            tx.execute(&statement, &parameters(&bound)).await
        })
    }
}

fn parameters<'a>(bound: &'a [Bound<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    bound.iter().map(|it| it as &(dyn ToSql + Sync)).collect()
}

#[derive(Debug)]
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        wanted: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match (self.0, wanted) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Int(value), &Type::INT8) => value.to_sql(wanted, out),
            (Value::Int(value), &Type::INT4) => i32::try_from(*value)?.to_sql(wanted, out),
            (Value::Text(value), &Type::TEXT | &Type::VARCHAR) => value.to_sql(wanted, out),
            (Value::Blob(value), &Type::BYTEA) => value.to_sql(wanted, out),
            (value, _) => {
                Err(format!("the statement wants {wanted} where {} came", value.kind()).into())
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        // whether a value fits is seen in `to_sql`: a null fits everywhere
        true
    }

    to_sql_checked!();
}

fn fetched(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let columns = row.columns().iter().enumerate();
    let values = columns.map(|(index, column)| {
        let unexpected = |found| StoreError::Column {
            column: index,
            found,
        };
        let value = match *column.type_() {
            Type::INT8 => row.try_get(index).map(from_nullable::<i64>),
            Type::INT4 => {
                let value: Result<Option<i32>, _> = row.try_get(index);
                value.map(|it| from_nullable(it.map(i64::from)))
            }
            Type::TEXT | Type::VARCHAR | Type::NAME => {
                row.try_get(index).map(from_nullable::<String>)
            }
            Type::BYTEA => row.try_get(index).map(from_nullable::<Vec<u8>>),
            Type::NUMERIC => return Err(unexpected("numeric (cast it to bigint)")),
            Type::BOOL => return Err(unexpected("boolean")),
            Type::FLOAT4 | Type::FLOAT8 => return Err(unexpected("real")),
            _ => return Err(unexpected("not integer, text or bytes")),
        };
        value.map_err(|error| translate(&error))
    });
    values.collect::<Result<_, _>>().map(Row)
}

fn from_nullable<T: Into<Value>>(value: Option<T>) -> Value {
    value.into()
}
