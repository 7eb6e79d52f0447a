//! include/sipws.h is what cbindgen makes of src/ffi, byte for byte.

use std::path::{Path, PathBuf};

/// In the order in which their functions stand in the header.
const SOURCES: [&str; 8] = ["types", "library", "config", "server", "flow", "message", "policy", "event"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn generated() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml");
    let builder = SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, source| {
        builder.with_src(root().join("src/ffi").join(source).with_extension("rs"))
    });
    let mut header = Vec::new();
    builder.generate().expect("src/ffi can be read").write(&mut header);
    let header = String::from_utf8(header).expect("UTF-8");
    // The ends of its C++ guards are the only place where cbindgen writes comments that C89 does not know.
    header
        .replace("#endif // __cplusplus", "#endif /* __cplusplus */")
        .replace("#endif  // __cplusplus", "#endif /* __cplusplus */")
        .replace("}  // extern \"C\"", "} /* extern \"C\" */")
}

#[test]
fn the_header_is_what_the_sources_say() {
    let path = root().join("include/sipws.h");
    let header = generated();
    if std::env::var_os("SIPWS_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &header).expect("include/sipws.h can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (is, should))) =
        committed.lines().zip(header.lines()).enumerate().find(|(_, (is, should))| is != should)
    {
        panic!("include/sipws.h:{}: is\n{is}\nand should be\n{should}\n{MEND}", number + 1);
    }
    assert!(committed == header, "include/sipws.h ends too early or too late\n{MEND}");
}

const MEND: &str = "to update it: SIPWS_UPDATE_HEADER=1 cargo test --features ffi --test ffi_header";

/// A function that is exported but not declared would be a secret, one that is in a file that is not looked at too.
#[test]
fn every_exported_function_is_in_a_header() {
    let declared = generated();
    let pjsip = std::fs::read_to_string(root().join("include/sipws_pjsip.h")).unwrap_or_default();
    for entry in std::fs::read_dir(root().join("src/ffi")).expect("src/ffi") {
        let path = entry.expect("an entry").path();
        let header = if path.ends_with("pjsip.rs") { &pjsip } else { &declared };
        for name in exported(&path) {
            assert!(header.contains(&format!("{name}(")), "{name} of {} is in no header", path.display());
        }
    }
}

fn exported(path: &Path) -> Vec<String> {
    let source = std::fs::read_to_string(path).expect("a source file");
    let after = |line: &str| line.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).map(str::to_owned);
    let mut lines = source.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.contains("unsafe(no_mangle)") {
            found.extend(lines.next().and_then(after));
        }
    }
    found
}
