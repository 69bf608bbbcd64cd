use std::time::Duration;

use super::*;

/// 32 bytes in base64.
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn load(environment: &[(&str, &str)]) -> Result<Config, Faults> {
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    // An empty file stands in for whatever the working directory holds.
    let file = tempfile::NamedTempFile::new().unwrap();
    Config::load(Some(file.path()), environment, &Overrides::default())
}

fn load_file(text: &str) -> Result<Config, Faults> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(Some(file.path()), [], &Overrides::default())
}

#[test]
fn everything_has_a_working_default() {
    let config = load(&[]).unwrap();

    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.ops_listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.server.public_url.as_str(), "http://127.0.0.1:8080/");
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(20));
    assert_eq!(config.storage.database, Database::Sqlite { path: "pulse.db".into() });
    assert_eq!(config.storage.retention.events, Duration::from_hours(365 * 24));
    assert_eq!(config.liveness.heartbeat_interval, Duration::from_secs(5));
    assert_eq!(config.liveness.heartbeat_timeout, Duration::from_secs(12));
    assert_eq!(config.liveness.offline_grace, Duration::from_secs(5));
    assert_eq!(config.limits.handshakes_per_address.map(u32::from), Some(20));
    assert_eq!(config.limits.handshakes_per_node.map(u32::from), Some(2000));
    let frames = config.limits.frames.unwrap();
    assert_eq!((u32::from(frames.per_second), u32::from(frames.burst)), (200, 1000));
    assert_eq!(config.limits.unacked_frames.map(u32::from), Some(256));
    assert_eq!(config.log.filter, "info");
    assert!(config.unused.is_empty());
}

#[test]
fn zero_lifts_a_limit() {
    let config = load(&[
        ("PULSE_LIMIT_HANDSHAKES_PER_ADDRESS", "0"),
        ("PULSE_LIMIT_HANDSHAKES_PER_NODE", "0"),
        ("PULSE_LIMIT_FRAMES_PER_SECOND", "0"),
        ("PULSE_LIMIT_UNACKED_FRAMES", "0"),
    ])
    .unwrap();

    assert_eq!(config.limits.handshakes_per_address, None);
    assert_eq!(config.limits.handshakes_per_node, None);
    assert_eq!(config.limits.frames, None);
    assert_eq!(config.limits.unacked_frames, None);
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "listen = \"127.0.0.1:1\"\noffline_grace_ms = 2000\nlog = \"warn\"",
    )
    .unwrap();
    let environment = [("PULSE_LISTEN", "127.0.0.1:2"), ("PULSE_OFFLINE_GRACE_MS", "3000")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flags = Overrides { listen: Some("127.0.0.1:3".to_owned()), ..Overrides::default() };

    let config = Config::load(Some(file.path()), environment, &flags).unwrap();

    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.liveness.offline_grace, Duration::from_secs(3));
    assert_eq!(config.log.filter, "warn");
}

