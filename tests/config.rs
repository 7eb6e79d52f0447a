//! The configuration through its public door: files that are right, files that are wrong and what is said of them, the
//! environment, and the daemon's commented example, which must show the real defaults.

use sipws::config::{Builder, Config, HashKey, OriginPattern, Secret};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXAMPLE: &str = include_str!("../examples/sipwsd/sipwsd.toml");

/// The `.toml` files of `tests/config/<kind>`, by name.
fn files(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new("tests/config").join(kind);
    let entries = Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder).read_dir().expect("the folder is there");
    let mut files: Vec<_> = entries.map(|entry| folder.join(entry.expect("an entry").file_name())).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the file can be read")
}

fn load(environment: &[(&str, &str)]) -> Result<Config, String> {
    load_over(None, environment)
}

fn load_over(file: Option<&Path>, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(file, environment).map_err(|errors| errors.to_string())
}

#[test]
fn every_valid_file_is_accepted() {
    for file in files("valid") {
        let name = file.to_string_lossy();
        if let Err(errors) = Config::from_toml(&text(&file), &name) {
            panic!("{errors}");
        }
    }
}

#[test]
fn every_invalid_file_gets_the_errors_that_it_begins_with_and_no_others() {
    for file in files("invalid") {
        let text = text(&file);
        let expected: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# error: ")).collect();
        let errors = Config::from_toml(&text, &file.to_string_lossy()).expect_err("wrong").to_string();
        let folder = format!("{}/", file.parent().expect("a folder").display());
        let found: BTreeSet<&str> = errors.lines().map(|line| line.strip_prefix(&folder).unwrap_or(line)).collect();
        assert_eq!(found, expected, "{}", file.display());
    }
}

