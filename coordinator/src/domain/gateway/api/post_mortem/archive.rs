//! The archive: tar within gzip, all files in one folder that is named like the rental.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Cursor, Read, Seek as _, SeekFrom},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use shared::{id::RentalId, time::Timestamp};
use tar::{Builder, EntryType, Header};

use super::{parts::Part, spool::nameless};

const MODE: u32 = 0o644;

/// Makes it in a file without a name in `folder`; with its length.
pub(super) fn make(
    folder: &Path,
    id: RentalId,
    ended_at: Timestamp,
    readme: &str,
    parts: Vec<Part>,
) -> io::Result<(File, u64)> {
    let out = BufWriter::new(nameless(folder)?);
    let mut tar = Builder::new(GzEncoder::new(out, Compression::fast()));
    let mtime = u64::try_from(ended_at.as_secs()).unwrap_or_default();
    let mut add = |name: &str, bytes: u64, content: &mut dyn Read| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(MODE);
        header.set_mtime(mtime);
        header.set_size(bytes);
        tar.append_data(&mut header, format!("{id}/{name}"), content)
    };
    let length = u64::try_from(readme.len()).unwrap_or_default();
    add("README.txt", length, &mut Cursor::new(readme))?;
    for part in parts {
        let Some((mut file, bytes)) = part.file else {
            continue;
        };
        file.seek(SeekFrom::Start(0))?;
        add(part.name, bytes, &mut BufReader::new(file).take(bytes))?;
    }
    let file = tar
        .into_inner()?
        .finish()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}
