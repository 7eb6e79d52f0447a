//! Where PJSIP is: comes in what the environment says, goes out how to compile and link against what was found.
//!
//! The first of these that is there is taken, and has to be good:
//! 1. `PJPROJECT_DIR`, a configured source tree or an install tree,
//! 2. what pkg-config knows as `libpjproject`,
//! 3. what `vendor/pjproject.sh` built.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest that `src/pjsip` is written for.
const MINIMUM: (u32, u32) = (2, 14);

/// Where to look.
pub(crate) struct Wanted {
    /// `PJPROJECT_DIR`.
    pub(crate) dir: Option<PathBuf>,
    /// The command.
    pub(crate) pkg_config: OsString,
    /// The folder that `vendor/pjproject.sh` builds in.
    pub(crate) vendor: PathBuf,
}

/// A PJSIP to build against.
#[derive(Debug)]
pub(crate) struct Pjproject {
    /// Folders of headers.
    pub(crate) include: Vec<PathBuf>,
    /// What else a compiler must know: the definitions on which its headers depend.
    pub(crate) cflags: Vec<String>,
    /// Folders of libraries.
    pub(crate) lib_dirs: Vec<PathBuf>,
    /// Names of libraries, each before those that it needs.
    pub(crate) libs: Vec<String>,
    /// What its headers say: `2.17`, `2.18-dev`.
    pub(crate) version: String,
    /// Files that change when it is built anew.
    pub(crate) watch: Vec<PathBuf>,
}

/// How a library is linked.
#[derive(Debug, PartialEq)]
pub(crate) enum Library {
    /// There is a `.a` of it in one of PJSIP's own folders.
    Static(String),
    /// Anything else: the system's.
    Shared(String),
}

/// What is missing, and what helps.
#[derive(Debug)]
pub(crate) struct NotFound(String);

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

impl Pjproject {
    /// What to link, in order.
    pub(crate) fn libraries(&self) -> Vec<Library> {
        let is_static = |name: &str| self.lib_dirs.iter().any(|dir| dir.join(format!("lib{name}.a")).exists());
        self.libs
            .iter()
            .map(|name| if is_static(name) { Library::Static(name.clone()) } else { Library::Shared(name.clone()) })
            .collect()
    }

    fn from_flags(flags: &str, watch: Vec<PathBuf>) -> Self {
        let mut found =
            Self { include: vec![], cflags: vec![], lib_dirs: vec![], libs: vec![], version: String::new(), watch };
        for flag in flags.split_whitespace() {
            if let Some(dir) = flag.strip_prefix("-I") {
                push_new(&mut found.include, PathBuf::from(dir));
            } else if let Some(dir) = flag.strip_prefix("-L") {
                push_new(&mut found.lib_dirs, PathBuf::from(dir));
            } else if let Some(name) = flag.strip_prefix("-l") {
                // PJSUA2 is C++, and nobody here calls it.
                if !name.starts_with("pjsua2") && name != "stdc++" {
                    push_last(&mut found.libs, name.to_owned());
                }
            } else if flag.starts_with("-D") {
                push_new(&mut found.cflags, flag.to_owned());
            }
        }
        found
    }

    /// `origin` is for messages.
    fn checked(mut self, origin: &str) -> Result<Self, NotFound> {
        // pkg-config leaves out the folders that a compiler searches anyway.
        let system = ["/usr/include", "/usr/local/include"].map(PathBuf::from);
        let Some(config) =
            self.include.iter().chain(&system).map(|dir| dir.join("pj/config.h")).find(|file| file.exists())
        else {
            return Err(NotFound(format!("{origin}: no pj/config.h in {:?}", self.include)));
        };
        let text = fs::read_to_string(&config).map_err(|e| NotFound(format!("{}: {e}", config.display())))?;
        let Some((version, number)) = version(&text) else {
            return Err(NotFound(format!("{}: no PJ_VERSION_NUM_MAJOR and _MINOR", config.display())));
        };
        if number < MINIMUM {
            let (major, minor) = MINIMUM;
            return Err(NotFound(format!(
                "{origin} is PJSIP {version}; {major}.{minor} or newer is needed (vendor/pjproject.sh builds one)"
            )));
        }
        self.version = version;
        self.watch.push(config.with_file_name("config_site.h"));
        self.watch.retain(|file| file.exists());
        Ok(self)
    }
}

/// The first PJSIP of the three places.
pub(crate) fn find(wanted: &Wanted) -> Result<Pjproject, NotFound> {
    if let Some(dir) = &wanted.dir {
        return in_dir(dir, wanted);
    }
    if let Some(flags) = pkg_config(wanted, None) {
        return Pjproject::from_flags(&flags, vec![]).checked("pkg-config's libpjproject");
    }
    let install = wanted.vendor.join("install");
    // Written when all else is there.
    let stamp = wanted.vendor.join("stamp");
    if let Some(pc) = pc_file(&install).filter(|_| stamp.exists()) {
        let mut found = from_pc(&pc, wanted)?;
        found.watch.push(stamp);
        return Ok(found);
    }
    Err(NotFound(format!(
        "PJSIP is needed here and was not found. Looked for it:\n\
         - at PJPROJECT_DIR, a configured source tree or an install tree: the variable is not set\n\
         - by {} as libpjproject: unknown there, or no such command\n\
         - at {}, where vendor/pjproject.sh installs it: not there, or not complete\n\
         To have it built there: vendor/pjproject.sh",
        wanted.pkg_config.display(),
        install.display(),
    )))
}

