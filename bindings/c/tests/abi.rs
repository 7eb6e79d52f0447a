//! libsipws as C and C++ programs meet it: compiled by gcc and clang against include/, linked to the shared and to the
//! static library, run alone, under valgrind, and with sanitizers in the host's part. The programs are in tests/c/.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// What cargo makes of this package, by the names that programs link.
struct Library {
    shared: PathBuf,
    archive: PathBuf,
    /// What a program that links the archive has to link besides, as rustc says.
    native: Vec<String>,
}

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()).args(["rustc", "--package", "sipws-c", "--lib", "--message-format=json"]);
        cargo.args(["--", "--print=native-static-libs"]);
        let output = cargo.output().expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        // JSON, but the few things in it that matter can be found without reading it.
        let file = |name: &str| {
            let path = said.split('"').find(|word| word.ends_with(name)).unwrap_or_else(|| panic!("no {name}: {said}"));
            PathBuf::from(path)
        };
        let (shared, archive) = (file("/libsipws.so"), file("/libsipws.a"));
        let libraries = said.split("native-static-libs: ").nth(1).and_then(|rest| rest.split(['\\', '"']).next());
        let native = libraries.unwrap_or_else(|| panic!("no native-static-libs: {said}"));
        // What the loader looks for.
        let soname = folder().join("libsipws.so.0");
        let _ = std::fs::remove_file(&soname);
        std::os::unix::fs::symlink(&shared, &soname).expect("a link to the library");
        Library { shared, archive, native: native.split_whitespace().map(str::to_owned).collect() }
    })
}

fn runs(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(format!("{command:?}: {}\n{said}", output.status)) }
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Whether a compiler is there, with the runtime that the options need: a package of its own, often.
fn can_link(compiler: &str, options: &[&str]) -> bool {
    let source = folder().join(format!("{compiler}-can-link.c"));
    std::fs::write(&source, "int main(void) { return 0; }\n").expect("written");
    let mut command = Command::new(compiler);
    command.args(options).arg(&source).arg("-o").arg(source.with_extension("out"));
    command.output().is_ok_and(|output| output.status.success())
}

const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];

#[derive(Clone, Copy)]
enum Link {
    Shared,
    Static,
}

/// Compiles `tests/c/NAME`, with what makes this way of it different from others.
fn compiled(name: &str, family: &str, link: Link, options: &[&str]) -> PathBuf {
    let library = library();
    let is_cpp = name.ends_with(".cpp");
    let (compiler, standard) = match (family, is_cpp) {
        ("gcc", false) => ("gcc", "-std=gnu11"),
        ("gcc", true) => ("g++", "-std=c++17"),
        (_, false) => ("clang", "-std=gnu11"),
        (_, true) => ("clang++", "-std=c++17"),
    };
    let way = match link {
        Link::Shared => "shared",
        Link::Static => "static",
    };
    let program =
        folder().join(format!("{}-{family}-{way}{}", name.replace('.', "-"), options.concat().replace('=', "-")));
    let mut command = Command::new(compiler);
    command.args([standard, "-g", "-O1"]).args(STRICT).args(options);
    command.arg("-I").arg(root().join("include")).arg(root().join("tests/c").join(name)).arg("-o").arg(&program);
    match link {
        _ if name == "loading.c" => command.arg("-ldl"),
        Link::Shared => command.arg(&library.shared).arg(format!("-Wl,-rpath,{}", folder().display())),
        Link::Static => command.arg(&library.archive).args(&library.native),
    };
    command.arg("-lpthread");
    // Tests run side by side, and several want the same program.
    static DONE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !done.contains(&program) {
        runs(&mut command).unwrap_or_else(|error| panic!("{error}"));
        done.insert(program.clone());
    }
    program
}

/// Certificate and key of sip.example.com, which vouches for itself.
fn certificate() -> [PathBuf; 2] {
    static MADE: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["sip.example.com".to_owned()]).expect("a certificate");
        let paths = ["certificate.pem", "key.pem"].map(|name| folder().join(name));
        std::fs::write(&paths[0], made.cert.pem()).expect("written");
        std::fs::write(&paths[1], made.signing_key.serialize_pem()).expect("written");
        paths
    });
    made.clone()
}

/// Runs a program, with its arguments, below what `under` says.
fn run(name: &str, program: &Path, under: &[&str]) {
    let mut words = under.iter().copied().chain([program.to_str().expect("UTF-8")]);
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    match name {
        "loading.c" => drop(command.arg(&library().shared)),
        "connecting.c" => drop(command.args(certificate())),
        _ => {}
    }
    if !under.is_empty() {
        command.env("QUICK", "1");
    }
    command.env("ASAN_OPTIONS", "detect_leaks=1");
    command.env("TSAN_OPTIONS", "halt_on_error=1 ignore_noninstrumented_modules=1");
    runs(&mut command).unwrap_or_else(|error| panic!("{error}"));
}

