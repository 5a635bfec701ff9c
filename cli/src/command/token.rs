//! `fleetune token …` and `fleetune audit`.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fleetune_core::Timestamp;

use crate::args::{AuditArgs, Format, TokenCreateArgs, TokenVerb};
use crate::client::Admin;
use crate::error::{CliError, CliResult, Exit};
use crate::render;
use crate::view::NewTokenView;

/// What a token begins with, so that scanners of leaked secrets and people know it.
const PREFIX: &str = "fleetune_";

/// Runs a verb.
pub async fn run(verb: TokenVerb, mut admin: Admin, format: Format) -> CliResult<Exit> {
    match verb {
        TokenVerb::Create(args) => create(&args, &mut admin, format).await?,
        TokenVerb::List => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let now = Timestamp(0).plus(now);
            render::print(format, &admin.tokens().await?, |tokens| render::tokens(tokens, now))?;
        }
        TokenVerb::Revoke { token } => {
            render::print(format, &admin.revoke(&token).await?, |token| {
                format!(
                    "token `{}` ({}) is revoked; every coordinator refuses it within seconds",
                    token.name, token.role
                )
            })?;
        }
    }
    Ok(Exit::Done)
}

async fn create(args: &TokenCreateArgs, admin: &mut Admin, format: Format) -> CliResult<()> {
    let text = format!("{PREFIX}{}", draw()?);
    let expires_at = args.expires_in.map(|seconds| SystemTime::now() + Duration::from_secs_f64(seconds));
    // Before the token exists: one that cannot be kept would be lost.
    let file = args.output.as_deref().map(|path| private_file(path).map(|file| (file, path))).transpose()?;
    let created = admin.create(&args.name, args.role, &text, expires_at).await;
    let token = match (created, &file) {
        (Ok(token), _) => token,
        (Err(error), file) => {
            if let Some((_, path)) = file {
                // It is empty and ours.
                drop(std::fs::remove_file(path));
            }
            return Err(error);
        }
    };
    let secret = match file {
        None => Some(text),
        Some((mut file, path)) => {
            writeln!(file, "{text}").map_err(|error| not_written(path, &error))?;
            render::say(&format!("token `{}` ({}) is in `{}`", token.name, token.role, path.display()));
            None
        }
    };
    if secret.is_some() {
        render::say("this is the only time that the token is shown; keep it in a file that nobody else can read");
    }
    let printed = NewTokenView { token, secret };
    match (&printed.secret, format) {
        (None, Format::Table) => Ok(()),
        _ => render::print(format, &printed, |printed| printed.secret.clone().unwrap_or_default()),
    }
}

/// 256 random bits in hexadecimal digits.
fn draw() -> CliResult<String> {
    use rand::TryRng as _;
    let word = || {
        rand::rngs::SysRng
            .try_next_u64()
            .map_err(|error| CliError::new(Exit::Unexpected, "failed to draw a token").because(error))
    };
    Ok(format!("{:016x}{:016x}{:016x}{:016x}", word()?, word()?, word()?, word()?))
}

/// A new file that only its owner can read.
fn private_file(path: &Path) -> CliResult<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| not_written(path, &error))
}

fn not_written(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(Exit::NotFoundOrConflict, format!("failed to write the token to `{}`", path.display())).because(error)
}

/// Who changed what.
pub async fn audit(args: &AuditArgs, mut admin: Admin, format: Format) -> CliResult<Exit> {
    let deeds = admin.deeds(args.study.as_deref(), args.limit).await?;
    render::print(format, &deeds, |deeds| render::deeds(deeds))?;
    Ok(Exit::Done)
}
