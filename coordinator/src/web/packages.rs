//! Debian packages that this market offers to providers, and the script that installs the agent's: files of one configured folder.
//!
//! # Invariants
//! - Only names of packages are served, and only from that folder: no other file, no path.
//! - The script carries the SHA-256 of each package that it may fetch, as it is on disk, and installs nothing else.
//! - A file is hashed once for each of its versions, whoever asks.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path as PathParam, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use tokio::io::AsyncReadExt as _;

use crate::{
    app::App,
    error::{Error, Kind, Result},
};

const TEMPLATE: &str = include_str!("../../static/install.sh");
/// Packages that are looked at; a folder with more is somebody's mistake.
const PACKAGES_MAX: usize = 64;
/// What is read of a file at once.
const CHUNK_BYTES: usize = 64 * 1_024;
const TEXT: (header::HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");

/// A package in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    bytes: u64,
    changed: SystemTime,
    sha256: String,
}

/// Hashes by name, each with the size and time that the file had.
type Hashes = Arc<Mutex<HashMap<String, Package>>>;

pub(super) fn routes() -> Router<Arc<App>> {
    let hashes = Hashes::default();
    let of_script = Arc::clone(&hashes);
    let of_sum = Arc::clone(&hashes);
    let of_sums = Arc::clone(&hashes);
    Router::new()
        .route(
            "/install.sh",
            get(async move |State(app): State<Arc<App>>| {
                let script = script(&app, of_script).await?;
                Ok::<_, Error>(([TEXT], script))
            }),
        )
        .route(
            "/install.sh.sha256",
            get(async move |State(app): State<Arc<App>>| {
                let script = script(&app, of_sum).await?;
                let sum = hex::encode(ring::digest::digest(
                    &ring::digest::SHA256,
                    script.as_bytes(),
                ));
                Ok::<_, Error>(([TEXT], format!("{sum}  install.sh\n")))
            }),
        )
        .route(
            "/packages/SHA256SUMS",
            get(async move |State(app): State<Arc<App>>| {
                let packages = packages(&app, of_sums).await?;
                let line = |package: &Package| format!("{}  {}\n", package.sha256, package.name);
                Ok::<_, Error>(([TEXT], packages.iter().map(line).collect::<String>()))
            }),
        )
        .route("/packages/{name}", get(package))
}

fn nothing_offered() -> Error {
    Error::new(
        Kind::NotFound,
        "no_such_route",
        "this market offers no packages: its operator sets http.packages_dir to a folder with ramarket-agent_….deb, or providers install one from elsewhere",
    )
}

fn folder(app: &App) -> Result<PathBuf> {
    let folder = app.config.http.packages_dir.clone();
    folder.ok_or_else(nothing_offered)
}

async fn packages(app: &App, hashes: Hashes) -> Result<Vec<Package>> {
    let folder = folder(app)?;
    let found = tokio::task::spawn_blocking(move || look(&folder, &hashes));
    let found = found
        .await
        .map_err(io::Error::other)
        .and_then(|found| found);
    let packages = found.map_err(|error| {
        tracing::warn!(%error, "the folder of packages can't be read");
        nothing_offered()
    })?;
    if packages.is_empty() {
        return Err(nothing_offered());
    }
    Ok(packages)
}

async fn script(app: &App, hashes: Hashes) -> Result<String> {
    let packages = packages(app, hashes).await?;
    written(&app.config.http.public_url(), &packages).ok_or_else(nothing_offered)
}

async fn package(
    State(app): State<Arc<App>>,
    PathParam(name): PathParam<String>,
) -> Result<Response> {
    let folder = folder(&app)?;
    if !is_package(&name) {
        return Err(nothing_offered());
    }
    let opened = tokio::fs::File::open(folder.join(&name)).await;
    let Ok(file) = opened else {
        return Err(nothing_offered());
    };
    let bytes = file.metadata().await.map_err(|_| nothing_offered())?.len();
    let chunks = stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            "application/vnd.debian.binary-package".to_owned(),
        ),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// `ramarket-agent_0.1.0-1_amd64.deb`
fn is_package(name: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'_' | b'~' | b'-');
    name.len() <= 200
        && name.starts_with("ramarket-")
        && name.ends_with(".deb")
        && name.bytes().all(allowed)
}

/// The packages of a folder by name. Blocks.
fn look(folder: &Path, hashes: &Hashes) -> io::Result<Vec<Package>> {
    let mut packages = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !is_package(&name) {
            continue;
        }
        if packages.len() == PACKAGES_MAX {
            return Err(io::Error::other(format!(
                "more than {PACKAGES_MAX} packages"
            )));
        }
        let metadata = std::fs::metadata(entry.path())?;
        let (bytes, changed) = (metadata.len(), metadata.modified()?);
        let known = {
            let hashes = hashes.lock().unwrap_or_else(PoisonError::into_inner);
            hashes.get(&name).cloned()
        };
        let package = match known {
            Some(known) if (known.bytes, known.changed) == (bytes, changed) => known,
            _ => {
                let sha256 = hash(&entry.path())?;
                let package = Package {
                    name: name.clone(),
                    bytes,
                    changed,
                    sha256,
                };
                let mut hashes = hashes.lock().unwrap_or_else(PoisonError::into_inner);
                if hashes.len() >= 2 * PACKAGES_MAX {
                    hashes.clear();
                }
                hashes.insert(name, package.clone());
                package
            }
        };
        packages.push(package);
    }
    packages.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(packages)
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex::encode(context.finish())),
            read => context.update(&chunk[..read]),
        }
    }
}

