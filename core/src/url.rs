//! URLs for people.

/// `url` with the password of the authority, and of parameters called so, replaced.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (before, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    let before = match before.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:[redacted]@{host}"),
            None => before.to_owned(),
        },
        None => before.to_owned(),
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if key.contains("password") => format!("{key}=[redacted]"),
        _ => pair.to_owned(),
    };
    let query = query.map(|query| format!("?{}", query.split('&').map(pair).collect::<Vec<_>>().join("&")));
    format!("{scheme}://{before}{}", query.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redacted("postgres://me:secret@host/db"), "postgres://me:[redacted]@host/db");
        assert_eq!(redacted("postgresql+psycopg2://me:a@b@host/db"), "postgresql+psycopg2://me:[redacted]@host/db");
        assert_eq!(redacted("postgres:///db?host=/run&password=x"), "postgres:///db?host=/run&password=[redacted]");
        assert_eq!(
            redacted("mysql://me:secret@host/db?sslpassword=x"),
            "mysql://me:[redacted]@host/db?sslpassword=[redacted]"
        );
        assert_eq!(redacted("sqlite:///a/b.db"), "sqlite:///a/b.db");
    }
}