const PROGRAMS: [&str; 8] =
    ["arguments.c", "callbacks.c", "connecting.c", "events.c", "loading.c", "policy.c", "process.c", "raii.cpp"];

#[test]
fn headers_compile_alone_and_twice_in_every_language() {
    let folder = folder().join("headers");
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut command_count = 0;
    for header in ["sipws.h", "sipws.hpp"] {
        for (times, text) in [(1, format!("#include <{header}>\n")), (2, format!("#include <{header}>\n").repeat(2))] {
            let use_it = "sipws_stats stats = SIPWS_STATS_INIT;\nsipws_flow_info_t info = SIPWS_FLOW_INFO_INIT;\n\
                          sipws_connect_options options = SIPWS_CONNECT_OPTIONS_INIT;\n\
                          sipws_message_handler handler = SIPWS_MESSAGE_HANDLER_INIT;\n";
            for (compiler, language, standard) in [
                ("gcc", "c", "-std=c89"),
                ("gcc", "c", "-std=c11"),
                ("g++", "c++", "-std=c++17"),
                ("clang", "c", "-std=c89"),
                ("clang", "c", "-std=c11"),
                ("clang++", "c++", "-std=c++17"),
            ] {
                if (language == "c" && header.ends_with("hpp")) || !is_there(compiler) {
                    continue;
                }
                let source = folder.join(format!("{header}{times}"));
                std::fs::write(&source, format!("{text}{use_it}")).expect("written");
                let mut command = Command::new(compiler);
                command.args(["-x", language, standard, "-fsyntax-only"]).args(STRICT);
                command.arg("-I").arg(root().join("include")).arg(&source);
                runs(&mut command).unwrap_or_else(|error| panic!("{error}"));
                command_count += 1;
            }
        }
    }
    assert!(command_count >= 8, "gcc or clang has to be there, for C and C++");
}

/// The functions that a header declares.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(root().join("include/sipws.h")).expect("the header");
    let mut names = BTreeSet::new();
    for line in header.lines().filter(|line| !line.starts_with([' ', '#', '}']) && !line.starts_with("typedef")) {
        if let Some((before, _)) = line.split_once('(') {
            let name = before.rsplit([' ', '*']).next().unwrap_or_default();
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn the_shared_library_exports_what_the_header_declares_and_nothing_else() {
    let said = runs(Command::new("nm").args(["-D", "--defined-only"]).arg(&library().shared)).expect("nm");
    let exported: BTreeSet<String> =
        said.lines().filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect();
    assert!(exported.len() > 40, "{exported:?}");
    assert_eq!(exported, declared());
}

#[test]
fn the_archive_has_every_function_that_the_header_declares() {
    let said = runs(Command::new("nm").args(["--defined-only", "--extern-only"]).arg(&library().archive)).expect("nm");
    let defined: BTreeSet<&str> = said.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    let missing: Vec<_> = declared().into_iter().filter(|name| !defined.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_shared_library_has_its_soname_and_stays_loaded() {
    let said = runs(Command::new("readelf").arg("-d").arg(&library().shared)).expect("readelf");
    assert!(said.contains("[libsipws.so.0]"), "{said}");
    assert!(said.contains("NODELETE"), "{said}");
}

#[test]
fn programs_by_gcc_run_with_the_shared_library() {
    for name in PROGRAMS {
        run(name, &compiled(name, "gcc", Link::Shared, &[]), &[]);
    }
}

#[test]
fn programs_by_clang_run_with_the_static_library() {
    if !is_there("clang") {
        return eprintln!("left out: clang is not there");
    }
    for name in PROGRAMS {
        run(name, &compiled(name, "clang", Link::Static, &[]), &[]);
    }
}

#[test]
fn valgrind_finds_no_error_and_no_leak() {
    if !is_there("valgrind") {
        return eprintln!("left out: valgrind is not there");
    }
    let valgrind =
        ["valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"];
    let valgrind = [&valgrind[..], &["--error-exitcode=99", "--fair-sched=yes"]].concat();
    for name in PROGRAMS {
        run(name, &compiled(name, "gcc", Link::Shared, &[]), &valgrind);
    }
}

#[test]
fn address_and_undefined_behaviour_sanitizers_find_nothing_in_the_hosts_part() {
    let options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    for family in ["gcc", "clang"] {
        if !can_link(family, &options) {
            eprintln!("left out: {family} cannot link {options:?}");
            continue;
        }
        for name in PROGRAMS {
            run(name, &compiled(name, family, Link::Shared, &options), &[]);
        }
    }
}

#[test]
fn the_thread_sanitizer_finds_no_race_in_the_hosts_part() {
    // It knows nothing of how the library hands things from thread to thread, so: programs that hand nothing over.
    let options = ["-fsanitize=thread"];
    if !can_link("gcc", &options) {
        return eprintln!("left out: gcc cannot link {options:?}");
    }
    for name in ["callbacks.c", "connecting.c", "events.c", "policy.c"] {
        run(name, &compiled(name, "gcc", Link::Shared, &options), &[]);
    }
}