/// The script that installs the newest agent package of the machine's architecture; `None` where there is no agent package.
fn written(url: &str, packages: &[Package]) -> Option<String> {
    let mut newest: HashMap<&str, &Package> = HashMap::new();
    for package in packages {
        let Some(architecture) = package
            .name
            .strip_prefix("ramarket-agent_")
            .and_then(|rest| rest.strip_suffix(".deb"))
            .and_then(|rest| rest.rsplit_once('_'))
            .map(|(_, architecture)| architecture)
        else {
            continue;
        };
        let best = newest.entry(architecture).or_insert(package);
        if package.changed > best.changed {
            *best = package;
        }
    }
    let mut cases: Vec<String> = newest
        .iter()
        .map(|(architecture, package)| {
            format!(
                "{architecture}) package={} sha256={} ;;",
                package.name, package.sha256
            )
        })
        .collect();
    cases.sort();
    let script = TEMPLATE
        .replace("@URL@", url)
        .replace("@PACKAGES@", &cases.join("\n    "));
    (!cases.is_empty()).then_some(script)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::testing::TempDir, testing::TestApp};

    fn told(answer: &crate::testing::Answer) -> String {
        String::from_utf8(answer.body.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn what_is_offered_is_served_and_nothing_beside_it() {
        let nothing = TestApp::new().await;
        for path in ["/install.sh", "/install.sh.sha256", "/packages/SHA256SUMS"] {
            let answer = nothing.get(path, "").await;
            assert_eq!(answer.status.as_u16(), 404, "{path}");
            assert!(told(&answer).contains("http.packages_dir"), "{path}");
        }
        let folder = TempDir::new();
        let dir = folder.path().to_owned();
        let test = TestApp::with(move |config| config.http.packages_dir = Some(dir)).await;
        assert_eq!(test.get("/install.sh", "").await.status.as_u16(), 404);
        let name = "ramarket-agent_0.1.0-1_amd64.deb";
        let content = "a package\n".repeat(10_000);
        std::fs::write(folder.path().join(name), &content).expect("written");
        std::fs::write(folder.path().join("secret.txt"), "mine").expect("written");
        let sum = hex::encode(ring::digest::digest(
            &ring::digest::SHA256,
            content.as_bytes(),
        ));
        let sums = test.get("/packages/SHA256SUMS", "").await;
        assert_eq!(told(&sums), format!("{sum}  {name}\n"));
        let script = test.get("/install.sh", "").await;
        assert!(told(&script).contains(&sum));
        let of_script = ring::digest::digest(&ring::digest::SHA256, told(&script).as_bytes());
        let told_sum = told(&test.get("/install.sh.sha256", "").await);
        assert_eq!(
            told_sum,
            format!("{}  install.sh\n", hex::encode(of_script))
        );
        let served = test.get(&format!("/packages/{name}"), "").await;
        assert_eq!(told(&served), content);
        for beside in ["secret.txt", "..%2Fsecret.deb", "ramarket-agent_none.deb"] {
            let answer = test.get(&format!("/packages/{beside}"), "").await;
            assert_eq!(answer.status.as_u16(), 404, "{beside}");
        }
    }

    #[test]
    fn names_of_packages_are_names_and_nothing_else() {
        for good in [
            "ramarket-agent_0.1.0-1_amd64.deb",
            "ramarket-coordinator_0.1.0~rc1+x_arm64.deb",
        ] {
            assert!(is_package(good), "{good}");
        }
        for bad in [
            "../ramarket-agent_1_amd64.deb",
            "ramarket-agent/../../etc/shadow.deb",
            "ramarket-agent_1_amd64.deb;id",
            "ramarket-agent_$(id).deb",
            "SHA256SUMS",
            "other_1_amd64.deb",
        ] {
            assert!(!is_package(bad), "{bad}");
        }
    }

    #[test]
    fn the_script_names_the_newest_package_and_its_hash() {
        let folder = TempDir::new();
        let hashes = Hashes::default();
        assert_eq!(look(folder.path(), &hashes).expect("a folder"), []);
        let old = "ramarket-agent_0.1.0-1_amd64.deb";
        std::fs::write(folder.path().join(old), "old").expect("written");
        std::fs::write(folder.path().join("notes.txt"), "mine").expect("written");
        let packages = look(folder.path(), &hashes).expect("a folder");
        // of the three letters
        let sum = hex::encode(ring::digest::digest(&ring::digest::SHA256, b"old"));
        assert_eq!(packages.len(), 1);
        let script = written("https://market.example", &packages).expect("a package");
        assert!(script.contains(&format!("amd64) package={old} sha256={sum} ;;")));
        assert!(script.contains("https://market.example") && !script.contains('@'));
        // a file that is replaced is hashed anew
        let file = File::options()
            .write(true)
            .open(folder.path().join(old))
            .expect("there");
        file.set_len(0).expect("emptied");
        let again = look(folder.path(), &hashes).expect("a folder");
        assert_ne!(again[0].sha256, packages[0].sha256);
        assert_eq!(written("https://market.example", &[]), None);
    }
}
