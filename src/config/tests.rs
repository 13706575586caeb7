//! What operators may write, and what they are told when it is no good.

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Config, BadSetting> {
    Config::read(&pairs.iter().copied().collect())
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    let line = read(pairs).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn nothing_given_is_the_embedded_shop_on_port_8000() {
    let config = read(&[]).unwrap();
    assert_eq!((config.host.as_str(), config.port, config.debug), ("127.0.0.1", 8000, true));
    assert_eq!(config.sqlite_file(), Some(Path::new("data/souk.db")));
    assert_eq!((config.access_token_minutes, config.refresh_token_days), (60, 7));
    assert!(config.cors_allowed_origins.is_empty());
}

#[test]
fn an_empty_value_counts_as_none() {
    assert_eq!(read(&[("PORT", ""), ("REDIS_URL", ""), ("SECRET_KEY", "")]), read(&[]));
}

#[test]
fn what_is_no_setting_is_left_alone() {
    assert_eq!(read(&[("PATH", "/bin"), ("HOSTNAME", "x"), ("help", "1"), ("DB_POOL", "3")]), read(&[]));
}

#[test]
fn a_bad_value_is_refused_by_the_name_of_its_setting() {
    for (name, value) in [
        ("HOST", "a b"),
        ("HOST", "http://x"),
        ("PORT", "eight"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("DEBUG", "maybe"),
        ("RUST_LOG", "souk=loud"),
        ("DATABASE_URL", "mysql://root@db/x"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("DATABASE_URL", "sqlite://a.db?mode=rwc"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "rediss://h"),
        ("REDIS_URL", "redis://h/name"),
        ("SECRET_KEY", "short"),
        ("ACCESS_TOKEN_MINUTES", "0"),
        ("ACCESS_TOKEN_MINUTES", "1.5"),
        ("REFRESH_TOKEN_DAYS", "-7"),
        ("RATE_LIMIT", "0"),
        ("RATE_LIMIT", "many"),
        ("TRUSTED_PROXIES", "proxy.internal"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("MAX_CONNECTIONS", "0"),
        ("MAX_REQUESTS", "-5"),
        ("MAX_SOCKETS", "1000001"),
        ("MAX_SOCKETS_PER_USER", "some"),
        ("CORS_ALLOWED_ORIGINS", "*"),
        ("CORS_ALLOWED_ORIGINS", "https://a.example,shop.example"),
        ("CORS_ALLOWED_ORIGINS", "https://a.example/path"),
    ] {
        let line = refusal(&[(name, value)]);
        assert!(line.starts_with(&format!("{name}: ")), "{name}={value}: {line}");
    }
    assert_eq!(refusal(&[("PORT", "-1")]), r#"PORT: must be a port number from 0 to 65535, not "-1""#);
}

#[test]
fn a_certificate_and_its_key_are_given_both_or_neither() {
    assert_eq!(refusal(&[("TLS_CERT", "cert.pem")]), "TLS_KEY: required with TLS_CERT");
    assert_eq!(refusal(&[("TLS_KEY", "key.pem")]), "TLS_CERT: required with TLS_KEY");
    let config = read(&[("TLS_CERT", "/nowhere/cert.pem"), ("TLS_KEY", "/nowhere/key.pem")]).unwrap();
    let line = config.tls().unwrap_err().to_string();
    assert!(line.starts_with("TLS_CERT: /nowhere/cert.pem: cannot be read: "), "{line}");
    assert!(read(&[]).unwrap().tls().unwrap().is_none());
}

#[test]
fn proxies_are_addresses_and_networks() {
    let config = read(&[("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8,fd00::/8")]).unwrap();
    assert_eq!(config.trusted_proxies.len(), 3);
    assert!(read(&[]).unwrap().trusted_proxies.is_empty());
}

#[test]
fn the_parts_of_a_postgres_url_are_put_together_and_escaped() {
    let config =
        read(&[("DB_NAME", "souk"), ("DB_USER", "ann"), ("DB_PASSWORD", "p@ss:/%"), ("DB_HOST", "::1")]);
    let url = config.unwrap().database_url;
    assert_eq!(url.reveal(), "postgres://ann:p%40ss%3A%2F%25@[::1]:5432/souk");
    let config = read(&[("DB_NAME", "souk"), ("DB_PORT", "6000")]).unwrap();
    assert_eq!(config.database_url.reveal(), "postgres://postgres@localhost:6000/souk");
    assert!(!config.debug && config.sqlite_file().is_none());
    assert!(refusal(&[("DB_USER", "ann")]).starts_with("DB_NAME: "));
    let both = read(&[("DB_NAME", "souk"), ("DATABASE_URL", "sqlite://x.db")]).unwrap();
    assert_eq!(both.sqlite_file(), Some(Path::new("x.db")));
}

#[test]
fn no_secret_is_shown_by_debug_or_by_an_error() {
    let config =
        read(&[("SECRET_KEY", &"hush".repeat(8)), ("DB_NAME", "x"), ("DB_PASSWORD", "hush")]).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
    let config = read(&[("REDIS_URL", "redis://u:hush@h")]).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
    assert!(!refusal(&[("REDIS_URL", "redis://u:hush@h/x")]).contains("hush"));
    assert!(!refusal(&[("SECRET_KEY", "hush")]).contains("hush"));
    assert!(!refusal(&[("DATABASE_URL", "mysql://a:hush@b/c")]).contains("hush"));
}

#[test]
fn a_key_must_be_given_with_postgres_and_with_debug_false() {
    for pairs in [&[("DATABASE_URL", "postgres://u@h/d")], &[("DEBUG", "false")]] {
        let line = read(pairs).unwrap().secret_key().unwrap_err().to_string();
        assert!(line.starts_with("SECRET_KEY: required"), "{line}");
    }
    let key = "k".repeat(32);
    let config = read(&[("DEBUG", "0"), ("SECRET_KEY", &key)]).unwrap();
    assert_eq!(config.secret_key().unwrap().reveal(), key);
}

#[test]
fn the_key_is_made_once_and_kept_beside_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/new/souk.db", folder.path().display());
    let first = read(&[("DATABASE_URL", &url)]).unwrap().secret_key().unwrap();
    let second = read(&[("DATABASE_URL", &url)]).unwrap().secret_key().unwrap();
    assert_eq!(first, second);
    assert!(folder.path().join("new/souk.db-secret-key").is_file());
}

#[test]
fn the_help_names_every_setting_with_its_default() {
    let help = settings_help();
    for setting in Settings::command().get_arguments() {
        let name = setting.get_long().unwrap();
        let stands_first = |line: &str| line.split_whitespace().next() == Some(name);
        assert!(help.lines().any(stands_first), "{name}\n{help}");
    }
    assert!(help.contains("[default: 8000]") && help.lines().all(|line| line.len() <= HELP_WIDTH), "{help}");
}
