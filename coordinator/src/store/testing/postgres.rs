//! A PostgreSQL server of the tests' own: one per process, on a unix socket in a temporary folder, with fsync on.
//!
//! # Invariants
//! - The server never outlives the process: a shell holds the reading end of a pipe whose other end dies with us, however
//!   we end, and stops the server then.

use std::{
    io::{BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio_postgres::{Config, NoTls};

use crate::store::{DatabaseUrl, Db};

const SUPERUSER: &str = "ramarket";

/// $1 programs, $2 folder (ours), $3 superuser.
const WATCHDOG: &str = r#"
set -eu
trap '' INT TERM HUP
bin=$1 dir=$2
finish() {
    "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap finish EXIT
start() {
    "$bin/initdb" -D "$dir/data" -U "$3" --auth=trust --encoding=UTF8 --no-locale --data-checksums
    "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -t 60 \
        -o "-k '$dir' -c listen_addresses='' -c fsync=on -c max_connections=200" start
}
start "$@" >"$dir/start.log" 2>&1 || { cat "$dir"/*.log >&2; exit 1; }
echo ready
read -r _ || true
"#;

/// A running server.
struct Server {
    folder: PathBuf,
    /// Holds the pipe whose end stops the server.
    _watchdog: Child,
}

/// A fresh, migrated database on the process's server.
///
/// # Panics
/// If PostgreSQL isn't installed or doesn't start.
pub async fn postgres() -> Db {
    let url = postgres_url().await;
    let db = Db::open(&url).await.expect("the database can be opened");
    db.migrate().await.expect("its schema can be migrated");
    db
}

/// A fresh, empty database on the process's server.
///
/// # Panics
/// If PostgreSQL isn't installed or doesn't start.
pub async fn postgres_url() -> DatabaseUrl {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(Server::start));
    let server = server.await.expect("PostgreSQL starts");
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let connected = server.config("postgres").connect(NoTls).await;
    let (client, connection) = connected.expect("the server can be reached");
    let connection = tokio::spawn(connection);
    let create = format!("CREATE DATABASE {name}");
    let created = client.batch_execute(&create).await;
    created.expect("a database can be made");
    drop(client);
    let closed = connection.await.expect("the connection's task ends");
    closed.expect("the connection ends well");
    let host = server.folder.display();
    let url = format!("postgres://{SUPERUSER}@/{name}?host={host}");
    url.parse().expect("the URL is valid")
}

impl Server {
    fn start() -> Self {
        let programs = programs().unwrap_or_else(|| {
            panic!("PostgreSQL isn't installed: run `apt-get install postgresql`")
        });
        let folder = std::env::temp_dir().join(format!("ramarket-pg-{}", std::process::id()));
        // left by a killed process that had our id
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", WATCHDOG, "watchdog"])
            .args([&programs, &folder])
            .arg(SUPERUSER)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some((user, group)) = other_user() {
            chown(&folder, Some(user), Some(group)).expect("the folder can be handed over");
            shell.uid(user).gid(group);
        }
        let mut watchdog = shell.spawn().expect("a shell can be started");
        let mut said = String::new();
        let mut stdout = BufReader::new(watchdog.stdout.take().expect("stdout is a pipe"));
        stdout.read_line(&mut said).expect("the shell can be read");
        assert_eq!(
            said, "ready\n",
            "PostgreSQL didn't start; its words are above"
        );
        Self {
            folder,
            _watchdog: watchdog,
        }
    }

    fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.folder)
            .user(SUPERUSER)
            .dbname(database);
        config
    }
}

/// The newest installed server programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").exists() && path.join("bin/pg_ctl").exists())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"))
}

/// Whom to become if we are root, as whom the server refuses to run: user and group of `postgres`.
fn other_user() -> Option<(u32, u32)> {
    let ourselves = std::fs::metadata("/proc/self").expect("/proc is there");
    if ourselves.uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("users can be listed");
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let line = line.expect("PostgreSQL's package made the user postgres");
    let id = |field| line.split(':').nth(field).and_then(|it| it.parse().ok());
    Some((
        id(2).expect("a user has an id"),
        id(3).expect("a user has a group"),
    ))
}
