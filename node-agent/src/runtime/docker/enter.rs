//! Starts `ramarket-inside` in a running container.
//!
//! # Invariants
//! - It runs as the container's user, with the rights of the container's first process: an `exec` that isn't privileged.
//! - It is brought along with its loader and libraries, so any image will do, under a folder that its digest names: after an upgrade the
//!   program of now is brought to containers of before.
//! - A connection is given out only after the program has said its greeting (`attach`): an engine tells in its place why it couldn't start it.
//! - What the image sets for its loader doesn't reach ours.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bollard::{
    exec::CreateExecOptions,
    models::ContainerInspectResponse,
    query_parameters::{ContainerArchiveInfoOptions, UploadToContainerOptions},
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    DockerRuntime,
    archive::{Bundle, Packed},
    attach::{self, NotStarted},
    engine::is_status,
    parse, short,
};
use crate::{
    inside::LD_PREFIX,
    runtime::{ContainerState, Pipe, RuntimeError, code},
};

/// The program's file.
pub(super) const PROGRAM: &str = "ramarket-inside";
/// Where packages put it.
const PACKAGED: &str = "/usr/lib/ramarket/ramarket-inside";
const LOADED_WITHIN: Duration = Duration::from_secs(10);
/// Containers that are known to have it.
const KNOWN_MAX: usize = 4_096;

/// The program, and which containers have it.
#[derive(Debug)]
pub(super) struct Inside {
    program: Option<PathBuf>,
    known: OnceCell<Arc<Known>>,
    has: Mutex<BTreeSet<String>>,
    /// One is brought at a time: each holds the program in memory.
    bringing: tokio::sync::Mutex<()>,
}

/// The program of this version.
#[derive(Debug)]
struct Known {
    program: PathBuf,
    maps: String,
    /// From the root on, without a slash at its ends.
    folder: String,
    command: Vec<String>,
    program_bytes: i64,
}

impl Inside {
    /// `program`: its file; `None` for the one beside this program, or the packaged one.
    pub(super) fn new(program: Option<PathBuf>) -> Self {
        Self {
            program,
            known: OnceCell::new(),
            has: Mutex::default(),
            bringing: tokio::sync::Mutex::default(),
        }
    }

    async fn known(&self) -> Result<Arc<Known>, RuntimeError> {
        let looked = self.known.get_or_try_init(|| async {
            let program = self.program.clone().unwrap_or_else(installed);
            let looked = look(program.clone()).await;
            looked.with_context(|| format!("{} can't be used", program.display()))
        });
        let known = looked.await.map_err(|error| {
            RuntimeError::Unavailable(format!("no rental can be entered: {error:#}"))
        })?;
        Ok(Arc::clone(known))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.has.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, container_id: &str) {
        let mut has = self.lock();
        if has.len() >= KNOWN_MAX {
            has.clear();
        }
        has.insert(container_id.to_owned());
    }
}

fn installed() -> PathBuf {
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|exe| Some(exe.parent()?.join(PROGRAM)));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(PACKAGED))
}

/// Asks the program itself which libraries it runs with.
async fn look(program: PathBuf) -> anyhow::Result<Arc<Known>> {
    let asked = tokio::process::Command::new(&program)
        .arg("loaded")
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let said = timeout(LOADED_WITHIN, asked).await.context("it hangs")??;
    anyhow::ensure!(said.status.success(), "it can't be run on this machine");
    let maps = String::from_utf8(said.stdout).context("its libraries")?;
    let read = tokio::task::spawn_blocking(move || {
        let bundle = Bundle::read(&program, &maps)?;
        let folder = format!(".ramarket-{}", bundle.digest());
        let Packed { command, .. } = bundle.pack(&folder, PROGRAM)?;
        Ok::<_, anyhow::Error>(Known {
            program_bytes: i64::try_from(bundle.program_bytes())?,
            program,
            maps,
            folder,
            command,
        })
    });
    Ok(Arc::new(read.await??))
}

impl Known {
    async fn pack(self: &Arc<Self>) -> anyhow::Result<Vec<u8>> {
        let known = Arc::clone(self);
        let packed = tokio::task::spawn_blocking(move || {
            let bundle = Bundle::read(&known.program, &known.maps)?;
            anyhow::ensure!(
                format!(".ramarket-{}", bundle.digest()) == known.folder,
                "it was replaced; restart the service"
            );
            Ok(bundle.pack(&known.folder, PROGRAM)?.archive)
        });
        packed.await?
    }
}

