//! Makes Rust of PJSIP's headers: comes in where they are, goes out `bindings.rs` and C files with PJSIP's inline
//! functions, which a linker can't find otherwise.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use bindgen::callbacks::{ItemInfo, MacroParsingBehavior, ParseCallbacks};

use crate::find::Pjproject;

/// Headers whose `…_E…` macros are values of `pj_status_t`.
const STATUS_HEADERS: [&str; 7] = [
    "pj/errno.h",
    "pjlib-util/errno.h",
    "pjnath/errno.h",
    "pjmedia/errno.h",
    "pjmedia-audiodev/errno.h",
    "pjsip/sip_errno.h",
    "pjsip-simple/errno.h",
];

/// Other macros with a type: bindgen does not see through the cast in a macro, and gives a wrong type to an enumerator.
const TYPED: [(&str, &str); 5] = [
    ("pj_status_t", "PJ_SUCCESS"),
    ("pj_bool_t", "PJ_TRUE"),
    ("pj_bool_t", "PJ_FALSE"),
    ("pj_uint32_t", "PJ_IOQUEUE_ALWAYS_ASYNC"),
    ("pj_uint32_t", "PJSIP_EXPIRES_NOT_SPECIFIED"),
];

/// Before the name of a constant that stands for a macro; the compiler then says its value.
const PREFIX: &str = "sipws_value_";

/// Returns the C files.
pub(crate) fn generate(found: &Pjproject, shim: &Path, out: &Path) -> Result<[PathBuf; 2], Box<dyn Error>> {
    let statuses = statuses(found)?;
    let mut header = String::from("#include \"bound.h\"\n#include \"shim.h\"\n");
    for file in STATUS_HEADERS {
        header += &format!("#include <{file}>\n");
    }
    let typed = statuses.iter().map(|name| ("pj_status_t", name.as_str())).chain(TYPED);
    for (kind, name) in typed {
        header += &format!("static const {kind} {PREFIX}{name} = {name};\n");
    }
    // The C file with the inline functions names this one by its path.
    let header_file = out.join("wrapper.h");
    write_if_changed(&header_file, &header)?;

    let inline = out.join("inline.c");
    bindgen::Builder::default()
        .header(path(&header_file)?)
        .clang_args(found.include.iter().map(|dir| format!("-I{}", dir.display())))
        .clang_arg(format!("-I{}", shim.display()))
        .clang_args(&found.cflags)
        .allowlist_item(format!("(pj|PJ|sipws_pj|{PREFIX}).*"))
        .parse_callbacks(Box::new(Names { statuses }))
        .wrap_static_fns(true)
        .wrap_static_fns_path(&inline)
        .wrap_static_fns_suffix("_sipws_inline")
        // Doxygen's marks are not rustdoc's.
        .generate_comments(false)
        // All zeros, where C code writes `pj_bzero`.
        .derive_default(true)
        .layout_tests(true)
        .rust_target("1.88".parse().map_err(|e| format!("bindgen: {e}"))?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate()?
        .write_to_file(out.join("bindings.rs"))?;
    fs::write(
        out.join("version.rs"),
        format!(
            "/// Version of the headers that this was built with; a host's `pj_get_version()` must say the same.\n\
             pub const PJPROJECT_VERSION: &str = {:?};\n",
            found.version
        ),
    )?;
    Ok(split(&inline, out)?)
}

/// PJMEDIA's inline functions in a file of their own: they call others of PJMEDIA's, and a host that has PJSIP without
/// media could not be linked with the object file that they are in.
fn split(inline: &Path, out: &Path) -> std::io::Result<[PathBuf; 2]> {
    let text = fs::read_to_string(inline)?;
    let of_media = |line: &&str| line.contains("pjmedia_") || line.contains("PJMEDIA_");
    let (media, other): (Vec<_>, Vec<_>) = text.lines().partition(of_media);
    let includes = other.iter().filter(|line| line.starts_with("#include")).copied();
    let media: Vec<_> = includes.chain(media).collect();
    let files = ["inline_pjsip.c", "inline_pjmedia.c"].map(|name| out.join(name));
    fs::write(&files[0], other.join("\n"))?;
    fs::write(&files[1], media.join("\n"))?;
    Ok(files)
}

/// Names of all status codes; one list of them in PJSIP's headers is enough.
fn statuses(found: &Pjproject) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut names = BTreeSet::new();
    for header in STATUS_HEADERS {
        let file = found.include.iter().map(|dir| dir.join(header)).find(|file| file.exists());
        let text = fs::read_to_string(file.ok_or_else(|| format!("PJSIP's headers lack {header}"))?)?;
        names.extend(text.lines().filter_map(status).map(str::to_owned));
    }
    Ok(names)
}

/// `PJ_EPENDING` of `#define PJ_EPENDING (PJ_ERRNO_START_STATUS + 2)`; not where numbers start, and nothing with arguments.
fn status(line: &str) -> Option<&str> {
    let mut words = line.strip_prefix('#')?.split_whitespace();
    let name = (words.next() == Some("define")).then(|| words.next())??;
    words.next()?;
    let (library, code) = name.split_once("_E")?;
    let is_status = library.starts_with("PJ") && !code.starts_with("RR") && !name.contains('(');
    is_status.then_some(name)
}

/// Gives the constants the names of their macros, whose own value bindgen then must not take.
#[derive(Debug)]
struct Names {
    statuses: BTreeSet<String>,
}

impl ParseCallbacks for Names {
    fn will_parse_macro(&self, name: &str) -> MacroParsingBehavior {
        if self.statuses.contains(name) || TYPED.iter().any(|(_, typed)| *typed == name) {
            MacroParsingBehavior::Ignore
        } else {
            MacroParsingBehavior::Default
        }
    }

    fn item_name(&self, item: ItemInfo<'_>) -> Option<String> {
        item.name.strip_prefix(PREFIX).map(str::to_owned)
    }
}

/// A header that is older than what was made of it keeps tools content.
fn write_if_changed(file: &Path, text: &str) -> std::io::Result<()> {
    if fs::read_to_string(file).is_ok_and(|old| old == text) { Ok(()) } else { fs::write(file, text) }
}

fn path(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{}: libclang wants paths in UTF-8", path.display()))
}
