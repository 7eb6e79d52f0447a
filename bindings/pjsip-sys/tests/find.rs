//! Where the build script looks for PJSIP. The folders are made up; make and pkg-config are the machine's.

#![allow(clippy::unwrap_used)]

#[path = "../build/find.rs"]
#[allow(dead_code, unreachable_pub)]
mod find;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use find::{Library, Pjproject, Wanted, find};

/// A folder of its own for each test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("find-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn headers(&self, include: &str, minor: u32) {
        self.write(
            &format!("{include}/pj/config.h"),
            &format!(
                "#define PJ_VERSION_NUM_MAJOR    2\n#  define PJ_VERSION_NUM_MINOR {minor}\n\
                 #define PJ_VERSION_NUM_REV      1\n#define PJ_VERSION_NUM_EXTRA    \"-dev\"\n"
            ),
        );
        self.write(&format!("{include}/pj/config_site.h"), "");
    }

    fn install_tree(&self, at: &str, lib: &str) -> PathBuf {
        let prefix = self.0.join(at);
        self.headers(&format!("{at}/include"), 17);
        self.write(
            &format!("{at}/{lib}/pkgconfig/libpjproject.pc"),
            &format!(
                "prefix={0}\nlibdir=${{prefix}}/{lib}\nName: libpjproject\nDescription: SIP\nVersion: 2.17\n\
                 Libs: -L${{libdir}} -lpjsua2-x -lstdc++ -lpjsip-x -lpj-x\nLibs.private: -lm -lpj-x -lssl\n\
                 Cflags: -I${{prefix}}/include -DPJ_AUTOCONF=1\n",
                prefix.display()
            ),
        );
        prefix
    }

    fn vendored(&self) -> PathBuf {
        self.write("vendor/stamp", "");
        self.install_tree("vendor/install", "lib")
    }

    fn wanted(&self, dir: Option<PathBuf>) -> Wanted {
        // A pkg-config that knows nothing: the machine's may know a PJSIP.
        Wanted { dir, pkg_config: "false".into(), vendor: self.0.join("vendor") }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn with_pkg_config(wanted: Wanted) -> Wanted {
    Wanted { pkg_config: "pkg-config".into(), ..wanted }
}

fn refused(wanted: &Wanted) -> String {
    find(wanted).unwrap_err().to_string()
}

fn libs(found: &Pjproject) -> Vec<&str> {
    found.libs.iter().map(String::as_str).collect()
}

#[test]
fn an_install_tree_says_by_its_pc_file_how_to_compile_and_link() {
    let folder = Folder::new("install");
    let prefix = folder.install_tree("pj", "lib");
    let found = find(&with_pkg_config(folder.wanted(Some(prefix.clone())))).unwrap();
    assert_eq!(found.include, [prefix.join("include")]);
    assert_eq!(found.lib_dirs, [prefix.join("lib")]);
    assert_eq!(found.cflags, ["-DPJ_AUTOCONF=1"]);
    assert_eq!(found.version, "2.17.1-dev");
    let watch = ["lib/pkgconfig/libpjproject.pc", "include/pj/config_site.h"].map(|file| prefix.join(file));
    assert_eq!(found.watch, watch);
}

#[test]
fn the_c_plus_plus_library_is_left_out_and_others_keep_their_order() {
    let folder = Folder::new("order");
    let prefix = folder.install_tree("pj", "lib");
    let found = find(&with_pkg_config(folder.wanted(Some(prefix)))).unwrap();
    assert_eq!(libs(&found), ["pjsip-x", "m", "pj-x", "ssl"]);
}

#[test]
fn a_library_is_static_where_there_is_an_archive_of_it() {
    let folder = Folder::new("static");
    let prefix = folder.install_tree("pj", "lib");
    folder.write("pj/lib/libpjsip-x.a", "");
    let found = find(&with_pkg_config(folder.wanted(Some(prefix)))).unwrap();
    let libraries = found.libraries();
    assert_eq!(libraries[0], Library::Static("pjsip-x".into()));
    assert_eq!(libraries[1], Library::Shared("m".into()));
}

#[test]
fn debians_folder_of_libraries_is_searched_too() {
    let folder = Folder::new("multiarch");
    let prefix = folder.install_tree("pj", "lib/x86_64-linux-gnu");
    let found = find(&with_pkg_config(folder.wanted(Some(prefix.clone())))).unwrap();
    assert_eq!(found.lib_dirs, [prefix.join("lib/x86_64-linux-gnu")]);
}

#[test]
fn a_source_tree_says_by_its_makefile_how_to_compile_and_link() {
    let folder = Folder::new("source");
    folder.headers("pj/pjlib/include", 14);
    folder.write(
        "pj/build.mak",
        &format!(
            "export PJDIR := {0}\nexport TARGET := x\nexport PJ_CFLAGS := -I$(PJDIR)/pjlib/include -DPJ_AUTOCONF=1\n\
             export PJ_LDFLAGS := -L$(PJDIR)/pjlib/lib\nexport PJ_LDLIBS := -lpjsip-$(TARGET) -lpj-$(TARGET) -lm\n",
            folder.0.join("pj").display()
        ),
    );
    let found = find(&folder.wanted(Some(folder.0.join("pj")))).unwrap();
    assert_eq!(found.include, [folder.0.join("pj/pjlib/include")]);
    assert_eq!(found.lib_dirs, [folder.0.join("pj/pjlib/lib")]);
    assert_eq!(libs(&found), ["pjsip-x", "pj-x", "m"]);
}

#[test]
fn the_variable_goes_before_what_vendor_built() {
    let folder = Folder::new("first");
    folder.vendored();
    let prefix = folder.install_tree("mine", "lib");
    let found = find(&with_pkg_config(folder.wanted(Some(prefix.clone())))).unwrap();
    assert_eq!(found.include, [prefix.join("include")]);
}

/// A pkg-config of the test's own: the machine's may know a PJSIP, or none.
fn command(folder: &Folder, script: &str) -> std::ffi::OsString {
    let path = folder.write("pkg-config", &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.into()
}

#[test]
fn pkg_config_goes_before_what_vendor_built() {
    let folder = Folder::new("second");
    folder.vendored();
    folder.headers("system/include", 15);
    let pkg_config = command(&folder, &format!("echo -I{} -lpjsip", folder.0.join("system/include").display()));
    let found = find(&Wanted { pkg_config, ..folder.wanted(None) }).unwrap();
    assert_eq!(found.include, [folder.0.join("system/include")]);
    assert_eq!(found.version, "2.15.1-dev");
}

#[test]
fn what_vendor_built_is_found_last() {
    let folder = Folder::new("third");
    let prefix = folder.vendored();
    // Knows nothing of its own, only what it is pointed to.
    let pkg_config =
        command(&folder, "case $PKG_CONFIG_PATH in */vendor/*) exec pkg-config \"$@\" ;; *) exit 1 ;; esac");
    let found = find(&Wanted { pkg_config, ..folder.wanted(None) }).unwrap();
    assert_eq!(found.include, [prefix.join("include")]);
}

#[test]
fn a_build_that_has_not_ended_is_none() {
    let folder = Folder::new("half");
    folder.vendored();
    fs::remove_file(folder.0.join("vendor/stamp")).unwrap();
    let said = refused(&folder.wanted(None));
    assert!(said.contains("not there, or not complete"), "{said}");
}

#[test]
fn where_there_is_none_the_error_names_three_places_and_a_command() {
    let folder = Folder::new("none");
    let said = refused(&folder.wanted(None));
    for part in ["PJPROJECT_DIR", "libpjproject", "vendor/install", "To have it built there: vendor/pjproject.sh"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn a_wrong_variable_is_an_error_and_nothing_else_is_tried() {
    let folder = Folder::new("wrong");
    folder.vendored();
    let said = refused(&with_pkg_config(folder.wanted(Some(folder.0.join("nowhere")))));
    assert!(said.ends_with("nowhere: there is no such folder"), "{said}");
    folder.write("raw/aconfigure", "");
    let said = refused(&folder.wanted(Some(folder.0.join("raw"))));
    assert!(said.contains("run ./configure and make there"), "{said}");
    let said = refused(&folder.wanted(Some(folder.0.clone())));
    assert!(said.contains("neither a source tree (no build.mak) nor an install tree"), "{said}");
}

#[test]
fn an_old_one_is_refused() {
    let folder = Folder::new("old");
    let prefix = folder.install_tree("pj", "lib");
    folder.headers("pj/include", 13);
    let said = refused(&with_pkg_config(folder.wanted(Some(prefix))));
    assert!(said.contains("is PJSIP 2.13.1-dev; 2.14 or newer is needed"), "{said}");
}

#[test]
fn a_tree_without_headers_is_refused() {
    let folder = Folder::new("headers");
    let prefix = folder.install_tree("pj", "lib");
    fs::remove_dir_all(prefix.join("include")).unwrap();
    let said = refused(&with_pkg_config(folder.wanted(Some(prefix))));
    assert!(said.contains("no pj/config.h in"), "{said}");
}
