//! A real registry on this machine (Debian's docker-registry) that shows nothing without a name and a password.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use coordinator::store::testing::TempDir;
use reqwest::{Client, Method, RequestBuilder, header};
use serde_json::{Value, json};
use shared::image::Digest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::market::free_port;

/// Who may pull and push.
pub const USER: &str = "ada";
/// With which password.
pub const PASSWORD: &str = "let-me-pull-4711-please";
/// The same, as the registry keeps it (bcrypt).
const PASSWORD_HASH: &str = "$2b$05$abcdefghijklmnopqrstuu0cK8mvgs.5JqsvBmXOAbGFa8MNtoNjG";
/// What a slow line lets through at once.
const BYTES_PER_PACE: usize = 64 * 1024;
const PACE: Duration = Duration::from_millis(50);

/// The registry; ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    port: u32,
    http: Client,
    folder: TempDir,
}

/// What is pushed.
#[derive(Debug, Clone)]
pub struct Image {
    /// `amd64`.
    pub architecture: String,
    /// Tar archives, the lowest first.
    pub layers: Vec<Vec<u8>>,
}

impl Image {
    /// Busybox, as the engine has it, with a file of so many random bytes above it: no two are the same.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn busybox(random_bytes: u64) -> Self {
        let name = format!("ramarket-export-{}-{random_bytes}", std::process::id());
        let made = docker(&[
            "create",
            "--network",
            "none",
            "--name",
            &name,
            "busybox:latest",
        ]);
        assert!(made.status.success(), "{made:?}");
        let root = docker(&["export", &name]).stdout;
        docker(&["rm", &name]);
        Self {
            architecture: shared::image::Platform::here().architecture,
            layers: vec![root, random_layer(random_bytes)],
        }
    }
}

fn docker(arguments: &[&str]) -> std::process::Output {
    let ran = Command::new("docker").args(arguments).output();
    ran.expect("docker runs")
}

/// A tar archive with one file that can't be compressed.
fn random_layer(bytes: u64) -> Vec<u8> {
    let folder = TempDir::new();
    let file = std::fs::File::create(folder.path().join("random")).expect("a file");
    let source = std::fs::File::open("/dev/urandom").expect("random bytes");
    let mut source = std::io::Read::take(source, bytes.max(16));
    std::io::copy(&mut source, &mut { file }).expect("written");
    let made = Command::new("tar")
        .arg("-C")
        .arg(folder.path())
        .args(["-cf", "-", "random"])
        .output();
    made.expect("tar runs").stdout
}

impl Registry {
    /// On a free port; returns when it answers.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn start() -> Self {
        let folder = TempDir::new();
        let port = free_port();
        let (passwords, settings) = (folder.path().join("passwords"), folder.path().join("c.yml"));
        std::fs::write(&passwords, format!("{USER}:{PASSWORD_HASH}\n")).expect("written");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: 127.0.0.1:{port}}}\nauth: {{htpasswd: {{realm: tests, path: {}}}}}\n",
            folder.path().join("data").display(),
            passwords.display()
        );
        std::fs::write(&settings, text).expect("written");
        let process = Command::new(program())
            .arg("serve")
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a registry");
        let registry = Self {
            process,
            port,
            http: crate::api::http_client(),
            folder,
        };
        crate::wait::until("the registry answers", || async {
            let asked = registry.request(Method::GET, "/v2/").send().await;
            asked
                .is_ok_and(|answer| answer.status() == 200)
                .then_some(())
        })
        .await;
        registry
    }

    /// Host and port.
    #[must_use]
    pub fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.name());
        self.http
            .request(method, url)
            .basic_auth(USER, Some(PASSWORD))
    }

    async fn put_blob(&self, repository: &str, bytes: Vec<u8>) -> Value {
        let begin = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.request(Method::POST, &begin).send().await;
        let begun = begun.expect("an answer");
        assert_eq!(begun.status(), 202, "{begun:?}");
        let place = begun.headers()[header::LOCATION].to_str().expect("text");
        let digest = Digest::of(&bytes);
        let joint = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{joint}digest={digest}");
        let size = bytes.len();
        let put = self
            .http
            .put(url)
            .basic_auth(USER, Some(PASSWORD))
            .body(bytes);
        let put = put.send().await.expect("an answer");
        assert_eq!(put.status(), 201, "{put:?}");
        json!({"digest": digest, "size": size})
    }

    /// Puts an image there; its tag means this one from now on. Returns its digest.
    ///
    /// # Panics
    /// If the registry refuses.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> Digest {
        let (mut layers, mut diffs) = (Vec::new(), Vec::new());
        for layer in &image.layers {
            diffs.push(Digest::of(layer));
            let mut put = self.put_blob(repository, layer.clone()).await;
            put["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
            layers.push(put);
        }
        let config = json!({
            "architecture": image.architecture, "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        let mut config = self
            .put_blob(repository, config.to_string().into_bytes())
            .await;
        config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let put = self
            .request(Method::PUT, &path)
            .header(header::CONTENT_TYPE, kind);
        let put = put.body(bytes).send().await.expect("an answer");
        assert_eq!(put.status(), 201, "{put:?}");
        digest
    }

    /// The same registry through a line on which a download can be watched: about a MiB a second. Returns host and port.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn slow_line(&self) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let name = listener.local_addr().expect("bound").to_string();
        let target = self.name();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target.clone()));
            }
        });
        name
    }
}

async fn forward(client: TcpStream, target: String) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; BYTES_PER_PACE];
    let mut pace = tokio::time::interval(PACE);
    while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
        if to_client.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        pace.tick().await;
    }
}

/// The program, fetched if it isn't there.
fn program() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/docker-engine.sh");
    let said = Command::new(script).arg("registry").output();
    let said = said.expect("the script runs");
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

impl Drop for Registry {
    fn drop(&mut self) {
        // it may have ended by itself; what matters is that it is gone
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
