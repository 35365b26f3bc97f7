//! `login` and `logout`.

use std::{
    io::{BufRead as _, Read as _},
    path::Path,
};

use serde_json::json;

use crate::{
    api::{Answer, Api, Auth, Request},
    args::Login,
    failure::{Failure, Kind, Result},
    output::tell,
    private_file,
};

const PASSWORD_BYTES_MAX: u64 = 4096;

/// Signs in and remembers it.
pub(super) async fn login(api: &Api, login: &Login) -> Result<()> {
    let password = password(&login.password_file)?;
    let session = api.login(&login.email, &password).await?;
    tell(&format!("signed in as {}", session.email));
    Ok(())
}

/// Signs out; forgets the sign-in even if the market can't be told.
pub(super) async fn logout(api: &Api) -> Result<()> {
    let Some(session) = api.local.session()? else {
        tell("nobody is signed in");
        return Ok(());
    };
    let body = json!({"refresh_token": session.refresh_token});
    let request = Request::post("/api/v1/auth/logout", body).auth(Auth::Anonymous);
    let told = api.send(&request).await.and_then(Answer::ok);
    api.local.set_session(None)?;
    match told {
        // there was nothing left to end
        Err(failure) if failure.kind == Kind::Auth => Ok(()),
        other => other.map(drop),
    }
}

fn password(file: &Path) -> Result<String> {
    let text = if file == Path::new("-") {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .take(PASSWORD_BYTES_MAX)
            .read_line(&mut line)
            .map_err(|error| Failure::usage(format!("standard input can't be read: {error}")))?;
        line
    } else {
        private_file::read(file)?
            .ok_or_else(|| Failure::usage(format!("there is no file {}", file.display())))?
    };
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        _ => Err(Failure::usage("the password is empty")),
    }
}