#[test]
fn each_wrong_value_is_named_with_its_key_what_is_wrong_and_an_example() {
    let table = [
        ("PULSE_LISTEN", "localhost", "no IP address with a port"),
        ("PULSE_OPS_LISTEN", "9090", "no IP address with a port"),
        ("PULSE_OPS_LISTEN", "127.0.0.1:8080", "the same address"),
        ("PULSE_PUBLIC_URL", "pulse.example.com", "no URL"),
        ("PULSE_PUBLIC_URL", "https://pulse.example.com/hub", "without a path"),
        ("PULSE_PUBLIC_URL", "ftp://pulse.example.com", "http or https"),
        ("PULSE_DATABASE_URL", "mysql://localhost/pulse", "neither sqlite:// nor postgres://"),
        ("PULSE_DATABASE_URL", "sqlite://", "the path of a file"),
        ("PULSE_DATABASE_URL", "sqlite://no-such-folder/pulse.db", "does not exist"),
        ("PULSE_DATABASE_URL", "sqlite://.", "is a folder"),
        ("PULSE_DATABASE_URL", "sqlite://pulse.db?mode=ro", "and nothing else"),
        ("PULSE_DATABASE_URL", "postgres://127.0.0.1", "names no database"),
        ("PULSE_DATABASE_URL", "postgres://a,b:x/pulse", "is no postgres://"),
        ("PULSE_DATABASE_URL", "postgres://a,b/pulse?target_session_attrs=any", "only read-write"),
        ("PULSE_REDIS_URL", "http://127.0.0.1", "none of redis://"),
        ("PULSE_REDIS_URL", "redis+sentinel://a:26379", "names no primary"),
        ("PULSE_REDIS_URL", "redis://127.0.0.1:6379", "needs PostgreSQL"),
        ("PULSE_NODE_ID", "hub 1", "letters, digits"),
        ("PULSE_SECRET_KEY", "c2hvcnQ=", "32 bytes in base64"),
        ("PULSE_SECRET_KEY", "not base64!", "32 bytes in base64"),
        ("PULSE_SECRET_KEY", ",", "is empty"),
        ("PULSE_EGRESS_ALLOW", "127.0.0.0/8,10.0.0.0/40", "`10.0.0.0/40` is no network"),
        ("PULSE_TRUSTED_PROXIES", "proxy", "no network"),
        ("PULSE_HEARTBEAT_INTERVAL_MS", "999", "from 1000 to 300000"),
        ("PULSE_HEARTBEAT_INTERVAL_MS", "5 s", "no whole number"),
        ("PULSE_HEARTBEAT_TIMEOUT_MS", "300001", "from 1000 to 300000"),
        ("PULSE_HEARTBEAT_TIMEOUT_MS", "9999", "less than twice the interval: at least 10000"),
        ("PULSE_OFFLINE_GRACE_MS", "0", "from 1000 to 300000"),
        ("PULSE_RETENTION_EVENTS_DAYS", "0", "from 1 to 36500"),
        ("PULSE_RETENTION_SAMPLES_DAYS", "ever", "no whole number"),
        ("PULSE_RETENTION_AUDIT_DAYS", "-1", "no whole number"),
        ("PULSE_SIGNUP", "yes", "neither `closed` nor `open`"),
        ("PULSE_SIGNUP", "open", "not supported by this version"),
        ("PULSE_LOG", "pulse_web=loud", "no log filter"),
        ("PULSE_LOG_FORMAT", "xml", "neither `text` nor `json`"),
        ("PULSE_SHUTDOWN_GRACE_MS", "600001", "from 0 to 600000"),
        ("PULSE_LIMIT_HANDSHAKES_PER_ADDRESS", "-1", "no whole number"),
        ("PULSE_LIMIT_HANDSHAKES_PER_NODE", "many", "no whole number"),
        ("PULSE_LIMIT_FRAMES_PER_SECOND", "4294967296", "no whole number"),
        ("PULSE_LIMIT_FRAMES_BURST", "0", "at least 1"),
        ("PULSE_LIMIT_UNACKED_FRAMES", "0.5", "no whole number"),
        ("PULSE_SMTP_URL", "http://mail.example.com", "no smtp:// or smtps://"),
        ("PULSE_MAIL_FROM", "pulse", "no mail address"),
        ("PULSE_RESEND_API_BASE", "api.resend.com", "no http://"),
        ("PULSE_STRIPE_SECRET_KEY", "hunter2", "begin with sk_ or rk_"),
        ("PULSE_STRIPE_WEBHOOK_SECRET", "whsec_a,hunter2", "begin with whsec_"),
        ("PULSE_STRIPE_API_BASE", "stripe", "no http://"),
        ("PULSE_STRIPE_PRICE_STARTER", "prod_1", "begin with price_"),
        ("PULSE_STRIPE_PRICE_UNLIMITED", "prod_1", "begin with price_"),
        ("PULSE_OIDC_ISSUER", "login", "no http://"),
        ("PULSE_OTLP_ENDPOINT", "127.0.0.1:4317", "no http://"),
    ];
    for (variable, value, problem) in table {
        let message = load(&[(variable, value)]).expect_err(variable).to_string();
        let lines: Vec<&str> =
            message.lines().filter(|line| line.starts_with(&format!("  {variable}: "))).collect();
        assert!(!lines.is_empty(), "{variable}={value} is not named in:\n{message}");
        assert!(lines.iter().any(|line| line.contains(problem)), "{problem:?} not in:\n{message}");
        assert!(lines.iter().all(|line| line.contains("; for example ")), "no example:\n{message}");
        assert!(!message.contains("hunter2"), "a secret is shown:\n{message}");
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    assert!(load(&[("PULSE_LIMIT_UNACKED_FRAMES", ""), ("PULSE_REDIS_URL", " ")]).is_ok());
}

#[test]
fn a_half_configured_integration_names_what_is_missing() {
    let table = [
        ("PULSE_SMTP_URL", "smtp://mail.example.com", "PULSE_MAIL_FROM"),
        ("PULSE_MAIL_FROM", "pulse@example.com", "PULSE_MAIL_FROM"),
        ("PULSE_RESEND_API_KEY", "re_1", "PULSE_MAIL_FROM"),
        ("PULSE_RESEND_API_BASE", "https://api.resend.com", "PULSE_RESEND_API_KEY"),
        ("PULSE_STRIPE_SECRET_KEY", "sk_1", "PULSE_STRIPE_WEBHOOK_SECRET"),
        ("PULSE_STRIPE_PRICE_STARTER", "price_1", "PULSE_STRIPE_PRICE_UNLIMITED"),
        ("PULSE_OIDC_CLIENT_ID", "pulse", "PULSE_OIDC_ISSUER"),
        ("PULSE_OIDC_CLIENT_SECRET", "x", "PULSE_OIDC_CLIENT_ID"),
        ("PULSE_TLS_CERT", "/no/such/cert.pem", "PULSE_TLS_KEY"),
        ("PULSE_TLS_KEY", "/no/such/key.pem", "PULSE_TLS_CERT"),
    ];
    for (variable, value, missing) in table {
        let message = load(&[(variable, value)]).expect_err(variable).to_string();
        assert!(message.contains(&format!("\n  {missing}: ")), "{missing} not in:\n{message}");
    }
}

#[test]
fn a_whole_integration_is_accepted_and_one_that_is_not_used_is_named() {
    let config = load(&[
        ("PULSE_SMTP_URL", "smtps://user:hunter2@mail.example.com"),
        ("PULSE_MAIL_FROM", "Pulse <pulse@example.com>"),
        ("PULSE_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
    ])
    .unwrap();
    assert_eq!(config.unused, ["traces"]);
    let mail = config.mail.unwrap();
    assert_eq!(mail.from.to_string(), "Pulse <pulse@example.com>");
    assert!(matches!(&mail.way, MailWay::Smtp(smtp) if smtp.host == "mail.example.com"));
    assert!(!format!("{:?}", mail.way).contains("hunter2"));
}

#[test]
fn all_faults_are_listed_at_once() {
    let message = load(&[
        ("PULSE_LISTEN", "nowhere"),
        ("PULSE_HEARTBEAT_INTERVAL_MS", "1"),
        ("PULSE_DATABASE_URL", "postgres://pulse@127.0.0.1/pulse"),
        ("PULSE_LOG_FORMAT", "xml"),
        ("PULSE_LISTNE", "x"),
    ])
    .unwrap_err()
    .to_string();

    assert!(message.starts_with("the configuration has 5 faults:\n"), "{message}");
    for key in ["LISTEN", "HEARTBEAT_INTERVAL_MS", "SECRET_KEY", "LOG_FORMAT", "LISTNE"] {
        assert!(message.contains(&format!("\n  PULSE_{key}: ")), "{key} not in:\n{message}");
    }
}

#[test]
fn an_unknown_name_is_a_fault_with_the_likely_one() {
    let message = load(&[("PULSE_DATABSE_URL", "x")]).unwrap_err().to_string();
    assert!(message.contains("did you mean PULSE_DATABASE_URL?"), "{message}");

    let message = load_file("databse_url = \"x\"").unwrap_err().to_string();
    assert!(message.contains("databse_url: "), "{message}");
    assert!(message.contains("did you mean database_url?"), "{message}");

    let message = load(&[("PULSE_QQQ", "x")]).unwrap_err().to_string();
    assert!(!message.contains("did you mean"), "{message}");
}

#[test]
fn variables_of_the_agent_and_of_tests_are_left_alone() {
    let foreign = [
        ("PULSE_AGENT_KEY", "x"),
        ("PULSE_HUB_URL", "x"),
        ("PULSE_TEST_POSTGRES_URL", "x"),
        ("PATH", "x"),
    ];
    assert!(load(&foreign).is_ok());
}

#[test]
fn a_file_with_wrong_forms_names_each() {
    let message = load_file("listen = 8080.5\noffline_grace_ms = true\n[egress_allow]\na = 1")
        .unwrap_err()
        .to_string();
    for (key, example) in [
        ("listen", "listen = \"127.0.0.1:8080\""),
        ("offline_grace_ms", "offline_grace_ms = 5000"),
        ("egress_allow", "egress_allow = [\"127.0.0.0/8\"]"),
    ] {
        assert!(message.contains(&format!("\n  {key}: ")), "{key} not in:\n{message}");
        assert!(message.contains(example), "{example} not in:\n{message}");
    }
}

#[test]
fn a_file_that_is_absent_or_no_toml_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.toml");
    let message = Config::load(Some(&absent), [], &Overrides::default()).unwrap_err().to_string();
    assert!(message.contains("absent.toml: the file cannot be read"), "{message}");

    let message =
        load_file("listen = \"127.0.0.1:1\"\nsecret_key = hunter2").unwrap_err().to_string();
    assert!(message.contains("the file is no TOML: line 2"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn postgres_needs_a_secret_key_and_two_may_be_given_to_rotate() {
    let url = ("PULSE_DATABASE_URL", "postgres://pulse@127.0.0.1/pulse");
    let message = load(&[url]).unwrap_err().to_string();
    assert!(message.contains("PULSE_SECRET_KEY: is required with PostgreSQL"), "{message}");

    let config = load(&[url, ("PULSE_SECRET_KEY", &format!("{SECRET}, {SECRET}"))]).unwrap();
    assert_eq!(config.secret_keys.load_or_create().unwrap().len(), 2);
}

#[test]
fn the_printed_configuration_reads_back_and_shows_no_secret() {
    let config = load(&[
        ("PULSE_DATABASE_URL", "postgres://pulse:hunter2@127.0.0.1:1,127.0.0.2:2/pulse"),
        ("PULSE_SECRET_KEY", SECRET),
        (
            "PULSE_REDIS_URL",
            "redis+sentinel://u:hunter2@a:26379,b:26380/pulse?sentinel_password=hunter2",
        ),
        ("PULSE_EGRESS_ALLOW", "127.0.0.0/8, 10.0.0.0/8"),
        ("PULSE_HEARTBEAT_TIMEOUT_MS", "15000"),
    ])
    .unwrap();

    let printed = config.to_toml().unwrap();

    assert!(!printed.contains("hunter2") && !printed.contains(SECRET), "{printed}");
    let table: toml::Table = printed.parse().unwrap();
    assert_eq!(table["heartbeat_timeout_ms"].as_integer(), Some(15_000));
    assert_eq!(table["egress_allow"].as_array().unwrap().len(), 2);
    assert_eq!(table["secret_key"].as_str(), Some("(redacted)"));
    let redis = "redis+sentinel://redacted@a:26379,b:26380/pulse?redacted";
    assert_eq!(table["redis_url"].as_str(), Some(redis));
    assert_eq!(table["listen"].as_str(), Some("127.0.0.1:8080"));
}

#[test]
fn the_default_public_address_follows_the_listener() {
    let config = load(&[("PULSE_LISTEN", "0.0.0.0:8100")]).unwrap();
    assert_eq!(config.server.public_url.as_str(), "http://127.0.0.1:8100/");
}

#[test]
fn redis_and_postgres_make_a_member_of_a_cluster() {
    let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let config = load(&[
        ("PULSE_DATABASE_URL", "postgres://pulse@127.0.0.1/pulse"),
        ("PULSE_SECRET_KEY", secret),
        ("PULSE_REDIS_URL", "redis://127.0.0.1:6379"),
        ("PULSE_NODE_ID", "hub-1"),
    ]);
    let cluster = config.unwrap().storage.cluster.unwrap();
    assert_eq!(cluster.node_id, "hub-1");
    assert!(load(&[]).unwrap().storage.cluster.is_none());
}
