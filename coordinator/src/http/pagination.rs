//! Pages: `?limit=&cursor=` → `{items, next_cursor}`. A cursor is opaque to callers and untrusted by us.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};

use crate::error::{Error, Result};

/// Most items of a page.
pub const LIMIT_MAX: u32 = 100;
const LIMIT_DEFAULT: u32 = 50;
const CURSOR_CHARS_MAX: usize = 1024;

/// Which page is wanted. Endpoints put `limit: Option<u32>` and `cursor: Option<String>` in their query struct.
#[derive(Debug, Clone)]
pub struct Paging {
    /// Items of the page, 1 to [`LIMIT_MAX`].
    pub limit: u32,
    cursor: Option<String>,
}

impl Paging {
    /// Checks what the caller asks for.
    ///
    /// # Errors
    /// 400 when the limit is out of bounds.
    pub fn new(limit: Option<u32>, cursor: Option<String>) -> Result<Self> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Error::bad_request(
                "limit",
                format!("limit must be 1 to {LIMIT_MAX}"),
            ));
        }
        Ok(Self { limit, cursor })
    }

    /// The key of the last item that the caller has seen.
    ///
    /// # Errors
    /// 400 when the cursor isn't one of this list.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        let bad = || Error::bad_request("cursor", "use next_cursor of the page before, unchanged");
        if cursor.len() > CURSOR_CHARS_MAX {
            return Err(bad());
        }
        let bytes = BASE64URL.decode(cursor).map_err(|_| bad())?;
        if super::extract::has_nul(&bytes) {
            return Err(bad());
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|_| bad())
    }

    /// How many rows to fetch: one more than the page, to know whether there is another.
    #[must_use]
    pub const fn fetch(&self) -> i64 {
        self.limit as i64 + 1
    }
}

/// From which side a caller looks at a list of theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenAs {
    /// What they rent.
    #[default]
    Consumer,
    /// What runs or ran on their machines.
    Provider,
}

/// The query of a list that has two sides.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SidedParams {
    /// `consumer`, the default, for what you rent; `provider` for what runs or ran on your machines.
    #[serde(default, rename = "as")]
    #[param(value_type = Option<String>, rename = "as")]
    pub seen_as: SeenAs,
    limit: Option<u32>,
    cursor: Option<String>,
}

impl SidedParams {
    /// Which page is wanted.
    ///
    /// # Errors
    /// As [`Paging::new`].
    pub fn paging(&self) -> Result<Paging> {
        Paging::new(self.limit, self.cursor.clone())
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order asked for.
    pub items: Vec<T>,
    /// Where the next page starts; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The page of `rows`, of which up to [`Paging::fetch`] were fetched; `key` is what [`Paging::after`] will return.
    ///
    /// # Errors
    /// 500 when a key can't be written as JSON.
    pub fn of<K: Serialize>(
        mut rows: Vec<T>,
        paging: &Paging,
        key: impl Fn(&T) -> K,
    ) -> Result<Self> {
        let limit = usize::try_from(paging.limit).map_err(Error::internal)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = match rows.last() {
            Some(last) if more => Some(
                serde_json::to_vec(&key(last))
                    .map(|bytes| BASE64URL.encode(bytes))
                    .map_err(Error::internal)?,
            ),
            _ => None,
        };
        Ok(Self {
            items: rows,
            next_cursor,
        })
    }

    /// The same page with other items (a row's view).
    pub fn map<U>(self, view: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(view).collect(),
            next_cursor: self.next_cursor,
        }
    }

    /// [`Page::map`] for a view that can fail.
    ///
    /// # Errors
    /// The first item's that has no view.
    pub fn try_map<U>(self, view: impl FnMut(T) -> Result<U>) -> Result<Page<U>> {
        Ok(Page {
            items: self.items.into_iter().map(view).collect::<Result<_>>()?,
            next_cursor: self.next_cursor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_to_the_next_page_and_forgeries_are_refused() {
        let paging = Paging::new(Some(2), None).expect("bounds");
        let page = Page::of(vec![1, 2, 3], &paging, |item| (*item, "k")).expect("page");
        assert_eq!(page.items, [1, 2]);
        let next = Paging::new(Some(2), page.next_cursor).expect("bounds");
        assert_eq!(
            next.after::<(i32, String)>().expect("ours"),
            Some((2, "k".to_owned()))
        );
        let last = Page::of(vec![3], &next, |item| *item).expect("page");
        assert_eq!(last.next_cursor, None);
        let forged = Paging::new(None, Some("!!".to_owned())).expect("bounds");
        assert!(forged.after::<u32>().is_err());
        assert!(Paging::new(Some(101), None).is_err());
    }
}
