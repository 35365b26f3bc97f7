//! `GET /rentals/{id}/post-mortem`: all that is kept of a rental that is over, as one file.
//!
//! [`parts`] gathers, [`spool`] holds what was gathered on this machine's disk, [`archive`] puts it together, [`readme`] says what it is.
//!
//! # Invariants
//! - The archive is whole before its first byte is sent: it comes with its length, or there is a problem instead.
//! - What couldn't be had is named in its `README.txt` with the reason; a part is never left out, or cut, in silence.
//! - Memory holds a page of one part and [`CHUNKS_WAITING`] pieces of the archive; disk as many archives as are made at once, each bounded; one
//!   whose reader has gone counts until it is made.

mod archive;
mod parts;
mod readme;
mod spool;

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use shared::{id::RentalId, time::Timestamp};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
    task::spawn_blocking,
    time::timeout,
};

use self::parts::Gathering;
use super::{
    super::{access::Verb, places::Place, renter_of},
    pass,
};
use crate::{
    app::App,
    context::OpCtx,
    domain::rentals::{
        self,
        model::{Rental, State as RentalState},
    },
    error::{Error, Kind, Result},
    http::{Path, Problems},
};

/// How long a node keeps what a rental wrote and used, milliseconds.
const KEPT_MS: i64 = 7 * 24 * 3_600_000;
/// An archive is taken within this.
const TAKEN_WITHIN: Duration = Duration::from_secs(900);
const CHUNK_BYTES: usize = 64 * 1_024;
/// Pieces that wait for a client.
const CHUNKS_WAITING: usize = 2;

#[utoipa::path(
    get, path = "/rentals/{id}/post-mortem", operation_id = "rental_post_mortem", tag = "rentals", params(("id" = String, Path)),
    description = "What is kept of a rental that is over, as one archive (tar, gzip): `README.txt`, `rental.json` (state, cause, exit code), \
        `events.jsonl`, `receipts.json` (what `ramarket receipts verify` reads), `metrics.jsonl` and `logs.jsonl`. Logs and samples are kept by the \
        rental's node for 7 days, the rest by the market; what can't be had at this moment is named in `README.txt` with the reason.",
    responses((status = 200, body = Vec<u8>, content_type = "application/gzip"), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn post_mortem(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Path(id): Path<RentalId>,
) -> Result<Response> {
    let pass = pass::admit(&app, ctx, id, Verb::Logs, None).await?;
    let find = move |tx: &mut dyn crate::store::Tx| rentals::find(tx, id);
    let rental = app.db.read("gateway.rental", find).await?;
    let ended_at = over_since(&rental)?;
    let place = app.gateway.archives.take(id, renter_of(&rental)).map_err(|_| {
        Error::new(
            Kind::TooMany { retry_after_s: 10 },
            "too_many_archives",
            "as many archives as may be are being made and sent: wait for yours to arrive, or try again",
        )
    })?;
    let gathering = Gathering {
        app: Arc::clone(&app),
        ctx: pass.ctx,
        rental: id,
        node: rental.node_id,
        is_forgotten: app.clock.now().ms_since(ended_at) > KEPT_MS,
    };
    let parts = gathering.all().await?;
    let readme = readme::text(id, &parts);
    let folder = app.config.data_dir.clone();
    let make = move || archive::make(&folder, id, ended_at, &readme, parts);
    let (file, place) = made(place, make).await?;
    Ok(sent(&app, id, file, place))
}

/// Makes an archive. Its place is held until that is over, also where whoever asked has gone: the work goes on without them.
async fn made<T: Send + 'static>(
    place: Place,
    make: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<(T, Place)> {
    let made = spawn_blocking(move || make().map(|made| (made, place))).await;
    made.map_err(Error::internal)?.map_err(no_room)
}

/// When a rental ended.
fn over_since(rental: &Rental) -> Result<Timestamp> {
    match (rental.state, rental.ended_at) {
        (RentalState::Ended, Some(at)) => Ok(at),
        _ => Err(Error::conflict(
            "rental_not_over",
            "there is a post-mortem when the rental has ended: its logs, metrics and events can be read meanwhile",
        )),
    }
}

/// The disk of this machine refuses.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err calls")]
fn no_room(error: io::Error) -> Error {
    tracing::error!(%error, "an archive can't be written; check the space of data_dir");
    Error::new(
        Kind::Unavailable { retry_after_s: 60 },
        "archive_unavailable",
        "the archive can't be written on our side: try again later; logs, metrics, events and receipts can be read one by one",
    )
}

/// The archive as an answer; its disk space and its place are given back when it was taken, or its client is gone.
fn sent(app: &App, id: RentalId, (file, bytes): (std::fs::File, u64), place: Place) -> Response {
    let (pieces, mut taken) = mpsc::channel(CHUNKS_WAITING);
    let stall = Duration::from_secs(u64::from(app.config.gateway.stall_s));
    app.background.spawn(async move {
        let _place = place;
        let sending = send(File::from_std(file), &pieces, stall);
        match timeout(TAKEN_WITHIN, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an archive wasn't taken"),
            Err(_) => tracing::debug!("an archive wasn't taken in time"),
        }
    });
    let body = stream::poll_fn(move |cx| taken.poll_recv(cx));
    let name = format!("attachment; filename=\"{id}-post-mortem.tar.gz\"");
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    let kind = HeaderValue::from_static("application/gzip");
    headers.insert(header::CONTENT_TYPE, kind);
    // an id is hexadecimal
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    response
}

async fn send(
    mut file: File,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
    stall: Duration,
) -> io::Result<()> {
    file.rewind().await?;
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    loop {
        let mut piece = vec![0; CHUNK_BYTES];
        let read = file.read(&mut piece).await;
        let is_over = matches!(read, Ok(0));
        if is_over {
            return Ok(());
        }
        let piece = read.map(|length| {
            piece.truncate(length);
            Bytes::from(piece)
        });
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let failed = piece.is_err();
        timeout(stall, pieces.send(piece))
            .await
            .map_err(late)?
            .map_err(|_| gone())?;
        if failed {
            return Err(gone());
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::Ids;
    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::gateway::places::{Bounds, Places};

    #[tokio::test]
    async fn an_archive_counts_until_it_is_made_whoever_waits_for_it() {
        let bounds = Bounds {
            all: 1,
            renter: 1,
            rental: 1,
        };
        let places = Arc::new(Places::new(bounds));
        let id: RentalId = Ids::counting().mint();
        let take = || places.take(id, "a".to_owned());
        let place = take().expect("room");
        let (begin, begun) = oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (drop_it, dropped) = oneshot::channel::<()>();
        let make = move || {
            // what was made goes with its place, and after it
            let made = drop_it;
            begin.send(()).expect("somebody waits");
            ended.recv().map_err(io::Error::other)?;
            Ok(made)
        };
        let asked = tokio::spawn(made(place, make));
        begun.await.expect("it begins");
        asked.abort();
        assert!(asked.await.expect_err("gone").is_cancelled());
        take().expect_err("it is being made");
        end.send(()).expect("it is made still");
        dropped.await.expect_err("and let go of");
        let room = async {
            while take().is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), room)
            .await
            .expect("room again");
    }
}
