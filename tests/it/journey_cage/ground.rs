//! What lies around the machine of this test: a network namespace with an address of every class, listeners in it and on the machine, and
//! the image of the program that tries to get out.

use std::{
    fs::File,
    io::Read as _,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use coordinator::store::testing::TempDir;

/// The image that the rentals of this journey run.
pub(super) const IMAGE: &str = "ramarket-cage-probe:test";
/// Where the listeners wait.
pub(super) const PORT: u16 = 7_001;
/// An address of the public internet, behind a router: the one that must be reached.
pub(super) const PUBLIC: &str = "198.51.100.7";
/// The machine's own, a public one.
pub(super) const OWN_PUBLIC: &str = "198.51.100.1";
/// A machine beside this one, whose address is public.
pub(super) const NEXT_DOOR: &str = "203.0.113.2";
/// Addresses of every class that is closed to rentals, by name.
pub(super) const CLOSED: [(&str, &str); 12] = [
    ("private_10", "10.99.0.1"),
    ("private_172", "172.20.0.9"),
    ("private_192", "192.168.77.1"),
    ("carrier_grade", "100.64.9.9"),
    ("metadata_alibaba", "100.100.100.200"),
    ("metadata", "169.254.169.254"),
    ("metadata_containers", "169.254.170.2"),
    ("metadata_azure", "168.63.129.16"),
    ("metadata_oracle", "192.0.0.192"),
    ("benchmarks", "198.18.0.7"),
    ("reserved", "240.0.0.9"),
    ("reserved_end", "255.255.255.254"),
];

/// Namespaces are called this and the number of the process that made them.
const SPACE: &str = "cage";

/// The surroundings; taken down when dropped.
pub(super) struct Ground {
    space: String,
    link: String,
    listeners: Vec<Child>,
    folder: TempDir,
    /// One at a time: addresses and routes are the machine's.
    _alone: File,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Ground {
    pub(super) fn lay() -> Self {
        let alone = File::create(std::env::temp_dir().join("ramarket-cage.lock"));
        let alone = alone.expect("a lock file");
        alone.lock().expect("a lock");
        take_down_what_was_left();
        let number = std::process::id();
        let mut ground = Self {
            space: format!("{SPACE}{number}"),
            link: format!("v{SPACE}{number}"),
            listeners: Vec::new(),
            folder: TempDir::new(),
            _alone: alone,
        };
        ground.build();
        ground.connect();
        let here = [PORT.to_string(), "2375".to_owned()];
        ground.listen(None, &here);
        let there = [
            PORT.to_string(),
            "25".to_owned(),
            "465".to_owned(),
            "587".to_owned(),
            "80".to_owned(),
        ];
        let space = ground.space.clone();
        ground.listen(Some(&space), &there);
        ground
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("tree/probe")
    }

    /// The program, and an image that holds nothing else.
    fn build(&self) {
        let tree = self.folder.path().join("tree");
        for folder in ["tmp", "etc"] {
            std::fs::create_dir_all(tree.join(folder)).expect("made");
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/journey_cage/probe.c");
        let (source, program) = (source.to_string_lossy().into_owned(), self.program());
        run(
            "cc",
            &["-static", "-O1", "-o", &program.to_string_lossy(), &source],
        );
        let tree = tree.to_string_lossy().into_owned();
        let archive = self
            .folder
            .path()
            .join("image.tar")
            .to_string_lossy()
            .into_owned();
        run(
            "tar",
            &["-C", &tree, "--owner=0", "--group=0", "-cf", &archive, "."],
        );
        run("docker", &["import", &archive, IMAGE]);
    }

    fn connect(&self) {
        let ip = |words: &str| run("ip", &words.split(' ').collect::<Vec<_>>());
        let (space, link) = (&self.space, &self.link);
        ip(&format!("netns add {space}"));
        ip(&format!(
            "link add {link} type veth peer name eth0 netns {space}"
        ));
        ip(&format!("address add 203.0.113.1/30 dev {link}"));
        ip(&format!("address add {OWN_PUBLIC}/32 dev {link}"));
        ip(&format!(
            "-6 address add 2001:db8:77::1/64 dev {link} nodad"
        ));
        ip(&format!("link set {link} up"));
        ip(&format!("-n {space} address add {NEXT_DOOR}/30 dev eth0"));
        ip(&format!("-n {space} link set eth0 up"));
        ip(&format!("-n {space} link set lo up"));
        ip(&format!("-n {space} route add default via 203.0.113.1"));
        for address in CLOSED
            .map(|(_, address)| address)
            .into_iter()
            .chain([PUBLIC])
        {
            ip(&format!("-n {space} address add {address}/32 dev lo"));
            ip(&format!("route add {address}/32 via {NEXT_DOOR}"));
        }
    }

    fn listen(&mut self, space: Option<&str>, ports: &[String]) {
        let program = self.program().to_string_lossy().into_owned();
        let mut command = match space {
            Some(space) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", space, &program]);
                command
            }
            None => Command::new(&program),
        };
        command.arg("listen").args(ports).stdout(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let mut said = [0_u8; 9];
        let out = child.stdout.as_mut().expect("piped");
        out.read_exact(&mut said).expect("it listens");
        assert_eq!(&said, b"LISTENING");
        self.listeners.push(child);
    }

    /// This machine reaches every listener: what a rental doesn't reach is there.
    pub(super) fn check(&self) -> usize {
        let there = CLOSED.iter().map(|(_, address)| (*address, PORT));
        let mail = [25, 465, 587, PORT].map(|port| (PUBLIC, port));
        let own = [(NEXT_DOOR, PORT), (OWN_PUBLIC, PORT), (OWN_PUBLIC, 2_375)];
        let all: Vec<_> = there.chain(mail).chain(own).collect();
        for (address, port) in &all {
            let to = SocketAddr::new(address.parse().expect("an address"), *port);
            assert!(calls(to).is_some(), "nobody listens at {to}");
        }
        all.len()
    }
}

/// Calls a listener; how long its answer took.
pub(super) fn calls(to: SocketAddr) -> Option<Duration> {
    let begun = tokio::time::Instant::now();
    let within = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&to, within).ok()?;
    stream.set_read_timeout(Some(within)).ok()?;
    let mut said = [0_u8; 2];
    stream.read_exact(&mut said).ok()?;
    Some(begun.elapsed())
}

/// Of runs that were killed: their routes would be in the way.
fn take_down_what_was_left() {
    let spaces = run("ip", &["netns", "list"]);
    let names = spaces.lines().filter_map(|line| line.split(' ').next());
    let numbers = names.filter_map(|name| name.strip_prefix(SPACE));
    for number in numbers.filter(|number| !Path::new("/proc").join(number).exists()) {
        take_down(&format!("v{SPACE}{number}"), &format!("{SPACE}{number}"));
    }
}

/// The link's routes and addresses go with it, its other end with the namespace; either may be gone.
fn take_down(link: &str, space: &str) {
    drop(Command::new("ip").args(["link", "del", link]).output());
    drop(Command::new("ip").args(["netns", "del", space]).output());
}

impl Drop for Ground {
    fn drop(&mut self) {
        for child in &mut self.listeners {
            drop(child.kill());
            drop(child.wait());
        }
        take_down(&self.link, &self.space);
    }
}
