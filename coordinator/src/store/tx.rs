//! What a transaction body sees: [`Tx`], values in, rows out.

use super::StoreError;

/// A value in or out of the database: the portable subset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// `INTEGER` / `BIGINT`.
    Int(i64),
    /// `TEXT`.
    Text(String),
    /// `BLOB` / `BYTEA`.
    Blob(Vec<u8>),
}

impl Value {
    /// The name of its type, for error texts.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Int(_) => "integer",
            Self::Text(_) => "text",
            Self::Blob(_) => "blob",
        }
    }
}

/// One transaction.
pub trait Tx {
    /// Runs a statement that returns rows. Parameters are `$1`, `$2`, …
    ///
    /// # Errors
    /// What the database says.
    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError>;

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// What the database says.
    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, StoreError>;
}

/// One row, read by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// A 64-bit integer.
    ///
    /// # Errors
    /// The column is missing, NULL or of another type.
    pub fn int(&self, column: usize) -> Result<i64, StoreError> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(*value),
            other => Err(unexpected(column, other)),
        }
    }

    /// A 64-bit integer or NULL.
    ///
    /// # Errors
    /// The column is missing or of another type.
    pub fn opt_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            Some(Value::Null) => Ok(None),
            _ => self.int(column).map(Some),
        }
    }

    /// Text.
    ///
    /// # Errors
    /// The column is missing, NULL or of another type.
    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(value),
            other => Err(unexpected(column, other)),
        }
    }

    /// Text or NULL.
    ///
    /// # Errors
    /// The column is missing or of another type.
    pub fn opt_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.0.get(column) {
            Some(Value::Null) => Ok(None),
            _ => self.text(column).map(Some),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// The column is missing, NULL or of another type.
    pub fn blob(&self, column: usize) -> Result<&[u8], StoreError> {
        match self.0.get(column) {
            Some(Value::Blob(value)) => Ok(value),
            other => Err(unexpected(column, other)),
        }
    }

    /// Bytes or NULL.
    ///
    /// # Errors
    /// The column is missing or of another type.
    pub fn opt_blob(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        match self.0.get(column) {
            Some(Value::Null) => Ok(None),
            _ => self.blob(column).map(Some),
        }
    }
}

const fn unexpected(column: usize, found: Option<&Value>) -> StoreError {
    let found = match found {
        None => "missing",
        Some(value) => value.kind(),
    };
    StoreError::Column { column, found }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl From<shared::time::Timestamp> for Value {
    fn from(value: shared::time::Timestamp) -> Self {
        Self::Int(value.as_micros())
    }
}

impl From<shared::money::Amount> for Value {
    fn from(value: shared::money::Amount) -> Self {
        Self::Int(value.atomic())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! id_values {
    ($($id:ident),+) => {$(
        impl From<shared::id::$id> for Value {
            fn from(id: shared::id::$id) -> Self {
                Self::Text(id.to_string())
            }
        }
    )+};
}

id_values!(
    ApiKeyId,
    DeliveryId,
    DisputeId,
    EventId,
    IdentityId,
    InvoiceId,
    KycCaseId,
    KycDocumentId,
    LeaseId,
    MailId,
    NodeId,
    OfferId,
    PaymentId,
    PayoutId,
    QuoteId,
    RentalId,
    SessionId,
    SshKeyId,
    TransferId,
    UserId,
    WebhookId
);

/// Parameters of a statement: `params![id, amount, now]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::Value::from($value)),*] };
}