impl DockerRuntime {
    pub(super) async fn entered(&self, container_id: &str) -> Result<Pipe, RuntimeError> {
        let refuse = |why: &str| Err(RuntimeError::refused(code::ENGINE_REFUSED, why));
        let Some(answer) = self.inspect_raw(container_id).await? else {
            return refuse("this node has no such container");
        };
        match parse::container(&answer, &self.scope) {
            Some(found) if found.state == ContainerState::Running => {}
            Some(_) => return refuse("the container doesn't run"),
            None => return refuse("this node has no such container"),
        }
        let known = self.inside.known().await?;
        let had = self.inside.lock().contains(container_id);
        if !had && !self.has_program(container_id, &known).await? {
            self.bring_inside(container_id, &known).await?;
        }
        self.inside.note(container_id);
        let variables = disguised(&answer);
        match self.start_inside(container_id, &known, &variables).await {
            Ok(pipe) => Ok(pipe),
            // it is much to carry: not for one that starts and then says nothing, or too much
            Err(NotStarted { error, is_broken }) if !is_broken => Err(error),
            Err(NotStarted { error, .. }) => {
                // its owner may have removed it
                tracing::debug!(container.id = short(container_id), %error, "the program is brought anew");
                self.bring_inside(container_id, &known).await?;
                let started = self.start_inside(container_id, &known, &variables).await;
                started.map_err(|not_started| not_started.error)
            }
        }
    }

    async fn has_program(&self, container_id: &str, known: &Known) -> Result<bool, RuntimeError> {
        let client = self.engine.client().await?;
        let options = ContainerArchiveInfoOptions {
            path: format!("/{}/{PROGRAM}", known.folder),
        };
        let call = async {
            match client
                .get_container_archive_info(container_id, Some(options))
                .await
            {
                Err(error) if is_status(&error, 404) => Ok(None),
                other => other.map(Some),
            }
        };
        let found = self.engine.read(call).await?;
        Ok(found.is_some_and(|found| found.size == known.program_bytes))
    }

    async fn bring_inside(
        &self,
        container_id: &str,
        known: &Arc<Known>,
    ) -> Result<(), RuntimeError> {
        let _turn = self.inside.bringing.lock().await;
        let client = self.engine.client().await?;
        let archive = known.pack().await.map_err(|error| {
            RuntimeError::Unavailable(format!("{}: {error:#}", known.program.display()))
        })?;
        let options = UploadToContainerOptions {
            path: "/".to_owned(),
            ..UploadToContainerOptions::default()
        };
        client
            .upload_to_container(
                container_id,
                Some(options),
                bollard::body_full(archive.into()),
            )
            .await
            .map_err(|error| self.engine.classify(error, code::ENGINE_REFUSED))
    }

    async fn start_inside(
        &self,
        container_id: &str,
        known: &Known,
        variables: &[String],
    ) -> Result<Pipe, NotStarted> {
        let not_asked = |error| NotStarted {
            error,
            is_broken: false,
        };
        let client = self.engine.client().await.map_err(not_asked)?;
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            privileged: Some(false),
            env: Some(variables.to_vec()),
            cmd: Some(known.command.clone()),
            ..CreateExecOptions::default()
        };
        let refused = |error| not_asked(self.engine.classify(error, code::ENGINE_REFUSED));
        let made = client.create_exec(container_id, options).await;
        let made = made.map_err(refused)?;
        let version = client.client_version();
        let version = format!("{}.{}", version.major_version, version.minor_version);
        attach::start(self.engine.socket(), &version, &made.id).await
    }
}

/// Variables that the loader heeds are emptied for our program, and handed on to what it starts.
fn disguised(answer: &ContainerInspectResponse) -> Vec<String> {
    let config = answer.config.as_ref();
    let given = config.and_then(|config| config.env.as_ref());
    let loaders = given
        .into_iter()
        .flatten()
        .filter_map(|variable| variable.split_once('='))
        .filter(|(name, _)| name.starts_with("LD_"));
    loaders
        .flat_map(|(name, value)| [format!("{name}="), format!("{LD_PREFIX}{name}={value}")])
        .collect()
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerConfig;

    use super::*;

    #[test]
    fn the_images_loader_variables_are_handed_on() {
        let answer = ContainerInspectResponse {
            config: Some(ContainerConfig {
                env: Some(vec!["A=1".to_owned(), "LD_PRELOAD=a.so=b".to_owned()]),
                ..ContainerConfig::default()
            }),
            ..ContainerInspectResponse::default()
        };
        assert_eq!(
            disguised(&answer),
            ["LD_PRELOAD=", "RAMARKET_INSIDE_LD_PRELOAD=a.so=b"]
        );
        assert!(PACKAGED.ends_with(PROGRAM));
    }
}
