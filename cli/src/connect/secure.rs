//! What makes a connection secure: the token, the certificates.

use std::path::Path;

use fleetune_proto::link::Credentials;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::config::Config;
use crate::error::{CliError, CliResult, Exit};

/// Longest token, bytes.
const MAX_TOKEN: usize = 4_096;

/// The credentials of every call, where a token is given.
pub fn credentials(config: &Config) -> CliResult<Option<Credentials>> {
    let text = match config.token_file.as_str() {
        "" if config.token.is_empty() => return Ok(None),
        "" => config.token.reveal().to_owned(),
        file => read_token(Path::new(file))?,
    };
    let credentials = Credentials::bearer(text.trim()).ok_or_else(|| {
        CliError::new(Exit::Usage, "the token cannot be used").because("it holds characters that no token has")
    })?;
    Ok(Some(credentials))
}

fn read_token(path: &Path) -> CliResult<String> {
    let wrong = |why: String| {
        CliError::new(Exit::NotFoundOrConflict, format!("failed to read the token in `{}`", path.display()))
            .because(why)
            .hint("`fleetune token create NAME --role ROLE --output FILE` makes such a file")
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() > MAX_TOKEN {
        return Err(wrong(format!("it has {} bytes; a token has at most {MAX_TOKEN}", bytes.len())));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is no text".to_owned()))?;
    if text.trim().is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    Ok(text)
}

/// How a server of an `https://` URL is checked, and what is shown to it.
pub fn tls(config: &Config) -> CliResult<ClientTlsConfig> {
    let mut tls = ClientTlsConfig::new();
    tls = match config.tls_ca.as_str() {
        "" => tls.with_native_roots(),
        file => tls.ca_certificate(Certificate::from_pem(pem(file)?)),
    };
    match (config.tls_cert.as_str(), config.tls_key.as_str()) {
        ("", "") => Ok(tls),
        ("", _) | (_, "") => Err(half_a_pair()),
        (cert, key) => Ok(tls.identity(Identity::from_pem(pem(cert)?, pem(key)?))),
    }
}

/// A certificate without its key, or the other way round.
pub fn half_a_pair() -> CliError {
    CliError::new(Exit::Usage, "a certificate and its key belong together")
        .because("only one of `tls_cert` and `tls_key` is given")
        .hint("pass both `--tls-cert FILE` and `--tls-key FILE`")
}

fn pem(file: &str) -> CliResult<Vec<u8>> {
    std::fs::read(file)
        .map_err(|error| CliError::new(Exit::NotFoundOrConflict, format!("failed to read `{file}`")).because(error))
}