#[test]
fn errors_come_in_the_order_of_the_file() {
    for file in files("invalid") {
        let errors = Config::from_toml(&text(&file), "f").expect_err("wrong").to_string();
        let lines: Vec<u32> = errors.lines().filter_map(|line| line.split(':').nth(1)?.parse().ok()).collect();
        assert!(lines.is_sorted(), "{errors}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = Path::new("no-such-file.toml");
    assert!(load_over(Some(missing), &[]).expect_err("missing").starts_with("no-such-file.toml: cannot be read: "));
    let folder = tempfile("latin-1");
    std::fs::write(&folder, b"# caf\xe9\n").expect("written");
    assert!(
        Config::from_file(&folder).expect_err("Latin-1").to_string().ends_with("latin-1: not UTF-8, which TOML is")
    );
}

#[test]
fn the_example_shows_the_defaults() {
    assert_eq!(Config::from_toml(EXAMPLE, "sipwsd.toml").expect("right"), Config::default());
}

#[test]
fn the_example_shows_every_key() {
    // A commented-out key is `#key = …`, without a space; prose has one.
    let bare = |line: &str| {
        let rest = line.strip_prefix('#')?;
        rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()).then(|| rest.to_owned())
    };
    let whole: Vec<String> = EXAMPLE.lines().map(|line| bare(line).unwrap_or_else(|| line.to_owned())).collect();
    let whole: toml::Table = whole.join("\n").parse().expect("the commented keys are TOML too");

    let weights = whole["upstream"][0].clone();
    assert_eq!((&weights["weight"], &weights["connections"]), (&toml::Value::from(1), &toml::Value::from(1)));
    let burst = Config::default().limits.burst();
    assert_eq!(whole["limits"]["burst"], toml::Value::from(burst));

    // An unknown key that is like no other is answered with the list of all.
    let allowed = |text: &str| -> BTreeSet<String> {
        let errors = Config::from_toml(text, "f").expect_err("unknown").to_string();
        let list = errors.lines().find_map(|line| line.split_once("allowed: ")).expect("a list").1.to_owned();
        list.split(", ").map(str::to_owned).collect()
    };
    let keys = |value: &toml::Value| -> BTreeSet<String> {
        let table = value.as_array().map_or(value, |list| &list[0]).as_table().expect("a section");
        table.keys().cloned().collect()
    };
    let sections = allowed("qqqqqqqq = 1");
    assert_eq!(sections, whole.keys().cloned().collect());
    for section in sections {
        let value = &whole[&section];
        let header = if value.is_array() { format!("[[{section}]]") } else { format!("[{section}]") };
        assert_eq!(keys(value), allowed(&format!("{header}\nqqqqqqqq = 1")), "{section}");
    }
}

#[test]
fn what_is_printed_is_a_configuration_again_and_masks_secrets() {
    let config = Config::from_toml(&text(Path::new("tests/config/valid/edge.toml")), "edge.toml").expect("right");
    let printed = config.to_toml_masked();
    assert!(!printed.contains("horse") && printed.contains("secret = \"***\""), "{printed}");
    assert!(!format!("{config:?}").contains("horse"));

    let mut masked: toml::Table = printed.parse().expect("TOML");
    masked.remove("cluster");
    let mut again = Config::from_toml(&masked.to_string(), "printed").expect("right");
    again.cluster = config.cluster.clone();
    assert_eq!(again, config);
}

#[test]
fn the_environment_sets_keys_and_wins_over_the_file() {
    let file = tempfile("base.toml");
    std::fs::write(&file, "[limits]\nburst = 5\nstrikes = 7\n[[listen]]\nurl = \"ws://127.0.0.1:81/\"\n")
        .expect("written");
    let config = load_over(
        Some(&file),
        &[
            ("PATH", "/bin"),
            ("SIPWS_LIMITS__BURST", "20"),
            ("SIPWS_LIMITS__OUTBOX_BYTES", "128KiB"),
            ("SIPWS_LISTEN__0__ORIGINS", "[\"*\"]"),
            ("SIPWS_LISTEN__1__URL", "wss://127.0.0.1:444/"),
            ("SIPWS_SIP__TRUSTED", "[\"10.0.0.0/8\"]"),
            ("SIPWS_UPSTREAM__0__URI", "sip:pbx;transport=tls"),
            ("SIPWS_UPSTREAM__0__WEIGHT", "2"),
            ("SIPWS_ROUTING__HASH", "to"),
            ("SIPWS_TIMEOUTS__PING", "45"),
            ("SIPWS_ADMIN", "{ listen = \"127.0.0.1:1\" }"),
        ],
    )
    .expect("right");
    assert_eq!((config.limits.burst(), config.limits.strikes, config.limits.outbox_bytes), (20, 7, 128 << 10));
    let urls: Vec<String> = config.listen.iter().map(|listen| listen.url.to_string()).collect();
    assert_eq!(urls, ["ws://127.0.0.1:81/", "wss://127.0.0.1:444/"]);
    assert_eq!(config.listen[0].origins, [OriginPattern::Any]);
    assert!(config.sip.trusted.len() == 1 && config.sip.trusted[0].to_string() == "10.0.0.0/8");
    assert!(config.upstream[0].uri.tls && config.upstream[0].weight == 2);
    assert_eq!((config.routing.hash, config.timeouts.ping), (HashKey::To, Duration::from_secs(45)));
    assert_eq!(config.admin.listen.port(), 1);
}

#[test]
fn a_first_listener_in_the_environment_takes_the_place_of_the_defaults() {
    let config = load(&[("SIPWS_LISTEN__0__URL", "ws://127.0.0.1:0")]).expect("right");
    assert_eq!(config.listen.len(), 1);
}

#[test]
fn text_that_happens_to_be_toml_is_still_text_where_text_is_meant() {
    let config = load(&[
        ("SIPWS_CLUSTER__NODE", "7"),
        ("SIPWS_CLUSTER__SECRET", "1234567890123456"),
        ("SIPWS_TLS__MIN_VERSION", "1.2"),
    ]);
    let config = config.expect("right");
    assert_eq!(config.cluster.node, "7");
    assert_eq!(config.cluster.secret, Some(Secret::new("1234567890123456")));
    assert_eq!(config.tls.min_version.to_string(), "1.2");
}

#[test]
fn a_wrong_variable_is_named_with_the_mend() {
    let only = |name: &str, value: &str| load(&[(name, value)]).expect_err(name);
    assert_eq!(
        only("SIPWS_LIMITS__BRUST", "1"),
        "environment: SIPWS_LIMITS__BRUST: unknown key; did you mean SIPWS_LIMITS__BURST?"
    );
    assert_eq!(
        only("SIPWS_LIMITS_BURST", "1"),
        "environment: SIPWS_LIMITS_BURST: unknown key; two underscores stand between section and key; did you mean SIPWS_LIMITS__BURST?"
    );
    assert!(
        only("SIPWS_COLOUR", "1")
            .starts_with("environment: SIPWS_COLOUR: unknown key; allowed: SIPWS_LISTEN, SIPWS_TLS,")
    );
    assert_eq!(
        only("SIPWS_LIMITS__BURST", "-1"),
        "environment: SIPWS_LIMITS__BURST: invalid value: integer `-1`, expected a whole number, 0 or more"
    );
    assert_eq!(only("SIPWS_LISTEN__0__ORIGINS", "[]"), "environment: SIPWS_LISTEN__0__ORIGINS: the key url is missing");
    assert_eq!(
        only("SIPWS_LISTEN__3__URL", "ws://127.0.0.1"),
        "environment: SIPWS_LISTEN__3__URL: the list has 0 element(s), so the next number is 0"
    );
    assert!(
        only("SIPWS_LISTEN__URL", "ws://127.0.0.1").contains("SIPWS_LISTEN__URL: invalid type: table, expected a list")
    );
    assert!(only("SIPWS_LIMITS__", "1").contains("the name is SIPWS_, the section, two underscores"));
    assert_eq!(
        only("SIPWS_TIMEOUTS__INVITE", "3m"),
        "environment: SIPWS_TIMEOUTS__INVITE: 3m; Timer C is more than 180s (RFC 3261 §16.6), and at most 24h"
    );
}

#[test]
fn a_wrong_secret_in_the_environment_is_not_shown() {
    let error = load(&[("SIPWS_CLUSTER__SECRET", "hush")]).expect_err("too short");
    assert_eq!(error, "environment: SIPWS_CLUSTER__SECRET: 4 bytes; at least 16, as from `openssl rand -base64 32`");
    let error = load(&[("SIPWS_CLUSTER__PREVIOUS_SECRETS", "hush-hush-hush-hush")]).expect_err("no list");
    assert_eq!(error, "environment: SIPWS_CLUSTER__PREVIOUS_SECRETS: expected a list, as in [\"…\", \"…\"]");
    assert!(!load(&[("SIPWS_CLUSTER", "hush-hush-hush-hush")]).expect_err("no table").contains("hush"));
}

#[test]
fn a_secret_is_looked_up_in_the_environment_or_a_file() {
    let key = tempfile("token.key");
    std::fs::write(&key, "a key that a file holds\n").expect("written");
    let file = tempfile("secrets.toml");
    let secrets = "[cluster]\nsecret = { env = \"SIPWS_SECRET\" }\nprevious_secrets = [{ file = \"token.key\" }]\n";
    std::fs::write(&file, secrets).expect("written");

    let config = load_over(Some(&file), &[("SIPWS_SECRET", "a key from the environment")]).expect("right");
    assert_eq!(config.cluster.secret, Some(Secret::new("a key from the environment")));
    assert_eq!(config.cluster.previous_secrets, [Secret::new("a key that a file holds")]);

    let unset = load_over(Some(&file), &[]).expect_err("not set");
    assert!(
        unset.ends_with("secrets.toml:2: cluster.secret: the environment variable SIPWS_SECRET is not set"),
        "{unset}"
    );
    let unused = load(&[("SIPWS_SECRET", "a key that nothing names")]).expect_err("unknown");
    assert!(unused.starts_with("environment: SIPWS_SECRET: unknown key"), "{unused}");
}

#[test]
fn the_variables_of_a_kubernetes_service_named_sipws_are_not_meant_for_us() {
    let config = load(&[
        ("SIPWS_SERVICE_HOST", "10.0.0.1"),
        ("SIPWS_SERVICE_PORT", "443"),
        ("SIPWS_SERVICE_PORT_WSS", "443"),
        ("SIPWS_PORT", "tcp://10.0.0.1:443"),
        ("SIPWS_PORT_443_TCP_ADDR", "10.0.0.1"),
    ]);
    assert_eq!(config, Ok(Config::default()));
}

#[test]
fn a_servers_headers_are_secrets_too() {
    let variables = [
        ("SIPWS_CLIENT__HOST__0__HOST", "pbx:8443"),
        ("SIPWS_CLIENT__HOST__0__HEADERS__AUTHORIZATION", "{ env = \"SIPWS_PBX_AUTHORIZATION\" }"),
        ("SIPWS_CLIENT__HOST__0__HEADERS__COOKIE", "hush=hush"),
        ("SIPWS_PBX_AUTHORIZATION", "Bearer hush-hush"),
    ];
    let config = load(&variables).expect("right");
    let headers = &config.client.host[0].headers;
    assert_eq!(headers["authorization"], Secret::new("Bearer hush-hush"));
    assert_eq!(headers["cookie"], Secret::new("hush=hush"));
    for printed in [config.to_toml_masked(), format!("{config:?}")] {
        assert!(printed.contains("***") && !printed.contains("hush"), "{printed}");
    }
    for (variable, value) in [
        ("SIPWS_CLIENT__HOST__0__HEADERS", "hush"),
        ("SIPWS_CLIENT__HOST__0__HEADERS__COOKIE__X", "hush"),
        ("SIPWS_CLIENT__HOST", "hush"),
        ("SIPWS_CLIENT", "hush"),
    ] {
        let error = load(&[(variable, value)]).expect_err(variable);
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn a_proxy_listens_on_both_sides_and_a_host_need_not() {
    let file = tempfile("nowhere.toml");
    let text = "\nlisten = []\n[sip]\nlisten = []\n";
    std::fs::write(&file, text).expect("written");
    let refused = load_over(Some(&file), &[]).expect_err("nowhere");
    let lines: Vec<&str> = refused.lines().map(|line| line.rsplit_once("nowhere.toml:").expect("a place").1).collect();
    assert_eq!(lines, ["2: listen: at least one address is needed", "4: sip.listen: at least one address is needed"]);
    let config = Config::from_toml(text, "f").expect("a host may");
    assert_eq!(config.check_edge(), Ok(()));
    assert_eq!(config.check().expect_err("a proxy may not").iter().count(), 2);
}

#[test]
fn a_file_is_the_beginning_of_what_a_program_sets() {
    let file = tempfile("base-of-a-program.toml");
    std::fs::write(&file, "[limits]\nburst = 5\nstrikes = 7\n[tls]\ncertificate = \"c.pem\"\n").expect("written");
    let mut builder = Builder::from_file(&file).expect("TOML");
    builder.set("tls.key", "k.pem").expect("a key");
    builder.set("limits.burst", "6").expect("a key");
    let config = builder.build().expect("right");
    assert_eq!((config.limits.burst, config.limits.strikes), (Some(6), 7));
    assert_eq!(
        config.tls.certificate.as_deref(),
        Some(file.with_file_name("c.pem").as_path()),
        "from the file's folder"
    );
    assert_eq!(config.tls.key.as_deref(), Some(Path::new("k.pem")), "from where the program runs");
    // What the file says wrong is said with its line, as ever.
    let wrong = Builder::from_toml("[limits]\nbrust = 5\n", "f.toml").expect("TOML").build().expect_err("wrong");
    assert_eq!(wrong.to_string(), "f.toml:2: limits.brust: unknown key; did you mean burst?");
    assert!(Builder::from_toml("limits = ", "f.toml").expect_err("no TOML").to_string().starts_with("f.toml:1: "));
    assert!(Builder::from_file("no-such-file.toml").is_err());
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let config = Config::from_toml("tls = { certificate = \"c.pem\", key = \"/k.pem\" }", "/etc/sipws/sipws.toml");
    let tls = config.expect("right").tls;
    assert_eq!(tls.certificate.as_deref(), Some(Path::new("/etc/sipws/c.pem")));
    assert_eq!(tls.key.as_deref(), Some(Path::new("/k.pem")));
    let config = load(&[("SIPWS_ADMIN__PAGES", "pages")]).expect("right");
    assert_eq!(config.admin.pages.as_deref(), Some(Path::new("pages")));
}

#[test]
fn files_that_are_named_are_looked_at_when_asked() {
    let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (ours, other) = (pair(), pair());
    let write = |name: &str, text: &str| {
        let path = tempfile(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let certificate = write("cert.pem", &ours.cert.pem());
    let key = write("key.pem", &ours.signing_key.serialize_pem());
    let other_key = write("other.pem", &other.signing_key.serialize_pem());
    let empty = write("empty.pem", "");

    let said = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.check_files().map_err(|errors| errors.to_string())
    };
    let tls = |certificate: &Path, key: &Path| {
        said(&|config| {
            config.tls.certificate = Some(certificate.to_owned());
            config.tls.key = Some(key.to_owned());
        })
    };
    assert_eq!(tls(&certificate, &key), Ok(()));
    assert_eq!(
        tls(&certificate, &other_key).expect_err("another's key"),
        "tls.key: does not belong to the first certificate of tls.certificate"
    );
    let both = tls(&empty, &empty).expect_err("empty");
    assert!(both.contains("tls.certificate: ") && both.contains("no PEM certificate"), "{both}");
    assert!(both.contains("tls.key: ") && both.contains("no PEM private key"), "{both}");
    let missing = said(&|config| config.sip.ca = Some("no-such.pem".into())).expect_err("missing");
    assert!(missing.starts_with("sip.ca: no-such.pem: No such file"), "{missing}");
    let no_folder = said(&|config| config.admin.pages = Some(certificate.clone())).expect_err("a file");
    assert!(no_folder.starts_with("admin.pages: "), "{no_folder}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Nothing panics or goes on forever, and what is refused is refused with a reason.
    #[test]
    fn any_environment_is_answered(
        settings in proptest::collection::vec((
            "SIPWS_(LISTEN|UPSTREAM|SIP|LIMITS|CLUSTER|X)?(__(0|1|URL|URI|TRUSTED|BURST|SECRET|PREVIOUS_SECRETS|ENV|))*",
            "[a-z0-9]{0,3}|\\[(1|\"x\"|\\{ env = \"A\" \\}|, ){0,4}\\]|\\{ (url|uri|secret|burst|env) = (1|\"sip:a\"|\\[\\]) \\}",
        ), 0..6)
    ) {
        if let Err(errors) = Config::load(None, settings) {
            assert!(errors.iter().count() > 0);
        }
    }

    #[test]
    fn any_slip_in_a_file_is_answered(at in 0..EXAMPLE.len(), length in 0..40_usize, put in "[\\[\\]{}=\"a-c0-9.\n#]{0,4}") {
        let text = EXAMPLE.as_bytes();
        let text = [&text[..at], put.as_bytes(), &text[(at + length).min(text.len())..]].concat();
        if let Err(errors) = Config::from_toml(&String::from_utf8_lossy(&text), "f") {
            assert!(errors.iter().count() > 0);
        }
    }
}

/// A path in these tests' folder under the target directory; each test has names of its own.
fn tempfile(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("config");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder.join(name)
}