fn in_dir(dir: &Path, wanted: &Wanted) -> Result<Pjproject, NotFound> {
    if dir.join("build.mak").exists() {
        return source_tree(dir);
    }
    if let Some(pc) = pc_file(dir) {
        return from_pc(&pc, wanted);
    }
    let what = if !dir.is_dir() {
        "there is no such folder"
    } else if dir.join("aconfigure").exists() {
        "this source tree was not configured: run ./configure and make there"
    } else {
        "neither a source tree (no build.mak) nor an install tree (no lib/pkgconfig/libpjproject.pc)"
    };
    Err(NotFound(format!("PJPROJECT_DIR={}: {what}", dir.display())))
}

/// A source tree tells by its own makefile what its programs are built with.
fn source_tree(dir: &Path) -> Result<Pjproject, NotFound> {
    let fail = |why: String| NotFound(format!("PJPROJECT_DIR={}: {why}", dir.display()));
    let mut make = Command::new("make")
        .args(["--no-print-directory", "-s", "-C"])
        .arg(dir)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| fail(format!("make, which reads its build.mak: {e}")))?;
    if let Some(mut stdin) = make.stdin.take() {
        stdin
            .write_all(b"include build.mak\n$(info $(PJ_CFLAGS) $(PJ_LDFLAGS) $(PJ_LDLIBS))\nall: ;\n")
            .map_err(|e| fail(format!("make, which reads its build.mak: {e}")))?;
    }
    let output = make.wait_with_output().map_err(|e| fail(format!("make, which reads its build.mak: {e}")))?;
    if !output.status.success() {
        return Err(fail(format!("make cannot read its build.mak: {}", String::from_utf8_lossy(&output.stderr))));
    }
    Pjproject::from_flags(&String::from_utf8_lossy(&output.stdout), vec![dir.join("build.mak")])
        .checked(&format!("PJPROJECT_DIR={}", dir.display()))
}

fn from_pc(pc: &Path, wanted: &Wanted) -> Result<Pjproject, NotFound> {
    let Some(flags) = pkg_config(wanted, pc.parent()) else {
        let command = wanted.pkg_config.display();
        return Err(NotFound(format!("{}: {command} cannot read it; is {command} installed?", pc.display())));
    };
    Pjproject::from_flags(&flags, vec![pc.to_path_buf()]).checked(&pc.display().to_string())
}

/// `--static`: also what PJSIP's libraries need themselves. `None`: pkg-config doesn't know it, or is not there.
fn pkg_config(wanted: &Wanted, dir: Option<&Path>) -> Option<String> {
    let mut command = Command::new(&wanted.pkg_config);
    command.args(["--static", "--cflags", "--libs", "libpjproject"]).stderr(Stdio::null());
    if let Some(dir) = dir {
        // Searched before all other folders.
        command.env("PKG_CONFIG_PATH", dir);
    }
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The .pc file of an install tree, in `lib`, `lib64` or Debian's `lib/x86_64-linux-gnu`.
fn pc_file(prefix: &Path) -> Option<PathBuf> {
    let mut dirs = vec![prefix.join("lib"), prefix.join("lib64")];
    if let Ok(entries) = fs::read_dir(prefix.join("lib")) {
        dirs.extend(entries.flatten().map(|entry| entry.path()));
    }
    dirs.into_iter().map(|dir| dir.join("pkgconfig/libpjproject.pc")).find(|file| file.is_file())
}

/// From the text of `pj/config.h`, as `pj_get_version()` of a library built with it says it; and its first two numbers.
fn version(config: &str) -> Option<(String, (u32, u32))> {
    let define = |name: &str| {
        config.lines().find_map(|line| {
            let mut words = line.trim_start().strip_prefix('#')?.split_whitespace();
            (words.next() == Some("define") && words.next() == Some(name)).then(|| words.next().unwrap_or(""))
        })
    };
    let number = |name: &str| define(name)?.parse::<u32>().ok();
    let (major, minor) = (number("PJ_VERSION_NUM_MAJOR")?, number("PJ_VERSION_NUM_MINOR")?);
    let mut version = format!("{major}.{minor}");
    if let Some(revision) = number("PJ_VERSION_NUM_REV").filter(|revision| *revision != 0) {
        version += &format!(".{revision}");
    }
    version += define("PJ_VERSION_NUM_EXTRA").unwrap_or("").trim_matches('"');
    Some((version, (major, minor)))
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// A library that is named twice is needed by all before its last place.
fn push_last(list: &mut Vec<String>, item: String) {
    list.retain(|other| *other != item);
    list.push(item);
}
