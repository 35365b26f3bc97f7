//! The command line: settings as flags, and what an operator does by hand.

mod audit;
mod manual;

use std::{
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::{
    clock::{Clock as _, SystemClock},
    id::Ids,
    secret::Secret,
};

use crate::{
    books,
    config::{Config, Sources},
    context::{Actor, OpCtx, Role},
    domain::auth::{
        self,
        model::{self, Email},
        password::Passwords,
    },
    router, serve,
    store::{DatabaseUrl, Db},
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  ramarket-coordinator serve
  ramarket-coordinator serve --config /etc/ramarket/coordinator.toml
  ramarket-coordinator serve --database postgres://ramarket@/market?host=/run/postgresql --set market.fee_bps=300
  ramarket-coordinator user create --email ada@example.org --admin --password-file -
  ramarket-coordinator backup /var/backups/market.db

Every setting is also a line of the file and a variable: market.fee_bps is fee_bps under [market], and
RAMARKET_MARKET__FEE_BPS. A flag goes before a variable, a variable before the file.";

/// The market between those who have memory and those who need it.
#[derive(Debug, Parser)]
#[command(name = "ramarket-coordinator", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
struct Settings {
    /// The file of settings (TOML)
    #[arg(long, global = true, env = "RAMARKET_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Scheme and host under which clients and agents reach us
    #[arg(long, global = true, value_name = "URL")]
    public_url: Option<String>,
    /// sqlite:///path or postgres://user@host/name
    #[arg(long, global = true, value_name = "URL")]
    database: Option<String>,
    /// Where keys and a SQLite database are kept
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// auto, pretty or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// error, warn, info, debug, trace, or a filter by module
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any setting by its name; may be repeated
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the coordinator
    Serve,
    /// Bring the database's schema up to date
    Migrate,
    /// Check the settings, and show them without secrets
    Check,
    /// Print the OpenAPI document
    Openapi,
    /// Accounts
    #[command(subcommand)]
    User(UserCommand),
    /// The books
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// The audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Write a consistent copy of a SQLite database while the coordinator may go on running
    Backup {
        /// The file to write; one that is there is replaced once the copy is whole
        target: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder; it must exist
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Prove that the books add up; fails if they don't
    Check {
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Open an account
    Create {
        /// Its e-mail address
        #[arg(long)]
        email: String,
        /// A role; may be repeated
        #[arg(long, value_enum, default_value = "consumer")]
        role: Vec<RoleName>,
        /// Short for --role admin
        #[arg(long)]
        admin: bool,
        /// A file whose first line is the password; - reads standard input
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Give an account a role
    Grant {
        /// Its e-mail address
        #[arg(long)]
        email: String,
        /// The role
        #[arg(long, value_enum)]
        role: RoleName,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    Consumer,
    Provider,
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Consumer => Self::Consumer,
            RoleName::Provider => Self::Provider,
            RoleName::Admin => Self::Admin,
        }
    }
}

/// Tells why the program failed.
pub fn complain(error: &anyhow::Error) {
    // standard error may be closed; there is nobody else to tell
    drop(writeln!(io::stderr(), "ramarket-coordinator: {error:#}"));
}

impl Cli {
    /// Does what the arguments say.
    ///
    /// # Errors
    /// Why it couldn't.
    pub async fn run(self) -> anyhow::Result<()> {
        match &self.command {
            Command::Openapi => return print(&serde_json::to_string_pretty(&router::openapi())?),
            Command::Completions { shell } => return print(&manual::completions(*shell)?),
            Command::Man { folder } => return manual::pages(folder),
            _ => {}
        }
        let config = self.settings.load()?;
        if matches!(self.command, Command::Check) {
            return print(&toml::to_string_pretty(&config)?);
        }
        shared::tls::init();
        telemetry::init(&config.log)?;
        match self.command {
            Command::Serve => Box::pin(serve::serve(config)).await,
            Command::Migrate => migrate(&config).await,
            Command::User(command) => user(&config, command).await,
            Command::Ledger(LedgerCommand::Check { json }) => check_ledger(&config, json).await,
            Command::Audit(command) => command.run(&config).await,
            Command::Backup { target } => backup(&config, &target).await,
            Command::Check
            | Command::Openapi
            | Command::Completions { .. }
            | Command::Man { .. } => Ok(()),
        }
    }
}

impl Settings {
    fn load(&self) -> anyhow::Result<Config> {
        let named = [
            ("http.listen", &self.listen),
            ("http.public_url", &self.public_url),
            ("database.url", &self.database),
            ("data_dir", &self.data_dir),
            ("log.format", &self.log_format),
            ("log.level", &self.log_level),
        ];
        let mut flags = Vec::new();
        for pair in &self.set {
            let (key, value) = pair
                .split_once('=')
                .with_context(|| format!("--set {pair}: write SECTION.KEY=VALUE"))?;
            flags.push((key.to_owned(), value.to_owned()));
        }
        for (key, value) in named {
            if let Some(value) = value {
                flags.push((key.to_owned(), value.clone()));
            }
        }
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Ok(Config::load(&Sources {
            file: self.config.clone(),
            env: std::env::vars_os().filter_map(text).collect(),
            flags,
        })?)
    }
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    let db = serve::open_database(config).await?;
    let applied = db.migrate().await?;
    if applied.is_empty() {
        print("the schema is up to date")
    } else {
        print(&applied.join("\n"))
    }
}

async fn check_ledger(config: &Config, json: bool) -> anyhow::Result<()> {
    let db = open_existing(config).await?;
    let report = books::check(&db, SystemClock.now()).await?;
    if json {
        print(&serde_json::to_string_pretty(&report)?)?;
    } else {
        let size = &report.size;
        print(&format!(
            "{} accounts, {} transfers",
            size.accounts, size.transfers
        ))?;
        let broken = report.findings.iter().map(|it| (it, "BROKEN"));
        let late = report.alarms.iter().map(|it| (it, "LATE"));
        for (finding, otherwise) in broken.chain(late) {
            let word = if finding.broken.is_empty() {
                "holds"
            } else {
                otherwise
            };
            print(&format!(
                "{:3} {word}: {}",
                finding.invariant, finding.statement
            ))?;
            for broken in &finding.broken {
                print(&format!("      {broken}"))?;
            }
        }
    }
    if let Some(halt) = report.halted.as_ref().filter(|_| !json) {
        print(&format!(
            "money is held back since {} for {}: {}",
            halt.since, halt.invariant, halt.what
        ))?;
    }
    anyhow::ensure!(
        report.holds(),
        "the books don't add up: stop payouts and new rentals, and look into it"
    );
    Ok(())
}

/// Opens a database that is there and has this binary's schema: a typing error must not make a new one.
async fn open_existing(config: &Config) -> anyhow::Result<Db> {
    let url: DatabaseUrl = config.database_url().expose().parse()?;
    if let DatabaseUrl::Sqlite(path) = &url
        && !path.exists()
    {
        bail!(
            "there is no database at {}: name it by --database or --data-dir, or make it by `ramarket-coordinator migrate`",
            path.display()
        );
    }
    let db = serve::open_database(config).await?;
    db.check_schema().await?;
    Ok(db)
}

async fn backup(config: &Config, target: &Path) -> anyhow::Result<()> {
    let db = open_existing(config).await?;
    db.backup_to(target).await?;
    print(&format!("the copy is at {}", target.display()))
}

async fn user(config: &Config, command: UserCommand) -> anyhow::Result<()> {
    let db = open_existing(config).await?;
    let ids = Arc::new(Ids::System);
    let ctx = OpCtx::new(Actor::System, SystemClock.now(), "cli".to_owned(), ids);
    let account = match command {
        UserCommand::Create {
            email,
            mut role,
            admin,
            password_file,
        } => {
            if admin {
                role.push(RoleName::Admin);
            }
            create_user(config, &db, ctx, &email, &role, &password_file).await?
        }
        UserCommand::Grant { email, role } => {
            let email = Email::parse(&email)?;
            db.write("auth.grant", move |tx| {
                auth::grant(tx, &ctx, &email, role.into())
            })
            .await?
        }
    };
    let roles: Vec<&str> = account.roles.iter().map(|role| role.name()).collect();
    print(&format!(
        "{} {} {}",
        account.id,
        account.email,
        roles.join(",")
    ))
}

async fn create_user(
    config: &Config,
    db: &Db,
    ctx: OpCtx,
    email: &str,
    roles: &[RoleName],
    password_file: &Path,
) -> anyhow::Result<model::Account> {
    let email = Email::parse(email)?;
    let password = read_password(password_file)?;
    let hash = Passwords::new(&config.auth)?.hash(password).await?;
    let mut roles: std::collections::BTreeSet<Role> =
        roles.iter().copied().map(Role::from).collect();
    roles.insert(Role::Consumer);
    let account = db
        .write("auth.create", move |tx| {
            auth::create_account(tx, &ctx, &email, &hash, &roles)
        })
        .await?;
    Ok(account)
}

fn read_password(path: &Path) -> anyhow::Result<Secret<String>> {
    let mut text = String::new();
    let limit = 4096;
    if path == Path::new("-") {
        io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    }
    .with_context(|| format!("read the password from {}", path.display()))?;
    let Some(line) = text.lines().next() else {
        bail!(
            "{} is empty: its first line is the password",
            path.display()
        );
    };
    Ok(model::chosen_password("/password", line.to_owned(), None)?)
}

fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        // whoever read it has seen enough
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("print"),
    }
}
