//! Finds PJSIP, binds its headers, and compiles what of them is inline functions and macros. Uses no network.

mod bindings;
mod find;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use find::{Library, Pjproject, Wanted};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            for line in problem.to_string().lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    // Read by pkg-config itself.
    for variable in ["PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    for file in ["build", "shim"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let found = find::find(&Wanted {
        dir: variable("PJPROJECT_DIR").map(PathBuf::from),
        pkg_config: variable("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into()),
        vendor: variable("SIPWS_PJPROJECT_CACHE")
            .map_or_else(|| package.ancestors().nth(2).unwrap_or(&package).join("vendor/pjproject"), PathBuf::from),
    })?;
    // A new build of the same PJSIP may lay out its types anew.
    for file in &found.watch {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let inline = bindings::generate(&found, &package.join("shim"), &out)?;
    compile(&found, &package.join("shim"), &inline);
    if env::var_os("CARGO_FEATURE_LINK").is_some() {
        link(&found)?;
    }
    tell_dependents(&found);
    Ok(())
}

/// For the target alone (`AARCH64_UNKNOWN_LINUX_GNU_PJPROJECT_DIR`), or for all.
fn variable(name: &str) -> Option<OsString> {
    let target = env::var("TARGET").unwrap_or_default().to_uppercase().replace(['-', '.'], "_");
    [format!("{target}_{name}"), name.to_owned()].into_iter().find_map(|name| {
        println!("cargo::rerun-if-env-changed={name}");
        env::var_os(name).filter(|value| !value.is_empty())
    })
}

/// Hidden, so that a library that has them inside shows none of them: a host may load two.
fn compile(found: &Pjproject, shim: &Path, inline: &[PathBuf]) {
    let mut shared = cc::Build::new();
    shared.includes(&found.include).include(shim).flag("-fvisibility=hidden").pic(true);
    for flag in &found.cflags {
        shared.flag(flag);
    }
    shared.clone().file(shim.join("shim.c")).compile("sipws_pj_shim");
    // PJSIP's own code, and bindgen's: its warnings are nobody's here.
    shared.files(inline).warnings(false).compile("sipws_pj_inline");
}

fn link(found: &Pjproject) -> Result<(), Box<dyn Error>> {
    for dir in &found.lib_dirs {
        println!("cargo::rustc-link-search=native={}", dir.display());
    }
    let libraries = found.libraries();
    if !libraries.iter().any(|library| matches!(library, Library::Static(_))) {
        let dirs: Vec<_> = found.lib_dirs.iter().map(|dir| dir.display().to_string()).collect();
        println!("cargo::warning=no static PJSIP in {}: linking the shared one", dirs.join(", "));
    }
    for library in libraries {
        match library {
            // Not bundled into the .rlib: the linker then sees PJSIP's libraries in PJSIP's order.
            Library::Static(name) => println!("cargo::rustc-link-lib=static:-bundle={name}"),
            Library::Shared(name) => println!("cargo::rustc-link-lib=dylib={name}"),
        }
    }
    Ok(())
}

/// `DEP_PJPROJECT_INCLUDE`, `…_CFLAGS`, `…_LIB_DIRS`, `…_LIBS`, `…_VERSION` for the build script of a crate that depends on this.
fn tell_dependents(found: &Pjproject) {
    let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    println!("cargo::metadata=include={}", paths(&found.include));
    println!("cargo::metadata=cflags={}", found.cflags.join(" "));
    println!("cargo::metadata=lib_dirs={}", paths(&found.lib_dirs));
    println!("cargo::metadata=libs={}", found.libs.join(" "));
    println!("cargo::metadata=version={}", found.version);
}
