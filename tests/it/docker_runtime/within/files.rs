//! Files by OpenSSH's own `sftp`, over a stream; how fast bytes go both ways.

use std::path::Path;

use ring::digest::{Context, SHA256};
use shared::link::{
    frame::{self, Exit, Frame},
    open::{Open, Opened},
};
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::UnixListener,
    process::Command,
    time::Instant,
};

use super::stage::{Stage, output};

/// What `sftp` takes for a server: standard input and output on a socket.
const BRIDGE: &str = "import os,socket,sys,threading
s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def up():
    while b:=os.read(0,65536): s.sendall(b)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up,daemon=True).start()
while b:=s.recv(65536):
    while b: b=b[os.write(1,b):]
";

/// Runs `sftp` with these commands on the rental's files.
async fn sftp(stage: &Stage, folder: &Path, commands: &str) {
    let socket = folder.join("sftp.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let bridge = folder.join("bridge.py");
    std::fs::write(&bridge, BRIDGE).expect("written");
    let batch = folder.join("batch");
    std::fs::write(&batch, commands).expect("written");
    let rental_id = stage.rental_id;
    let carry = async {
        let (mut client, _) = listener.accept().await.expect("sftp connects");
        let (mut stream, opened) = stage.open(&Open::Sftp { rental_id }).await;
        assert_eq!(opened, Opened::Ready {});
        copy_bidirectional(&mut client, &mut stream)
            .await
            .expect("carried");
    };
    let server = format!("python3 {} {}", bridge.display(), socket.display());
    let running = Command::new("sftp")
        .arg("-D")
        .arg(server)
        .arg("-b")
        .arg(&batch)
        .output();
    let (said, ()) = tokio::join!(running, carry);
    let said = said.expect("sftp runs");
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

fn digest(bytes: &[u8]) -> String {
    let mut digest = Context::new(&SHA256);
    digest.update(bytes);
    hex::encode(digest.finish())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_there_and_back_whole() {
    const BYTES: usize = 100 << 20;
    let stage = Stage::new("files", &["sleep", "600"]).await;
    let folder = std::env::temp_dir().join(format!("ramarket-files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    // no two blocks are alike
    let content: Vec<u8> = (0_u64..)
        .flat_map(|n| (n * n).to_le_bytes())
        .take(BYTES)
        .collect();
    let (there, back) = (folder.join("there"), folder.join("back"));
    std::fs::write(&there, &content).expect("written");
    let commands = format!(
        "put {} /var/there\nmkdir /var/d\nrename /var/there /var/d/moved\nchmod 600 /var/d/moved\n\
         symlink /var/d/moved /var/link\nls -l /var/d\nget /var/link {}\nrm /var/link\n",
        there.display(),
        back.display()
    );
    sftp(&stage, &folder, &commands).await;
    let back = std::fs::read(&back).expect("it came back");
    assert_eq!(digest(&back), digest(&content));
    let (mut stream, _) = stage
        .open(&stage.exec(&[
            "sh",
            "-c",
            "sha256sum < /var/d/moved; stat -c %a /var/d/moved",
        ]))
        .await;
    let said = output(&mut stream).await.0;
    assert_eq!(said, format!("{}  -\n600\n", digest(&content)));
    std::fs::remove_dir_all(&folder).expect("removed");
    stage.end().await;
}

/// Prints what it measures; the hashes are what it shows.
#[tokio::test(flavor = "multi_thread")]
async fn many_bytes_go_through_a_program_both_ways() {
    let mib: usize = std::env::var_os("RAMARKET_WITHIN_MIB")
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(64);
    let stage = Stage::new("many", &["sleep", "600"]).await;
    let chunk: Vec<u8> = (0_u64..)
        .flat_map(|n| (n * n).to_le_bytes())
        .take(1 << 20)
        .collect();
    let pieces: Vec<&[u8]> = chunk.chunks(frame::FRAME_BYTES_MAX).collect();
    let mut expected = Context::new(&SHA256);
    (0..mib).for_each(|_| expected.update(&chunk));
    let expected = hex::encode(expected.finish());

    let (mut stream, _) = stage.open(&stage.exec(&["sha256sum"])).await;
    let began = Instant::now();
    for piece in (0..mib).flat_map(|_| pieces.iter()) {
        let frame = Frame::Stdin(piece.to_vec());
        frame::write(&mut stream, &frame).await.expect("sent");
    }
    let end = Frame::Stdin(Vec::new());
    frame::write(&mut stream, &end).await.expect("sent");
    let said = output(&mut stream).await.0;
    let up = began.elapsed();
    assert_eq!(said, format!("{expected}  -\n"));

    let script = format!("for i in $(seq {mib}); do cat /tmp/m; done");
    let (mut fill, _) = stage.open(&stage.exec(&["sh", "-c", "cat > /tmp/m"])).await;
    for piece in pieces {
        let frame = Frame::Stdin(piece.to_vec());
        frame::write(&mut fill, &frame).await.expect("sent");
    }
    let end = Frame::Stdin(Vec::new());
    frame::write(&mut fill, &end).await.expect("sent");
    output(&mut fill).await;
    let (mut stream, _) = stage.open(&stage.exec(&["sh", "-c", &script])).await;
    let mut came = Context::new(&SHA256);
    let began = Instant::now();
    let exit = loop {
        match frame::read(&mut stream).await.expect("a frame") {
            Some(Frame::Stdout(bytes)) => came.update(&bytes),
            Some(Frame::Exit(exit)) => break exit,
            other => panic!("{other:?}"),
        }
    };
    let down = began.elapsed();
    assert_eq!(
        (hex::encode(came.finish()), exit),
        (expected, Exit::Code(0))
    );
    eprintln!("within: {mib} MiB to a program in {up:?}, from one in {down:?}");
    drop(stream.shutdown().await);
    stage.end().await;
}
