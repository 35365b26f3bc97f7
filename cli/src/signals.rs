//! Signals that would end this process: the first goes to whoever listens, and what nobody takes ends it, with the terminal as it was.
//!
//! # Invariants
//! - Once they are watched none is lost: one is taken within [`TAKEN_WITHIN`] or ends the process, with 128 and its number as the exit
//!   code. So does every further one, whoever listens.
//! - They are heard on a thread of their own: also while this process waits for a key, or for somebody to read what it writes.
//! - What this process was started to ignore, as by `nohup`, stays ignored.

use std::{
    fs,
    future::{pending, poll_fn},
    io, process,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc as threads},
    task::Poll,
    thread,
    time::Duration,
};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    failure::{Failure, Result},
    terminal,
};

/// Who listens takes a signal within this.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
const HANGUP: u8 = 1;
const INTERRUPT: u8 = 2;
const QUIT: u8 = 3;
const TERMINATE: u8 = 15;

/// Who hears the next one.
static LISTENER: Mutex<Option<mpsc::Sender<Heard>>> = Mutex::new(None);

/// A signal that came.
#[derive(Debug)]
pub struct Heard {
    /// Its number.
    pub number: u8,
    taken: oneshot::Sender<()>,
}

impl Heard {
    /// It has had its effect.
    pub fn take(self) {
        // whoever waits has gone only with the process
        self.taken.send(()).ok();
    }

    /// Ends the process, as the signal would.
    pub fn end(self) -> ! {
        end(self.number)
    }
}

/// The first signal, for one listener at a time.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Heard>);

impl Signals {
    /// Listens from now on, until this is dropped.
    ///
    /// # Errors
    /// Signals can't be heard.
    pub fn hear() -> Result<Self> {
        watch()?;
        let (sender, receiver) = mpsc::channel(1);
        *listener() = Some(sender);
        Ok(Self(receiver))
    }

    /// The signal, when it comes; there is no second one.
    pub async fn next(&mut self) -> Heard {
        match self.0.recv().await {
            Some(heard) => heard,
            None => pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        *listener() = None;
    }
}

/// From now on no signal ends this process but by way of here.
///
/// # Errors
/// Signals can't be heard.
pub fn watch() -> Result<()> {
    static WATCHED: OnceLock<Result<()>> = OnceLock::new();
    let watched = WATCHED.get_or_init(|| {
        begin().map_err(|error| Failure::failed(format!("signals can't be heard: {error}")))
    });
    watched.clone()
}

fn begin() -> io::Result<()> {
    let (begun, has_begun) = threads::sync_channel(1);
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let attending = runtime.and_then(|runtime| {
                runtime.block_on(async {
                    let signals = Watched::new(ignored())?;
                    // whoever waits for it goes on only now: nothing comes in between
                    drop(begun.send(Ok(())));
                    attend(signals).await;
                    Ok(())
                })
            });
            if let Err(error) = attending {
                drop(begun.send(Err(error)));
            }
        })?;
    let lost = |_| Err(io::Error::other("their thread has ended"));
    has_begun.recv().unwrap_or_else(lost)
}

/// Gives the first to who listens, and ends the process with whatever nobody takes.
async fn attend(mut signals: Watched) {
    loop {
        let number = signals.next().await;
        // a further one finds nobody
        let Some(listener) = listener().take() else {
            end(number);
        };
        let (taken, is_taken) = oneshot::channel();
        if listener.try_send(Heard { number, taken }).is_err() {
            end(number);
        }
        tokio::select! {
            further = signals.next() => end(further),
            // what is dropped untaken was heard by who ends anyway
            taken = timeout(TAKEN_WITHIN, is_taken) => if taken.is_err() {
                end(number);
            },
        }
    }
}

fn end(number: u8) -> ! {
    terminal::restore_for_good();
    process::exit(128 + i32::from(number))
}

fn listener() -> MutexGuard<'static, Option<mpsc::Sender<Heard>>> {
    LISTENER.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watched(Vec<(u8, Signal)>);

impl Watched {
    fn new(ignored: u64) -> io::Result<Self> {
        let all = [HANGUP, INTERRUPT, QUIT, TERMINATE];
        let heard = all
            .into_iter()
            .filter(|number| ignored & (1 << (number - 1)) == 0);
        heard
            .map(|number| Ok((number, signal(SignalKind::from_raw(number.into()))?)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    async fn next(&mut self) -> u8 {
        poll_fn(|cx| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(cx) == Poll::Ready(Some(())) {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The signals that this process was started to ignore, the first in the lowest bit; where nobody says, none.
fn ignored() -> u64 {
    ignored_of(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn ignored_of(status: &str) -> u64 {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\n";
        assert_eq!(ignored_of(status), 1 << 12 | 1 << 1 | 1);
        assert_eq!(ignored_of(""), 0);
    }
}
